"""Run it with `python3 -m unittest` in this folder."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "{{sdk}}/python"))

from handler import handle
from wabbit_sdk import Delivery, Outcome, Publication


class Greetings(unittest.TestCase):
    def test_ada_is_greeted(self) -> None:
        expected = Publication.text("", "greetings", "Hello, Ada!")
        self.assertEqual(handle(Delivery("Ada")), Outcome.ack(expected))

    def test_an_empty_body_is_dead_lettered(self) -> None:
        self.assertEqual(handle(Delivery("")), Outcome.dead_letter("there is nobody to greet"))
