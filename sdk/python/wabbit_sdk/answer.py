"""From what a handler returns or raises to the answer that the contract knows: an outcome, or a failure's text."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from .delivery import Delivery
from .errors import DeadLetter, Retry
from .outcome import Outcome

# Characters of a failure's text. It goes into a dead letter's header.
FAILURE_MAX = 4000
MESSAGE_MAX = 500


class Failure(Exception):
    """The handler has failed; the text says how."""


def answer(handle: Callable[[Delivery], Outcome], delivery: Delivery) -> Outcome:
    """Calls the handler. Whatever it raises becomes an outcome or a Failure."""
    try:
        outcome: Any = handle(delivery)
        if type(outcome) is Outcome:
            return outcome
        if isinstance(outcome, Coroutine):
            outcome = _run(outcome)
    except DeadLetter as error:
        return Outcome.dead_letter(error.reason)
    except Retry as error:
        return Outcome("retry", retry_ms=error.ms)
    except MemoryError:
        # Left to end the instance: then the host says which limit it was.
        raise
    except BaseException as error:  # `sys.exit()` is no way to answer, either.
        raise Failure(describe(error)) from None
    if isinstance(outcome, Outcome):
        return outcome
    raise Failure(f"`handle` returned {_article(outcome)}, not an Outcome")


def describe(error: BaseException) -> str:
    """The exception in one line, and below it where it came from, as Python tells it."""
    # The first frame is the one of `answer`.
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    try:
        message = traceback.format_exception_only(error)[-1].strip()
        frames = "".join(traceback.format_exception(error, limit=-25)).rstrip()
    except Exception:  # The exception's own `__str__` may be at fault.
        message, frames = type(error).__name__, "the exception cannot be shown"
    return _cut(f"{_cut(message, MESSAGE_MAX)}\n{frames}", FAILURE_MAX)


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs an `async def` to its end. There is no event loop: nothing here could wake what waits."""
    try:
        while coroutine.send(None) is None:
            pass
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("`handle` waits for something that never comes: a handler has no event loop")


def _cut(text: str, length_max: int) -> str:
    if len(text) <= length_max:
        return text
    end = length_max // 2
    return f"{text[: length_max - end - 3]} … {text[-end:]}"


def _article(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
