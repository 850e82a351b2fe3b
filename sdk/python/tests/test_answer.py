"""What becomes of what a handler returns and raises."""

import sys
import unittest
from typing import Any

from wabbit_sdk import DeadLetter, Delivery, Outcome, Retry
from wabbit_sdk.answer import FAILURE_MAX, Failure, answer


class Awkward(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


class Forever:
    def __await__(self) -> Any:
        yield "wake me up"


def fails(error: BaseException) -> Any:
    def handle(delivery: Delivery) -> Outcome:
        raise error

    return handle


def deep(delivery: Delivery) -> Outcome:
    return deep(delivery)


class Answers(unittest.TestCase):
    def failure(self, handle: Any) -> str:
        with self.assertRaises(Failure) as raised:
            answer(handle, Delivery("{"))
        return str(raised.exception)

    def test_outcomes(self) -> None:
        async def quick(delivery: Delivery) -> Outcome:
            return Outcome.requeue()

        for handle, expected in [
            (lambda delivery: Outcome.ack(), Outcome.ack()),
            (fails(DeadLetter("odd")), Outcome.dead_letter("odd")),
            (fails(Retry()), Outcome.retry()),
            (fails(Retry(2)), Outcome.retry(2)),
            (quick, Outcome.requeue()),
        ]:
            self.assertEqual(answer(handle, Delivery()), expected)

    def test_a_body_that_cannot_be_read_is_dead_lettered(self) -> None:
        outcome = answer(lambda delivery: delivery.json(), Delivery("{"))
        self.assertEqual(outcome.settlement, "dead-letter")
        self.assertIn("the body is not the JSON expected: ", outcome.reason)

    def test_a_failure_says_what_and_where(self) -> None:
        text = self.failure(fails(ValueError("no such order"))).splitlines()
        self.assertEqual(text[0], "ValueError: no such order")
        self.assertEqual(text[1], "Traceback (most recent call last):")
        self.assertRegex(text[2], r'^  File ".*test_answer.py", line \d+, in handle$')
        self.assertEqual(text[-1], "ValueError: no such order")

    def test_other_failures(self) -> None:
        async def endless(delivery: Delivery) -> Outcome:
            await Forever()
            return Outcome.ack()

        for handle, expected in [
            (lambda delivery: None, "`handle` returned None, not an Outcome"),
            (lambda delivery: "ack", "`handle` returned a str, not an Outcome"),
            (endless, "RuntimeError: `handle` waits for something that never comes: a handler has no event loop"),
            (fails(SystemExit(0)), "SystemExit: 0"),
            (fails(KeyboardInterrupt()), "KeyboardInterrupt"),
            (lambda delivery: fails(Retry(-1)), "ValueError: a time of -1 seconds: it must not be negative"),
            (deep, "RecursionError: maximum recursion depth exceeded"),
            (fails(Awkward()), f"{__name__}.Awkward: <exception str() failed>"),
        ]:
            self.assertEqual(self.failure(handle).splitlines()[0], expected)

    def test_a_failure_is_bounded(self) -> None:
        text = self.failure(fails(ValueError("x" * 1_000_000)))
        self.assertLessEqual(len(text), FAILURE_MAX)
        self.assertIn("Traceback", text)

    def test_running_out_of_memory_is_left_to_the_host(self) -> None:
        with self.assertRaises(MemoryError):
            answer(fails(MemoryError()), Delivery())

    def test_an_exit_does_not_end_the_tests(self) -> None:
        self.assertIn("SystemExit: 3", self.failure(lambda delivery: sys.exit(3)))
