"""What a handler is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import json_text
from .errors import BodyError
from .properties import FieldValue, Properties
from .publication import Publication, made_properties

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .properties import PropertyArguments

T = TypeVar("T")


@dataclass(init=False, slots=True)
class Delivery:
    """A message as the broker delivered it.

    Tests make their own: `Delivery('{"id": 7}', routing_key="order.new", headers={"tenant": "acme"})`.
    """

    # The body, whatever it is. `json` and `text` read it.
    body: bytes
    # The basic properties, headers included.
    properties: Properties
    # The exchange that the message was published to. Empty is the default exchange.
    exchange: str
    # The routing key that the message was published with.
    routing_key: str
    # The queue that the message was consumed from.
    queue: str
    # Whether the broker may have delivered it before.
    redelivered: bool
    # 1 on the first try, and one more for each recorded failure.
    attempt: int

    def __init__(
        self,
        body: bytes | str = b"",
        properties: Properties | None = None,
        exchange: str = "",
        routing_key: str = "",
        queue: str = "",
        redelivered: bool = False,
        attempt: int = 1,
        **more: Unpack[PropertyArguments],
    ) -> None:
        self.body = body.encode() if isinstance(body, str) else body
        self.properties = made_properties(properties, more)
        self.exchange = exchange
        self.routing_key = routing_key
        self.queue = queue
        self.redelivered = redelivered
        self.attempt = attempt

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, into: type[T]) -> T: ...

    def json(self, into: Any = None) -> Any:
        """Reads the body as JSON: into dicts, lists, texts and numbers, or into that type, such as a dataclass.

        Where the body is not JSON, or not the JSON of that type, the BodyError says what is wrong. Left alone, it
        sends the delivery to the dead-letter queue.
        """
        return json_text.read(self.body) if into is None else json_text.read_into(into, self.body)

    def text(self) -> str:
        """Reads the body as UTF-8 text.

        Where it is not, the BodyError says from which byte on. Left alone, it sends the delivery to the dead-letter
        queue.
        """
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise BodyError(f"the body is not UTF-8 text: {error.reason} at byte {error.start}") from None

    @property
    def headers(self) -> Mapping[str, FieldValue]:
        """The headers, in the order of the message."""
        return self.properties.headers

    def header(self, name: str, default: Any = None) -> Any:
        """The header of that name, or the default where there is none. Names are case-sensitive."""
        return self.properties.headers.get(name, default)

    def reply(self, body: bytes | str, **more: Unpack[PropertyArguments]) -> Publication | None:
        """The reply to this delivery: to its `reply_to` queue through the default exchange, with its
        `correlation_id`. None where it has no `reply_to`, and so nobody waits for one.

        The manifest grants replies as `"reply"`.
        """
        if self.properties.reply_to is None:
            return None
        more.setdefault("correlation_id", self.properties.correlation_id)
        return Publication("", self.properties.reply_to, body, **more)

    def reply_json(self, value: Any, **more: Unpack[PropertyArguments]) -> Publication | None:
        """As `reply`, with that value as JSON."""
        more.setdefault("content_type", "application/json")
        return self.reply(json_text.write(value), **more)
