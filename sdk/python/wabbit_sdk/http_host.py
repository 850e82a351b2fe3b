"""Requests by way of `wasi:http`."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from io import BytesIO
from typing import Any

from componentize_py_types import Err, Ok
from wit_world.imports import http_handler, io_streams
from wit_world.imports import http_types as wit

from . import http
from .errors import whole_ms

# How much is read or written at once.
CHUNK_BYTES = 64 * 1024

METHODS = {
    "GET": wit.Method_Get,
    "HEAD": wit.Method_Head,
    "POST": wit.Method_Post,
    "PUT": wit.Method_Put,
    "DELETE": wit.Method_Delete,
    "OPTIONS": wit.Method_Options,
    "PATCH": wit.Method_Patch,
}

KINDS: dict[type, http.ErrorKind] = {
    wit.ErrorCode_HttpRequestDenied: "not-granted",
    wit.ErrorCode_DestinationIpProhibited: "not-granted",
    wit.ErrorCode_HttpRequestUriInvalid: "request",
    wit.ErrorCode_HttpRequestMethodInvalid: "request",
    wit.ErrorCode_HttpRequestLengthRequired: "request",
    wit.ErrorCode_DnsTimeout: "timeout",
    wit.ErrorCode_ConnectionTimeout: "timeout",
    wit.ErrorCode_ConnectionReadTimeout: "timeout",
    wit.ErrorCode_ConnectionWriteTimeout: "timeout",
    wit.ErrorCode_HttpResponseTimeout: "timeout",
    wit.ErrorCode_HttpRequestBodySize: "too-large",
    wit.ErrorCode_HttpResponseBodySize: "too-large",
    wit.ErrorCode_HttpResponseHeaderSectionSize: "too-large",
    wit.ErrorCode_DnsError: "connection",
    wit.ErrorCode_DestinationNotFound: "connection",
    wit.ErrorCode_DestinationUnavailable: "connection",
    wit.ErrorCode_ConnectionRefused: "connection",
    wit.ErrorCode_ConnectionTerminated: "connection",
    wit.ErrorCode_ConnectionLimitReached: "connection",
    wit.ErrorCode_TlsProtocolError: "connection",
    wit.ErrorCode_TlsCertificateError: "connection",
    wit.ErrorCode_TlsAlertReceived: "connection",
}

TEXTS: dict[type, str] = {
    wit.ErrorCode_HttpRequestDenied: "not granted by the manifest's `[grant] http`",
    wit.ErrorCode_DestinationIpProhibited: (
        "its address is of a network that the manifest's `[grant] http` does not name"
    ),
}


def send(request: http.Request) -> http.Response:
    # What belongs to another is dropped before it.
    with ExitStack() as held:
        try:
            return exchange(request, held)
        except http.Error as error:
            # Without path and query, which may hold what is nobody's business.
            scheme, authority, _ = http.parts(request.url)
            raise http.Error(error.kind, f"{request.method} {scheme}://{authority}: {error}") from None


def exchange(request: http.Request, held: ExitStack) -> http.Response:
    outgoing = outgoing_request(request)
    options = request_options(request)
    body = outgoing.body() if request.body else None
    try:
        coming = held.enter_context(http_handler.handle(outgoing, options))
    except Err as error:
        raise failed(error.value) from None
    if body:
        write(body, request.body)
    with coming.subscribe() as ready:
        ready.block()
    match coming.get():
        case Ok(Ok(response)):
            return read(held.enter_context(response), held)
        case Ok(Err(code)):
            raise failed(code)
    raise http.Error("other", "there is no response")


def outgoing_request(request: http.Request) -> wit.OutgoingRequest:
    scheme, authority, path = http.parts(request.url)
    headers = wit.Fields()
    for name, value in request.headers:
        try:
            headers.append(name, value.encode())
        except (Err, AttributeError, TypeError, UnicodeEncodeError):
            raise http.malformed(f"its header `{name}`") from None
    if request.body and not headers.has("content-length"):
        headers.append("content-length", str(len(request.body)).encode())
    outgoing = wit.OutgoingRequest(headers)
    method = METHODS.get(request.method)
    for what, set_it, value in (
        ("method", outgoing.set_method, method() if method else wit.Method_Other(request.method)),
        ("scheme", outgoing.set_scheme, wit.Scheme_Https() if scheme == "https" else wit.Scheme_Http()),
        ("host", outgoing.set_authority, authority),
        ("path", outgoing.set_path_with_query, path),
    ):
        try:
            set_it(value)
        except Err:
            raise http.malformed(f"its {what}") from None
    return outgoing


def request_options(request: http.Request) -> wit.RequestOptions | None:
    if request.timeout is None:
        return None
    options = wit.RequestOptions()
    nanos = whole_ms(request.timeout) * 1_000_000
    options.set_connect_timeout(nanos)
    options.set_first_byte_timeout(nanos)
    options.set_between_bytes_timeout(nanos)
    return options


def write(body: wit.OutgoingBody, data: bytes) -> None:
    try:
        with body.write() as stream, stream.subscribe() as ready:
            written = 0
            while written < len(data):
                ready.block()
                size = min(stream.check_write(), CHUNK_BYTES)
                stream.write(data[written : written + size])
                written += size
        wit.OutgoingBody.finish(body, None)
    except Err:
        # A server that does not read on may have answered all the same.
        pass


def read(response: wit.IncomingResponse, held: ExitStack) -> http.Response:
    with response.headers() as fields:
        headers = [(name, value.decode(errors="replace")) for name, value in fields.entries()]
    # Unlike a list of parts, this is no second copy of the whole.
    whole = BytesIO()
    stream = held.enter_context(held.enter_context(response.consume()).stream())
    try:
        while True:
            whole.write(stream.blocking_read(CHUNK_BYTES))
    except Err as error:
        if not isinstance(error.value, io_streams.StreamError_Closed):
            with error.value.value as failure:
                code = wit.http_error_code(failure)
                raise (failed(code) if code else http.Error("other", failure.to_debug_string())) from None
    return http.Response(response.status(), whole.getvalue(), headers)


def failed(code: wit.ErrorCode) -> http.Error:
    return http.Error(KINDS.get(type(code), "other"), TEXTS.get(type(code)) or words(code))


def words(code: Any) -> str:
    """`ErrorCode_ConnectionTimeout` as `connection timeout`, and what it carries behind it."""
    name = type(code).__name__.removeprefix("ErrorCode_")
    carried = getattr(code, "value", None)
    if is_dataclass(carried):
        parts = ((field.name.replace("_", " "), getattr(carried, field.name)) for field in fields(carried))
        carried = ", ".join(f"{name} {value}" for name, value in parts if value is not None)
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower() + ("" if carried in (None, "") else f": {carried}")
