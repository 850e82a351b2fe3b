"""HTTP requests, to the origins that the manifest's `[grant] http` lists.

    from wabbit_sdk import Delivery, Outcome, http


    def handle(delivery: Delivery) -> Outcome:
        rate = http.get("https://rates.example.com/usd").success().json()
        bill = {"euro": delivery.json()["usd"] * rate["euro"]}
        http.post("https://bills.example.com/bills", json=bill, timeout=2).success()
        return Outcome.ack()

A request takes place at once, not with the settlement: a delivery that is tried again sends it again. Redirects are not
followed; the response says where it points to in its header `location`.

Outside a host, in a handler's own tests, `answer` says what comes back.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload

from . import json_text
from .errors import BodyError

if TYPE_CHECKING:
    from typing_extensions import Unpack

if sys.platform == "wasi":
    from . import http_host

T = TypeVar("T")
Headers = list[tuple[str, str]]

# How much of a body goes into an error.
SHOWN_CHARS_MAX = 200

# Scheme, authority, path with query. A fragment is for whoever shows the page.
URL = re.compile(r"(https?)://([!\"$-.0->@-~]+)([/?][!-\"$-~]*)?(?:#.*)?", re.IGNORECASE | re.DOTALL)

# What a URL's query holds as it is.
UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


# Why there is no response, or not the one that was wanted:
# - `not-granted`: the manifest does not list the origin, or its address is of a network that it does not list.
# - `request`: the request has no form that could be sent.
# - `connection`: the server cannot be found or reached.
# - `timeout`: somebody took too long.
# - `too-large`: the body of the request or of the response is larger than the host allows.
# - `status`: it is none of 200 to 299, and `success` was asked for.
# - `body`: it is not what the handler reads.
ErrorKind = Literal["not-granted", "request", "connection", "timeout", "too-large", "status", "body", "other"]


class Error(Exception):
    """There is no response, or not the one that was wanted; the text says why. Left alone, it is a failure of the
    delivery, which the manifest lets try again."""

    def __init__(self, kind: ErrorKind, text: str, response: Response | None = None) -> None:
        super().__init__(text)
        # For the handler to act upon.
        self.kind = kind
        # With `status` and `body`.
        self.response = response


@dataclass(slots=True)
class Message:
    """What requests and responses have in common."""

    headers: Headers = field(default_factory=list, kw_only=True)
    body: bytes = field(default=b"", kw_only=True)

    @overload
    def header(self, name: str) -> str | None: ...
    @overload
    def header(self, name: str, default: T) -> str | T: ...

    def header(self, name: str, default: Any = None) -> Any:
        """The first header of that name, in whatever case, or the default where there is none."""
        name = name.lower()
        return next((value for known, value in self.headers if known.lower() == name), default)


@dataclass(slots=True)
class Request(Message):
    """What is sent."""

    # Such as `GET`.
    method: str
    url: str
    # Seconds.
    timeout: float | timedelta | None = None


@dataclass(init=False, slots=True)
class Response(Message):
    """What came back. The names of its headers are in lower case.

    Tests make their own: `Response(200, '{"euro": 0.9}', {"content-type": "application/json"})`.
    """

    # Such as 200.
    status: int

    def __init__(
        self, status: int, body: bytes | str = b"", headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    ) -> None:
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.headers = [(name.lower(), value) for name, value in _pairs(headers)]

    @property
    def is_success(self) -> bool:
        """Whether the status is one of 200 to 299."""
        return 200 <= self.status < 300

    def success(self) -> Response:
        """The response itself where its status is one of 200 to 299; otherwise an Error, with the status and the
        beginning of the body."""
        if self.is_success:
            return self
        text = self.body[: 4 * SHOWN_CHARS_MAX].decode(errors="replace").strip()[:SHOWN_CHARS_MAX]
        raise Error("status", f"the server answered {self.status}{': ' if text else ''}{text}", self)

    def text(self) -> str:
        """The body as UTF-8. An Error where it is not."""
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise Error("body", f"the response is not UTF-8 text: {error.reason} at byte {error.start}", self) from None

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, into: type[T]) -> T: ...

    def json(self, into: Any = None) -> Any:
        """The body, read as JSON, as `Delivery.json` does it. An Error where it is not the JSON expected."""
        try:
            return json_text.read(self.body) if into is None else json_text.read_into(into, self.body)
        except BodyError as error:
            raise Error("body", error.reason.replace("the body", "the response", 1), self) from None


class RequestArguments(TypedDict, total=False):
    """What may be said of a request by keywords."""

    # A text is sent as UTF-8, with its content type.
    body: bytes | str
    # Sent as the body, with its content type. It may hold dataclasses.
    json: Any
    # Added to the URL's query, whatever signs are in it.
    query: Mapping[str, str | int]
    # `host`, and what concerns the connection, is the host's to say.
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    # How many seconds each of connecting, waiting for the response and waiting for its next part may take. The host has
    # limits of its own, and the delivery's time bounds it all.
    timeout: float | timedelta | None


def get(url: str, **more: Unpack[RequestArguments]) -> Response:
    """Sends a `GET`; see `request`."""
    return request("GET", url, **more)


def post(url: str, **more: Unpack[RequestArguments]) -> Response:
    """Sends a `POST`; see `request`."""
    return request("POST", url, **more)


def put(url: str, **more: Unpack[RequestArguments]) -> Response:
    """Sends a `PUT`; see `request`."""
    return request("PUT", url, **more)


def patch(url: str, **more: Unpack[RequestArguments]) -> Response:
    """Sends a `PATCH`; see `request`."""
    return request("PATCH", url, **more)


def delete(url: str, **more: Unpack[RequestArguments]) -> Response:
    """Sends a `DELETE`; see `request`."""
    return request("DELETE", url, **more)


def request(method: str, url: str, **more: Unpack[RequestArguments]) -> Response:
    """Sends a request to `https://HOST/PATH?QUERY`, or `http://…`, and waits for the whole response, whatever its
    status. The keywords are those of RequestArguments.

    An Error where there is no response: it is not granted, nobody answers in time, or it is larger than the host
    allows.
    """
    asked = _request(method, url, **more)
    parts(asked.url)
    if sys.platform == "wasi":
        return http_host.send(asked)
    if _answering is None:
        raise Error("connection", "nobody answers: a test says how, by `http.answer`")
    return _answering(asked)


def _request(
    method: str,
    url: str,
    *,
    body: bytes | str = b"",
    json: Any = None,
    query: Mapping[str, str | int] | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    timeout: float | timedelta | None = None,
) -> Request:
    made = Request(method, url, timeout, headers=_pairs(headers))
    content_type = None
    if json is not None:
        if body:
            raise TypeError("a request has a `body` or a `json`, not both")
        body, content_type = json_text.write(json), "application/json"
    elif isinstance(body, str):
        body, content_type = body.encode(), "text/plain; charset=utf-8"
    made.body = bytes(body)
    if content_type and made.header("content-type") is None:
        made.headers.append(("content-type", content_type))
    for name, value in (query or {}).items():
        made.url += f"{'&' if '?' in made.url else '?'}{_escaped(name)}={_escaped(str(value))}"
    return made


def parts(url: str) -> tuple[str, str, str]:
    """Scheme, authority, and path with query. An Error where it is no URL of HTTP."""
    found = URL.fullmatch(url)
    if found is None:
        raise malformed("its URL")
    path = found[3] or "/"
    return found[1].lower(), found[2], path if path[0] == "/" else f"/{path}"


def malformed(what: str) -> Error:
    return Error("request", f"the request cannot be sent for {what}")


def _pairs(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> Headers:
    return list(headers.items()) if isinstance(headers, Mapping) else list(headers)


def _escaped(text: str) -> str:
    return "".join(chr(byte) if byte in UNRESERVED else f"%{byte:02X}" for byte in text.encode())


_answering: Callable[[Request], Response] | None = None


@contextmanager
def answer(answering: Callable[[Request], Response]) -> Iterator[None]:
    """In a handler's own tests: that function answers the requests, as long as the `with` lasts. It may raise an
    Error."""
    global _answering
    before, _answering = _answering, answering
    try:
        yield
    finally:
        _answering = before
