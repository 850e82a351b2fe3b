"""Run it with `python3 -m unittest` in this folder."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "../../../sdk/python"))

from handler import handle
from wabbit_sdk import BodyError, Delivery, Outcome, Publication


class Orders(unittest.TestCase):
    def test_an_order_becomes_a_mail(self) -> None:
        mail = (
            b'{"to":"ada@example.com","subject":"Your order","text":"Thank you for your order. We are packing it now."}'
        )
        expected = Publication("mail", "order.notify", mail, content_type="application/json", persistent=True)
        self.assertEqual(handle(Delivery('{"user_email": "ada@example.com"}')), Outcome.ack(expected))

    def test_a_malformed_order_is_dead_lettered(self) -> None:
        with self.assertRaises(BodyError) as raised:
            handle(Delivery('{"email": "ada@example.com"}'))
        expected = "the body is not the JSON expected: missing field `user_email`"
        self.assertEqual(raised.exception.reason, expected)
