"""From and to the types of the contract, nothing lost and nothing passed on that they cannot hold."""

import math
import unittest
from datetime import datetime, timezone
from enum import IntEnum
from typing import Any

from wit_world.imports import types as wit

from wabbit_sdk import Delivery, Json, Outcome, Properties, Publication, Timestamp, contract
from wabbit_sdk.answer import Failure


class Level(IntEnum):
    HIGH = 3


def properties(**some: Any) -> Any:
    absent = {"headers": [], "persistent": False}
    return wit.Properties(**{**dict.fromkeys(wit.PROPERTIES.split()), **absent, **some})


ALL = {
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "persistent": True,
    "priority": 255,
    "correlation_id": "",
    "reply_to": "r",
    "expiration_ms": 2**32 - 1,
    "message_id": "m",
    "timestamp": 2**64 - 1,
    "kind": "k",
    "user_id": "u",
    "app_id": "ä😀",
}

FIELDS = [
    (wit.Field_Boolean(True), True),
    (wit.Field_Integer(2**63 - 1), 2**63 - 1),
    (wit.Field_Integer(-(2**63)), -(2**63)),
    (wit.Field_Integer(1), 1),
    (wit.Field_Float(1.0), 1.0),
    (wit.Field_Float(-math.inf), -math.inf),
    (wit.Field_Text(""), ""),
    (wit.Field_Text("ключ"), "ключ"),
    (wit.Field_Binary(b"\xff\x00"), b"\xff\x00"),
    (wit.Field_Timestamp(2**64 - 1), Timestamp(2**64 - 1)),
    (wit.Field_Json('{"a": 1.50}'), Json('{"a": 1.50}')),
    (wit.Field_Void(), None),
]


def echo(delivery: Delivery) -> Outcome:
    return Outcome.ack(Publication(delivery.exchange, delivery.routing_key, delivery.body, delivery.properties))


def lower(publication: Publication) -> Any:
    return contract.lower(Outcome.ack(publication)).publications[0]


class Lifting(unittest.TestCase):
    def test_a_delivery(self) -> None:
        lifted = contract.lift(wit.Delivery(b"\xff", properties(**ALL), "e", "k", "q", True, 3))
        expected = Delivery(b"\xff", Properties(**ALL), "e", "k", "q", True, 3)
        self.assertEqual(lifted, expected)

    def test_headers_come_back_as_they_were(self) -> None:
        for field, value in FIELDS:
            given = wit.Delivery(b"", properties(headers=[("h", field)]), "", "", "", False, 1)
            lifted = contract.lift(given)
            self.assertEqual(lifted.header("h", "absent"), value)
            self.assertIs(type(lifted.header("h")), type(value))
            self.assertEqual(contract.lower(echo(lifted)).publications[0].properties.headers, [("h", field)])
            self.assertIs(type(contract.lower(echo(lifted)).publications[0].properties.headers[0][1]), type(field))

    def test_not_a_number(self) -> None:
        self.assertTrue(math.isnan(lower(Publication("", "", headers={"h": math.nan})).properties.headers[0][1].value))


class Lowering(unittest.TestCase):
    def test_settlements(self) -> None:
        for outcome, expected in [
            (Outcome.ack(), wit.Settlement_Ack()),
            (Outcome.requeue(), wit.Settlement_Requeue()),
            (Outcome.retry(), wit.Settlement_Retry(None)),
            (Outcome.retry(0), wit.Settlement_Retry(0)),
            (Outcome.dead_letter("why"), wit.Settlement_DeadLetter("why")),
            (Outcome.dead_letter("\ud800"), wit.Settlement_DeadLetter("\\ud800")),
            (Outcome.dead_letter(ValueError("why")), wit.Settlement_DeadLetter("why")),
        ]:
            self.assertEqual(contract.lower(outcome), wit.Outcome(expected, []))

    def test_a_publication(self) -> None:
        given = Publication("e", "k", b"body", Properties(**ALL))
        self.assertEqual(lower(given), wit.Publication("e", "k", b"body", properties(**ALL)))
        self.assertEqual(lower(Publication("", "", bytearray(b"a"))).body, b"a")
        self.assertIs(type(lower(Publication("", "", memoryview(b"a"))).body), bytes)
        large = b"x" * (contract.LARGE + 1)
        self.assertEqual(lower(Publication("", "", large)).body, large)

    def test_convenient_headers(self) -> None:
        for value, expected in [
            (Level.HIGH, wit.Field_Integer(3)),
            (datetime(1970, 1, 2, tzinfo=timezone.utc), wit.Field_Timestamp(86400)),
            ({"a": [1]}, wit.Field_Json('{"a":[1]}')),
            ([1, None], wit.Field_Json("[1,null]")),
        ]:
            self.assertEqual(lower(Publication("", "", headers={"h": value})).properties.headers, [("h", expected)])

    def test_what_the_contract_cannot_hold(self) -> None:
        for publication, expected in [
            ("text", "publication 1 is 'text', not a Publication"),
            (Publication(None, "k"), "the `exchange` of publication 1 is None, not a text"),
            (Publication("", 7), "the `routing_key` of publication 1 is 7, not a text"),
            (Publication("", "\ud800"), "the `routing_key` of publication 1: 'utf-8' codec can't encode"),
            (Publication("", "", 7), "the `body` of publication 1 is 7, not bytes"),
            (
                Publication("", "", priority=256),
                "the `priority` of publication 1 is 256, not a whole number from 0 to 255",
            ),
            (Publication("", "", priority=-1), "the `priority` of publication 1 is -1, not"),
            (Publication("", "", priority=True), "the `priority` of publication 1 is True, not"),
            (Publication("", "", expiration_ms=1.5), "the `expiration_ms` of publication 1 is 1.5, not"),
            (Publication("", "", timestamp=2**64), "the `timestamp` of publication 1 is 18446744073709551616, not"),
            (Publication("", "", kind=b"k"), "the `kind` of publication 1 is b'k', not a text"),
            (Publication("", "", headers={7: 1}), "the `header name` of publication 1 is 7, not a text"),
            (
                Publication("", "", headers={"h": 2**63}),
                "the `header h` of publication 1: 9223372036854775808 does not fit",
            ),
            (Publication("", "", headers={"h": {1}}), "the `header h` of publication 1 is {1}, not a header's value"),
            (Publication("", "", headers={"h": [math.nan]}), "the `header h` of publication 1: "),
            (Publication("", "", headers={"h": "\ud800"}), "the `header h` of publication 1: 'utf-8' codec"),
            (Publication("", "", headers={"h": Timestamp(-1)}), "the `header h` of publication 1: -1 is not"),
            (
                Publication("", "", headers={"h": datetime(2020, 1, 1)}),
                "the `header h` of publication 1: a datetime needs",
            ),
            (Publication("", "", properties={"kind": "k"}), "the `properties` of publication 1 are {'kind': 'k'}, not"),
        ]:
            with self.assertRaises(Failure) as raised:
                lower(publication)
            self.assertEqual(str(raised.exception)[: len(expected)], expected)

    def test_settlements_that_are_none(self) -> None:
        for outcome, expected in [
            (Outcome("nack"), "the outcome's settlement is 'nack'"),
            (Outcome("retry", retry_ms=-1), "the outcome's `retry_ms` is -1, not a whole number from 0 to 4294967295"),
        ]:
            with self.assertRaises(Failure) as raised:
                contract.lower(outcome)
            self.assertEqual(str(raised.exception), expected)
