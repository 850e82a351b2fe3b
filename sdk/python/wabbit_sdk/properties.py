"""What a message carries beside its body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypedDict, Union


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A header's time, in seconds since the Unix epoch."""

    seconds: int

    def to_datetime(self) -> datetime:
        """As a time in UTC. An OverflowError or ValueError where it is beyond the year 9999."""
        return datetime.fromtimestamp(self.seconds, timezone.utc)


@dataclass(frozen=True, slots=True)
class Json:
    """A header's nested table, array or decimal, as JSON text."""

    text: str

    @property
    def value(self) -> Any:
        """What the text says, read."""
        return json.loads(self.text)


# One value of an AMQP field table, such as a header's. Each comes back as the type that it was sent as: an `int` is an
# integer of 64 bits, a `float` a double even where it is whole, `bytes` a byte array and `None` AMQP's `void`. Where
# one is published, a `datetime` with a time zone does for a Timestamp, and a dict or list for Json.
FieldValue = Union[bool, int, float, str, bytes, Timestamp, Json, None, datetime, dict[str, Any], list[Any]]


@dataclass(slots=True)
class Properties:
    """The basic properties of AMQP 0-9-1. All are absent by default.

    A publication's texts hold at most 255 bytes each; the host refuses longer ones.
    """

    # The MIME type of the body, such as `application/json`.
    content_type: str | None = None
    # How the body is encoded, such as `gzip`.
    content_encoding: str | None = None
    # In the order of the message. Names are case-sensitive. Those that start with `x-wabbit-` are the host's: it hides
    # them from handlers, and removes them from publications.
    headers: Mapping[str, FieldValue] = field(default_factory=dict)
    # Whether the message survives a restart of the broker, in a durable queue.
    persistent: bool = False
    # Higher is delivered first, in queues declared with priorities. 0 to 255.
    priority: int | None = None
    # Says which request a reply belongs to.
    correlation_id: str | None = None
    # The queue that a reply is to be sent to, through the default exchange.
    reply_to: str | None = None
    # Milliseconds after which the message expires in its queue.
    expiration_ms: int | None = None
    # The publisher's own name for the message.
    message_id: str | None = None
    # Seconds since the Unix epoch.
    timestamp: int | None = None
    # AMQP's `type`.
    kind: str | None = None
    # The broker's user who published it. The broker refuses any other than the host's own.
    user_id: str | None = None
    # The application that published it.
    app_id: str | None = None


if TYPE_CHECKING:

    class PropertyArguments(TypedDict, total=False):
        """The properties as keyword arguments."""

        content_type: str | None
        content_encoding: str | None
        headers: Mapping[str, FieldValue]
        persistent: bool
        priority: int | None
        correlation_id: str | None
        reply_to: str | None
        expiration_ms: int | None
        message_id: str | None
        timestamp: int | None
        kind: str | None
        user_id: str | None
        app_id: str | None
