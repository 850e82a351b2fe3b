"""What a handler may raise, beside any other exception, which is a failure."""

from __future__ import annotations

from datetime import timedelta


class DeadLetter(Exception):
    """Another try would not mend it: the delivery goes to the dead-letter queue, with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BodyError(DeadLetter):
    """The body is not what the handler reads. It will be no better the next time."""


class Retry(Exception):
    """The delivery is to come again after that time, in seconds unless it says otherwise; by the manifest's backoff
    where none is given."""

    def __init__(self, after: float | timedelta | None = None) -> None:
        self.ms = None if after is None else whole_ms(after)
        super().__init__("again by the manifest's backoff" if after is None else f"again after {self.ms} ms")


def whole_ms(time: float | timedelta) -> int:
    """Milliseconds. The contract counts them in 32 bits: a longer time becomes the longest that fits."""
    seconds = time.total_seconds() if isinstance(time, timedelta) else time
    if not seconds >= 0:
        raise ValueError(f"a time of {seconds} seconds: it must not be negative")
    return min(int(min(seconds, 1e9) * 1000 + 1e-6), 0xFFFF_FFFF)
