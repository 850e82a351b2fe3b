"""JSON in and out: what is read and written, and what is said of the rest."""

import unittest
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Dict, List, Literal, Optional

from wabbit_sdk import BodyError, Delivery, Publication, json_text


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Item:
    product: str
    price: float


@dataclass
class Order:
    id: int
    items: List[Item] = field(default_factory=list)
    note: Optional[str] = None
    size: Size = Size.SMALL
    paid: bool = False
    channel: Literal["web", "shop", 1] = "web"
    tags: Dict[str, int] = field(default_factory=dict)
    parent: Optional["Order"] = None
    anything: Any = None


@dataclass
class Positive:
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("`count` must be at least 1")


class Reading(unittest.TestCase):
    def test_values(self) -> None:
        for body, expected in [
            ('{"a": [1, 2.5, "x", true, null]}', {"a": [1, 2.5, "x", True, None]}),
            ("9223372036854775808", 2**63),
            ('"hällo \\ud83d\\ude00"', "hällo 😀"),
            ("[" * 200 + "]" * 200, None),
            ('{"brackets": "' + "[" * 500 + '"}', {"brackets": "[" * 500}),
            ("[" + ",".join(["[[]]"] * 500) + "]", [[[]]] * 500),
            ("[" + ",".join(['"]"'] * 500) + "]", ["]"] * 500),
            ('["\\"",' + ",".join(['"[\\\\"'] * 500) + "]", ['"'] + ["[\\"] * 500),
        ]:
            value = Delivery(body).json()
            if expected is not None:
                self.assertEqual(value, expected, body[:50])

    def test_malformed(self) -> None:
        for body, expected in [
            (b"", "Expecting value: line 1 column 1 (char 0)"),
            (b'{"a": 1', "Expecting ',' delimiter: line 1 column 8 (char 7)"),
            (b"[1] 2", "Extra data: line 1 column 5 (char 4)"),
            (b"NaN", "`NaN` is not JSON"),
            (b"[-Infinity]", "`-Infinity` is not JSON"),
            (b'"\xff"', "invalid start byte at byte 1"),
            ('"a"'.encode("utf-16"), "invalid start byte at byte 0"),
            (b'"\\ud800"', "a lone surrogate"),
            (b"[" * 201 + b"]" * 201, "nested more than 200 levels deep"),
            (b'["]",' * 201 + b"1" + b"]" * 201, "nested more than 200 levels deep"),
            (b"[" * 100_000, "nested more than 200 levels deep"),
            (b'[{"a": "]]]]"},' * 300 + b'{"a":' * 100_000, "nested more than 200 levels deep"),
        ]:
            with self.assertRaises(BodyError) as raised:
                Delivery(body).json()
            self.assertEqual(raised.exception.reason, f"the body is not the JSON expected: {expected}")

    def test_an_endless_number_is_refused_with_a_bounded_text(self) -> None:
        with self.assertRaises(BodyError) as raised:
            Delivery("1" * 10_000).json()
        self.assertLess(len(raised.exception.reason), 300)

    def test_dataclasses(self) -> None:
        body = """{"id": 7, "items": [{"product": "hay", "price": 2}], "note": null, "size": "large", "channel": 1,
            "tags": {"a": 1}, "parent": {"id": 6}, "unknown": 1, "anything": [1]}"""
        self.assertEqual(
            Delivery(body).json(Order),
            Order(7, [Item("hay", 2.0)], None, Size.LARGE, False, 1, {"a": 1}, Order(6), [1]),
        )
        self.assertEqual(Delivery("[1, 2]").json(List[int]), [1, 2])
        self.assertEqual(Delivery("[1, 2]").json(list), [1, 2])
        self.assertEqual(Delivery("7").json(int), 7)

    def test_mismatches(self) -> None:
        for shape, body, expected in [
            (Order, "{}", "missing field `id`"),
            (Order, "[7]", "expected an object, not a list"),
            (Order, '{"id": "7"}', "at `id`: expected a whole number, not '7'"),
            (Order, '{"id": 7.0}', "at `id`: expected a whole number, not 7.0"),
            (Order, '{"id": true}', "at `id`: expected a whole number, not True"),
            (Order, '{"id": 1, "id": 2}', "field `id` is there twice"),
            (Order, '{"id": 1, "paid": 1}', "at `paid`: expected true or false, not 1"),
            (Order, '{"id": 1, "note": 1}', "at `note`: expected a text or null, not 1"),
            (Order, '{"id": 1, "size": "huge"}', "at `size`: expected small or large, not 'huge'"),
            (Order, '{"id": 1, "channel": true}', "at `channel`: expected web or shop or 1, not True"),
            (Order, '{"id": 1, "tags": {"a": "b"}}', "at `tags.a`: expected a whole number, not 'b'"),
            (
                Order,
                '{"id": 1, "items": [{"product": "hay", "price": 1}, {"product": "hay"}]}',
                "at `items[1]`: missing field `price`",
            ),
            (
                Order,
                '{"id": 1, "items": [{"product": "hay", "price": null}]}',
                "at `items[0].price`: expected a number, not null",
            ),
            (List[Item], '[{"product": "hay", "price": 1e999}]', "at `[0].price`: expected a number, not inf"),
            (Positive, '{"count": 0}', "`count` must be at least 1"),
            (str, '"' + "x" * 60 + '" 1', "Extra data: line 1 column 64 (char 63)"),
            (int, '"' + "x" * 60 + '"', f"expected a whole number, not '{'x' * 50}'…"),
        ]:
            with self.assertRaises(BodyError) as raised:
                Delivery(body).json(shape)
            self.assertEqual(raised.exception.reason, f"the body is not the JSON expected: {expected}")

    def test_a_type_without_json_is_a_bug_of_the_handler(self) -> None:
        with self.assertRaisesRegex(TypeError, "`bytes` cannot be read from JSON"):
            Delivery('"a"').json(bytes)


class Writing(unittest.TestCase):
    def test_values(self) -> None:
        for value, expected in [
            ({"name": "Adä", "n": [1, 1.5, True, None]}, '{"name":"Adä","n":[1,1.5,true,null]}'),
            ('"\\/\b\f\n\r\t\x00\x1f\x7f', '"\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f"'),
            ([Item("hay", 2.5)], '[{"product":"hay","price":2.5}]'),
        ]:
            self.assertEqual(json_text.write(value), expected.encode())

    def test_what_has_no_json(self) -> None:
        for value, error in [
            (float("nan"), ValueError),
            ("\ud800", UnicodeEncodeError),
            (b"bytes", TypeError),
            (Item, TypeError),
        ]:
            with self.assertRaises(error):
                json_text.write(value)

    def test_a_publication(self) -> None:
        expected = Publication("mail", "new", b"[1,2]", content_type="application/json", persistent=True)
        self.assertEqual(Publication.json("mail", "new", [1, 2], persistent=True), expected)
        self.assertEqual(Publication.json("", "", 1, content_type="x").properties.content_type, "x")
