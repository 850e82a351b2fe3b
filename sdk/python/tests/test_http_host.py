"""Requests by way of `wasi:http`, with a stand-in for what componentize-py generates from it."""

import importlib
import re
import sys
import unittest
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from wabbit_sdk import http

WIT = Path(__file__).parent.parent.parent / "wit/deps/http.wit"


@dataclass
class Ok:
    value: Any


@dataclass
class Err(Exception):
    value: Any


class Resource:
    """Is dropped once, after all that it has lent."""

    def __init__(self, owner: "Resource | None" = None) -> None:
        self.owner, self.lent, self.dropped = owner, 0, False
        if owner:
            owner.lent += 1

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.lent == 0 and not self.dropped
        self.dropped = True
        if self.owner:
            self.owner.lent -= 1


class Fields(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[tuple[str, bytes]] = []

    def append(self, name: str, value: bytes) -> None:
        if name == "host":
            raise Err("forbidden")
        self.values.append((name, value))

    def has(self, name: str) -> bool:
        return name in dict(self.values)

    def entries(self) -> list[tuple[str, bytes]]:
        return self.values


class Outgoing(Resource):
    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self.fields, self.data, self.finished = fields, b"", False
        self.said: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        return lambda value: self.said.update({name.removeprefix("set_"): value})

    def body(self) -> Any:
        return self

    def write(self) -> Any:
        stream = Resource(self)
        stream.subscribe = lambda: Pollable(stream)
        stream.check_write = lambda: 3
        stream.write = self.written
        return stream

    def written(self, data: bytes) -> None:
        self.data += data


class Pollable(Resource):
    def block(self) -> None:
        pass


class Incoming(Resource):
    """The response, its future, its body and the stream of it."""

    def __init__(self, *, code: Any = None, parts: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self.code, self.parts = code, list(parts)

    def subscribe(self) -> Pollable:
        return Pollable(self)

    def get(self) -> Any:
        return Ok(Err(self.code) if self.code else Ok(self))

    def __exit__(self, *_: object) -> None:
        self.dropped = True

    def headers(self) -> Fields:
        fields = Fields()
        fields.append("x-answer", b"\xff")
        return fields

    def status(self) -> int:
        return 200

    def consume(self) -> Any:
        return self

    stream = consume

    def blocking_read(self, length: int) -> bytes:
        part = self.parts.pop(0)
        if isinstance(part, bytes):
            return part
        raise Err(part)


def module(name: str, **members: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made


def pascal(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def variants(name: str) -> dict[str, bool]:
    """The cases of a variant of the contract, and whether they carry something."""
    text = re.search(rf"variant {name} {{(.*?)\n  }}", WIT.read_text(), re.DOTALL)[1]
    return {case: bool(carried) for case, carried in re.findall(r"^ +([\w-]+)(\(.*\))?,", text, re.MULTILINE)}


def made(variant: str) -> dict[str, Any]:
    names = {f"{pascal(variant)}_{pascal(case)}": carried for case, carried in variants(variant).items()}
    return {name: make_dataclass(name, ["value"] if carried else []) for name, carried in names.items()}


class Requests(unittest.TestCase):
    def setUp(self) -> None:
        self.answer: Any = None
        self.sent: list[tuple[Outgoing, Any]] = []
        closed = make_dataclass("StreamError_Closed", [])
        failed = make_dataclass("StreamError_LastOperationFailed", ["value"])
        finish = mock.Mock(finish=lambda body, trailers: setattr(body, "finished", body.lent == 0))
        self.wit = module(
            "http_types",
            **made("method") | made("scheme") | made("error-code"),
            Fields=Fields,
            OutgoingRequest=Outgoing,
            OutgoingBody=finish,
            RequestOptions=lambda: Outgoing(Fields()),
            http_error_code=lambda error: error.code,
        )
        self.closed, self.failed = closed(), failed
        made_by_compiler = {
            "http_types": self.wit,
            "http_handler": module("http_handler", handle=self.handle),
            "io_streams": module("io_streams", StreamError_Closed=closed, StreamError_LastOperationFailed=failed),
        }
        imports = importlib.import_module("wit_world.imports")
        results = {"componentize_py_types": module("componentize_py_types", Ok=Ok, Err=Err)}
        for patched in (
            mock.patch.dict(sys.modules, results),
            mock.patch.multiple(imports, **made_by_compiler, create=True),
        ):
            patched.start()
            self.addCleanup(patched.stop)
        self.host = importlib.import_module("wabbit_sdk.http_host")
        self.addCleanup(sys.modules.pop, "wabbit_sdk.http_host", None)

    def handle(self, request: Outgoing, options: Any) -> Any:
        self.sent.append((request, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def test_a_request_is_sent_and_its_response_read(self) -> None:
        self.answer = Incoming(parts=(b"ab", b"", b"c", self.closed))
        asked = http.Request("POST", "https://a.example/b?c#d", 2, headers=[("x-test", "ä")], body=b"abcdefgh")
        self.assertEqual(self.host.send(asked), http.Response(200, b"abc", [("x-answer", "\ufffd")]))
        [(request, options)] = self.sent
        said = {"authority": "a.example", "path_with_query": "/b?c"}
        said |= {"method": self.wit.Method_Post(), "scheme": self.wit.Scheme_Https()}
        self.assertEqual(request.said, said)
        self.assertEqual(request.fields.values, [("x-test", "ä".encode()), ("content-length", b"8")])
        self.assertEqual((request.data, request.finished), (b"abcdefgh", True))
        self.assertEqual(set(options.said.values()), {2_000_000_000})
        self.assertEqual(len(options.said), 3)

    def test_what_went_wrong_is_told(self) -> None:
        wit, place = self.wit, "GET http://a.example: "
        denied, large = wit.ErrorCode_HttpRequestDenied(), wit.ErrorCode_HttpResponseBodySize(7)
        broken = Incoming(parts=(b"a", self.failed(Incoming(code=large))))
        payload = make_dataclass("DnsErrorPayload", ["rcode", "info_code"])
        for answer, kind, text in [
            (Err(denied), "not-granted", f"{place}not granted by the manifest's `[grant] http`"),
            (Incoming(code=wit.ErrorCode_ConnectionReadTimeout()), "timeout", f"{place}connection read timeout"),
            (Incoming(code=wit.ErrorCode_InternalError("odd")), "other", f"{place}internal error: odd"),
            (Incoming(code=wit.ErrorCode_InternalError(None)), "other", f"{place}internal error"),
            (Incoming(code=wit.ErrorCode_DnsError(payload("x", None))), "connection", f"{place}dns error: rcode x"),
            (broken, "too-large", f"{place}http response body size: 7"),
        ]:
            self.answer = answer
            self.fails(kind, text, http.Request("GET", "http://a.example/secret?token=1"))
        host = http.Request("GET", "http://a.example/", headers=[("host", "evil")])
        self.fails("request", f"{place}the request cannot be sent for its header `host`", host)

    def test_each_error_has_words(self) -> None:
        for case, carries in variants("error-code").items():
            code = vars(self.wit)[f"ErrorCode_{pascal(case)}"](*[None] * carries)
            self.assertEqual(self.host.words(code), case.replace("-", " ").lower())
            self.assertNotEqual(str(self.host.failed(code)), "")

    def fails(self, kind: str, text: str, request: http.Request) -> None:
        with self.assertRaises(http.Error) as raised:
            self.host.send(request)
        self.assertEqual((raised.exception.kind, str(raised.exception)), (kind, text))
