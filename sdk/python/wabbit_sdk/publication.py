"""What a handler publishes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import json_text
from .properties import Properties

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .properties import PropertyArguments


@dataclass(init=False, slots=True)
class Publication:
    """A message to be published.

    The manifest grants exchanges and routing keys; publishing elsewhere is a failure of the delivery.
    """

    # Empty is the default exchange, which routes to the queue that the routing key names.
    exchange: str
    # At most 255 bytes.
    routing_key: str
    body: bytes
    # The basic properties, headers included.
    properties: Properties

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        body: bytes | str = b"",
        properties: Properties | None = None,
        **more: Unpack[PropertyArguments],
    ) -> None:
        """A message with that body; a text is sent as UTF-8. The keywords set single properties, as in
        `Publication("audit", "paid", b"7", headers={"tenant": "acme"}, persistent=True)`."""
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body.encode() if isinstance(body, str) else body
        self.properties = made_properties(properties, more)

    @classmethod
    def text(cls, exchange: str, routing_key: str, text: str, **more: Unpack[PropertyArguments]) -> Publication:
        """A message with that text, and the content type `text/plain`."""
        more.setdefault("content_type", "text/plain")
        return cls(exchange, routing_key, text, **more)

    @classmethod
    def json(cls, exchange: str, routing_key: str, value: Any, **more: Unpack[PropertyArguments]) -> Publication:
        """A message with that value as JSON, and the content type `application/json`.

        The value may hold dataclasses. A TypeError or ValueError where it has no JSON form.
        """
        more.setdefault("content_type", "application/json")
        return cls(exchange, routing_key, json_text.write(value), **more)


def made_properties(properties: Properties | None, more: Any) -> Properties:
    """Those properties, with some of them replaced."""
    if properties is None:
        return Properties(**more)
    return replace(properties, **more) if more else properties
