"""Deliveries, publications and outcomes as handlers and their tests use them."""

import unittest
from datetime import datetime, timedelta, timezone

from wabbit_sdk import BodyError, Delivery, Json, Outcome, Properties, Publication, Timestamp, context


class Deliveries(unittest.TestCase):
    def test_the_body_as_text(self) -> None:
        self.assertEqual(Delivery("hällo").text(), "hällo")
        with self.assertRaises(BodyError) as raised:
            Delivery(b"a\xff").text()
        self.assertEqual(raised.exception.reason, "the body is not UTF-8 text: invalid start byte at byte 1")

    def test_header_names_are_case_sensitive(self) -> None:
        delivery = Delivery(headers={"Tenant": "acme", "void": None})
        self.assertEqual(delivery.header("Tenant"), "acme")
        self.assertEqual(delivery.header("tenant"), None)
        self.assertEqual(delivery.header("tenant", "nobody"), "nobody")
        self.assertEqual(delivery.header("void", "nobody"), None)
        self.assertEqual(delivery.headers, {"Tenant": "acme", "void": None})

    def test_a_reply_goes_where_it_is_awaited(self) -> None:
        self.assertIsNone(Delivery("ping").reply("pong"))
        self.assertIsNone(Delivery("ping").reply_json("pong"))
        asked = Delivery("ping", reply_to="answers", correlation_id="7")
        self.assertEqual(asked.reply("pong"), Publication("", "answers", b"pong", correlation_id="7"))
        expected = Publication("", "answers", b'{"a":1}', correlation_id="7", content_type="application/json")
        self.assertEqual(asked.reply_json({"a": 1}), expected)

    def test_keywords_replace_properties_and_leave_the_given_ones_alone(self) -> None:
        given = Properties(priority=1, kind="a")
        self.assertEqual(Publication("", "q", properties=given, kind="b").properties, Properties(priority=1, kind="b"))
        self.assertEqual(given, Properties(priority=1, kind="a"))

    def test_a_misspelt_property_is_an_error(self) -> None:
        with self.assertRaises(TypeError):
            Publication("", "q", persistant=True)
        with self.assertRaises(AttributeError):
            Properties().persistant = True


class Fields(unittest.TestCase):
    def test_values(self) -> None:
        self.assertEqual(Timestamp(0).to_datetime(), datetime(1970, 1, 1, tzinfo=timezone.utc))
        self.assertEqual(Json('{"a": [1]}').value, {"a": [1]})


class Outcomes(unittest.TestCase):
    def test_settlements_carry_their_arguments(self) -> None:
        self.assertEqual(Outcome.ack(), Outcome("ack"))
        self.assertEqual(Outcome.requeue(), Outcome("requeue"))
        self.assertEqual(Outcome.retry(), Outcome("retry"))
        self.assertEqual(Outcome.dead_letter("why"), Outcome("dead-letter", reason="why"))
        for after, ms in [
            (2, 2000),
            (0.1, 100),
            (0.29, 290),
            (1.9999, 1999),
            (timedelta(minutes=1), 60_000),
            (0, 0),
            (1e300, 2**32 - 1),
            (timedelta.max, 2**32 - 1),
        ]:
            self.assertEqual(Outcome.retry(after), Outcome("retry", retry_ms=ms))
        for after in [-1, float("nan")]:
            with self.assertRaises(ValueError):
                Outcome.retry(after)

    def test_publications_keep_their_order(self) -> None:
        a, b, c = (Publication("x", key) for key in "abc")
        self.assertEqual(Outcome.ack(a, None).publish(b).publish_all([None, c]).publications, [a, b, c])


class Context(unittest.TestCase):
    def test_there_is_a_stand_in(self) -> None:
        self.assertEqual((context.worker(), context.remaining()), ("test", 5.0))
