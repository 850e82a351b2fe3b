"""What a handler reaches outside, as its own tests have it."""

import unittest
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from wabbit_sdk import config, http, keyvalue


class Settings(unittest.TestCase):
    def test_a_test_provides_them(self) -> None:
        self.assertEqual((config.get("from"), config.get("from", "nobody"), config.all()), (None, "nobody", {}))
        with config.provide({"from": "a@b"}):
            with config.provide({"token": "hunter2"}):
                self.assertEqual(config.all(), {"from": "a@b", "token": "hunter2"})
            self.assertEqual((config.require("from"), config.get("token")), ("a@b", None))
        with self.assertRaises(LookupError) as raised:
            config.require("from")
        self.assertEqual(str(raised.exception), "the manifest grants no value `from`")

    def test_a_secret_does_not_show_itself(self) -> None:
        with config.provide({"token": "hunter2"}):
            token = config.secret("token")
        self.assertEqual((f"{token} {token!r} {[token]}", token.expose()), ("*** *** [***]", "hunter2"))


class Stores(unittest.TestCase):
    def test_a_test_provides_one(self) -> None:
        self.fails("the manifest grants no such store", keyvalue.open, "orders")
        with keyvalue.provide("orders") as orders:
            self.assertEqual((orders.increment("a"), orders.increment("a", 4)), (1, 5))
            orders.set("b", "text")
            orders.set("c", bytearray(b"\xff"))
            opened = keyvalue.open()
            self.assertEqual((opened.get("a"), opened.text("b"), opened.get("c")), (b"5", "text", b"\xff"))
            self.assertEqual((opened.get("d"), opened.text("d"), opened.keys()), (None, None, ["a", "b", "c"]))
            opened.delete("b")
            opened.delete("b")
            self.assertEqual((opened.exists("a"), opened.exists("b")), (True, False))
            self.fails("the value of `c` is not a whole number", opened.increment, "c")
            self.fails("the value of `c` is not UTF-8 text: invalid start byte at byte 0", opened.text, "c")
            self.fails("`a` would be too large", opened.increment, "a", keyvalue.U64_MAX)
        self.fails("the manifest grants no such store", keyvalue.open)

    def test_what_a_store_cannot_hold(self) -> None:
        with keyvalue.provide("orders") as orders:
            for ask, arguments in [
                (orders.increment, ("a", -1)),
                (orders.increment, ("a", 2**64)),
                (orders.increment, ("a", "1")),
                (orders.set, ("a", 7)),
                (orders.set, ("\ud800", b"")),
                (orders.get, (7,)),
            ]:
                with self.assertRaises((TypeError, ValueError, AttributeError)):
                    ask(*arguments)
            self.assertEqual(orders.keys(), [])

    def fails(self, expected: str, ask: Any, *arguments: Any) -> None:
        with self.assertRaises(keyvalue.Error) as raised:
            ask(*arguments)
        self.assertEqual(str(raised.exception), expected)


@dataclass
class Rate:
    euro: float


class Requests(unittest.TestCase):
    def sent(self, method: str, url: str = "https://a.example/b", **more: Any) -> http.Request:
        requests: list[http.Request] = []

        def answer(request: http.Request) -> http.Response:
            requests.append(request)
            return http.Response(200)

        with http.answer(answer):
            http.request(method, url, **more)
        return requests[0]

    def test_bodies_have_types(self) -> None:
        for more, body, content_type in [
            ({}, b"", None),
            ({"body": b"\xff"}, b"\xff", None),
            ({"body": "ä"}, "ä".encode(), "text/plain; charset=utf-8"),
            ({"json": Rate(0.5)}, b'{"euro":0.5}', "application/json"),
            ({"json": [], "headers": {"Content-Type": "a/b"}}, b"[]", "a/b"),
        ]:
            request = self.sent("POST", **more)
            self.assertEqual((request.body, request.header("content-type")), (body, content_type))
        with self.assertRaises(TypeError):
            self.sent("POST", body=b"a", json=1)

    def test_queries_are_escaped(self) -> None:
        for url, expected in [("https://a.example/b", "?"), ("https://a.example/b?c", "&")]:
            query = {"q": "a b&c=ü", "n": 1}
            self.assertEqual(self.sent("GET", url, query=query).url, f"{url}{expected}q=a%20b%26c%3D%C3%BC&n=1")

    def test_each_method_has_a_function(self) -> None:
        with http.answer(lambda request: http.Response(200, request.method)):
            for send, method in [
                (http.get, "GET"),
                (http.post, "POST"),
                (http.put, "PUT"),
                (http.patch, "PATCH"),
                (http.delete, "DELETE"),
            ]:
                self.assertEqual(send("https://a.example/", timeout=timedelta(seconds=1)).text(), method)

    def test_urls_have_parts(self) -> None:
        for url, expected in [
            ("https://a.example/b?c#d", ("https", "a.example", "/b?c")),
            ("HTTP://a.example:80", ("http", "a.example:80", "/")),
            ("http://[::1]:80?a=/", ("http", "[::1]:80", "/?a=/")),
            ("https://a.example#/b", ("https", "a.example", "/")),
        ]:
            self.assertEqual(http.parts(url), expected)
        for url in ["a.example/b", "https:///b", "ftp://a.example/", "https://a.example/ b", "https://ä.example/", ""]:
            self.fails("request", "the request cannot be sent for its URL", http.get, url)

    def test_responses(self) -> None:
        response = http.Response(201, '{"euro": 0.5}', {"X-Seen": "yes"})
        self.assertEqual((response.header("x-SEEN"), response.header("other", "no")), ("yes", "no"))
        self.assertEqual((response.success(), response.json()), (response, {"euro": 0.5}))
        self.assertEqual(response.json(Rate), Rate(0.5))
        expected = "the response is not the JSON expected: expected a list, not an object"
        self.fails("body", expected, response.json, list[Rate])
        expected = "the response is not UTF-8 text: invalid start byte at byte 0"
        self.fails("body", expected, http.Response(200, b"\xff").text)
        self.fails("status", "the server answered 503: try later", http.Response(503, " try later ").success)
        self.fails("status", "the server answered 302", http.Response(302).success)

    def test_nobody_answers_but_the_test(self) -> None:
        self.fails("connection", "nobody answers: a test says how, by `http.answer`", http.get, "https://a.example")

        def refuse(request: http.Request) -> http.Response:
            raise http.Error("timeout", "too slow")

        with http.answer(refuse):
            self.fails("timeout", "too slow", http.get, "https://a.example")

    def fails(self, kind: http.ErrorKind, expected: str, ask: Any, *arguments: Any) -> None:
        with self.assertRaises(http.Error) as raised:
            ask(*arguments)
        self.assertEqual((raised.exception.kind, str(raised.exception)), (kind, expected))
