"""What becomes of a delivery."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from .errors import whole_ms
from .publication import Publication


@dataclass(slots=True)
class Outcome:
    """A handler's answer: a settlement, and what is published before it is carried out."""

    settlement: Literal["ack", "requeue", "retry", "dead-letter"]
    # Published and confirmed first, whatever the settlement.
    publications: list[Publication] = field(default_factory=list)
    # With `retry`: milliseconds until the next try, or the manifest's backoff where there are none.
    retry_ms: int | None = None
    # With `dead-letter`.
    reason: str | None = None

    @classmethod
    def ack(cls, *publications: Publication | None) -> Outcome:
        """Done: the broker forgets the delivery once all those publications are confirmed."""
        return cls("ack").publish(*publications) if publications else cls("ack")

    @classmethod
    def requeue(cls) -> Outcome:
        """Back on the queue at once; after a pause where it came back before."""
        return cls("requeue")

    @classmethod
    def retry(cls, after: float | timedelta | None = None) -> Outcome:
        """Again after that time, in seconds unless it says otherwise: 100 ms to 7 days. By the manifest's backoff
        where none is given."""
        return cls("retry", retry_ms=None if after is None else whole_ms(after))

    @classmethod
    def dead_letter(cls, reason: str) -> Outcome:
        """Never again: to the dead-letter queue, with this reason."""
        return cls("dead-letter", reason=reason)

    def publish(self, *publications: Publication | None) -> Outcome:
        """Adds publications, and returns the outcome itself. A None, such as `Delivery.reply` gives where nobody
        asked, is left out."""
        self.publications.extend(publication for publication in publications if publication is not None)
        return self

    def publish_all(self, publications: Iterable[Publication | None]) -> Outcome:
        """As `publish`, for any number of them."""
        return self.publish(*publications)
