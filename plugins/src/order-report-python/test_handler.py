"""Run it with `python3 -m unittest` in this folder."""

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "../../../sdk/python"))

from handler import handle
from wabbit_sdk import BodyError, Delivery, Outcome, Publication

ORDER = {"id": 17, "user_email": "ada@example.com", "product": "hay", "quantity": 2}


class Orders(unittest.TestCase):
    def test_an_order_becomes_a_report(self) -> None:
        for order_id, text in [(17, "17"), ("A-17", "A-17"), (-(2**63), "-9223372036854775808")]:
            body = f"Order {text}\n\nCustomer: ada@example.com\nProduct:  hay\nQuantity: 2\n"
            expected = Publication(
                "reports",
                "order.report",
                body,
                content_type="text/plain",
                message_id=text,
                headers={"order-id": text},
                persistent=True,
            )
            self.assertEqual(handle(Delivery(json.dumps({**ORDER, "id": order_id}))), Outcome.ack(expected))

    def test_a_malformed_order_is_dead_lettered(self) -> None:
        without_quantity = {name: value for name, value in ORDER.items() if name != "quantity"}
        for order, expected in [
            ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
            (json.dumps(without_quantity), "missing field `quantity`"),
            (json.dumps({**ORDER, "quantity": 0}), "an order's `quantity` is a whole number from 1 to 4294967295"),
            (json.dumps({**ORDER, "quantity": 2**32}), "an order's `quantity` is a whole number from 1 to 4294967295"),
            (json.dumps({**ORDER, "quantity": 2.0}), "at `quantity`: expected a whole number, not 2.0"),
            (json.dumps({**ORDER, "id": None}), "at `id`: expected a whole number or a text, not null"),
            (json.dumps({**ORDER, "id": 2**63}), "an order's `id` is a whole number of 64 bits or a text"),
        ]:
            with self.assertRaises(BodyError) as raised:
                handle(Delivery(order))
            self.assertEqual(raised.exception.reason, f"the body is not the JSON expected: {expected}")
