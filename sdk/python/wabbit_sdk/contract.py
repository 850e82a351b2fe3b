"""The types of `wabbit:worker@0.1.0` from and to those of this SDK.

componentize-py gives and takes the contract's own types, and a value that they cannot hold would end the instance
without a word of what is wrong: each is checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from wit_world.imports import types as wit

from . import json_text
from .answer import Failure
from .delivery import Delivery
from .outcome import Outcome
from .properties import Json, Properties, Timestamp
from .publication import Publication

S64_MIN, S64_MAX = -(2**63), 2**63 - 1
U64_MAX = 2**64 - 1
U32_MAX = 2**32 - 1
U8_MAX = 2**8 - 1

# More than this is looked for before it is needed: see `_reserve`.
LARGE = 1 << 20


def lift(delivery: wit.Delivery) -> Delivery:
    """The SDK's delivery."""
    theirs = delivery.properties
    properties = Properties(
        theirs.content_type,
        theirs.content_encoding,
        {name: LIFT[type(field)](field) for name, field in theirs.headers},
        theirs.persistent,
        theirs.priority,
        theirs.correlation_id,
        theirs.reply_to,
        theirs.expiration_ms,
        theirs.message_id,
        theirs.timestamp,
        theirs.kind,
        theirs.user_id,
        theirs.app_id,
    )
    return Delivery(
        delivery.body,
        properties,
        delivery.exchange,
        delivery.routing_key,
        delivery.queue,
        delivery.redelivered,
        delivery.attempt,
    )


def _value(field: Any) -> Any:
    return field.value


LIFT: dict[type, Callable[[Any], Any]] = {
    wit.Field_Boolean: _value,
    wit.Field_Integer: _value,
    wit.Field_Float: _value,
    wit.Field_Text: _value,
    wit.Field_Binary: _value,
    wit.Field_Timestamp: lambda field: Timestamp(field.value),
    wit.Field_Json: lambda field: Json(field.value),
    wit.Field_Void: lambda field: None,
}


def lower(outcome: Outcome) -> wit.Outcome:
    """The contract's outcome. A Failure where it cannot hold what the handler returned."""
    publications = []
    if outcome.publications:
        publications = [_publication(*numbered) for numbered in enumerate(outcome.publications, 1)]
        _reserve(publications)
    return wit.Outcome(_settlement(outcome), publications)


def _settlement(outcome: Outcome) -> wit.Settlement:
    match outcome.settlement:
        case "ack":
            return wit.Settlement_Ack()
        case "requeue":
            return wit.Settlement_Requeue()
        case "retry":
            return wit.Settlement_Retry(_optional_integer(outcome.retry_ms, U32_MAX, "the outcome's `retry_ms`"))
        case "dead-letter":
            return wit.Settlement_DeadLetter(printable(str(outcome.reason)))
    raise Failure(f"the outcome's settlement is {outcome.settlement!r}")


def _publication(number: int, publication: Publication) -> wit.Publication:
    what = f"publication {number}"
    if not isinstance(publication, Publication):
        raise Failure(f"{what} is {publication!r:.100}, not a Publication")
    ours = publication.properties
    if not isinstance(ours, Properties):
        raise Failure(f"the `properties` of {what} are {ours!r:.100}, not Properties")
    properties = wit.Properties(
        _optional_text(ours.content_type, what, "content_type"),
        _optional_text(ours.content_encoding, what, "content_encoding"),
        [(_text(name, what, "header name"), _field(value, what, name)) for name, value in ours.headers.items()],
        bool(ours.persistent),
        _optional_integer(ours.priority, U8_MAX, what, "priority"),
        _optional_text(ours.correlation_id, what, "correlation_id"),
        _optional_text(ours.reply_to, what, "reply_to"),
        _optional_integer(ours.expiration_ms, U32_MAX, what, "expiration_ms"),
        _optional_text(ours.message_id, what, "message_id"),
        _optional_integer(ours.timestamp, U64_MAX, what, "timestamp"),
        _optional_text(ours.kind, what, "kind"),
        _optional_text(ours.user_id, what, "user_id"),
        _optional_text(ours.app_id, what, "app_id"),
    )
    body = publication.body
    if type(body) is not bytes:
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise _wrong(body, what, "body", "bytes")
        body = bytes(body)
    exchange = _text(publication.exchange, what, "exchange")
    return wit.Publication(exchange, _text(publication.routing_key, what, "routing_key"), body, properties)


def _field(value: Any, what: str, name: str) -> wit.Field:
    lower_field = LOWER.get(type(value))
    if lower_field is None:
        # Subclasses, such as those of Enum.
        lower_field = next((LOWER[shape] for shape in LOWER if isinstance(value, shape)), None)
        if lower_field is None:
            raise _wrong(value, what, f"header {name}", "a header's value")
    try:
        return lower_field(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Failure(f"the `header {name}` of {what}: {error}") from None


def _integer_field(value: int) -> wit.Field:
    if not S64_MIN <= value <= S64_MAX:
        raise ValueError(f"{value} does not fit 64 bits")
    return wit.Field_Integer(int(value))


def _timestamp_field(value: Timestamp) -> wit.Field:
    if type(value.seconds) is not int or not 0 <= value.seconds <= U64_MAX:
        raise ValueError(f"{value.seconds!r} is not a number of seconds since 1970")
    return wit.Field_Timestamp(value.seconds)


def _datetime_field(value: datetime) -> wit.Field:
    if value.tzinfo is None:
        raise ValueError("a datetime needs a time zone, such as `datetime.now(timezone.utc)` has")
    return _timestamp_field(Timestamp(int(value.timestamp())))


def _json_field(value: Any) -> wit.Field:
    return wit.Field_Json(json_text.write(value).decode())


def _unicode(value: str) -> str:
    # Quick for ASCII, which Python marks. A lone surrogate has no UTF-8.
    if not value.isascii():
        value.encode()
    return str(value)


# `bool` before `int`, which it is one of.
LOWER: dict[type, Callable[[Any], wit.Field]] = {
    str: lambda value: wit.Field_Text(_unicode(value)),
    bool: wit.Field_Boolean,
    int: _integer_field,
    float: lambda value: wit.Field_Float(float(value)),
    bytes: lambda value: wit.Field_Binary(bytes(value)),
    bytearray: lambda value: wit.Field_Binary(bytes(value)),
    Timestamp: _timestamp_field,
    datetime: _datetime_field,
    Json: lambda value: wit.Field_Json(_unicode(value.text)),
    dict: _json_field,
    list: _json_field,
    type(None): lambda _: wit.Field_Void(),
}


def _text(value: Any, what: str, name: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, what, name, "a text")
    try:
        return _unicode(value)
    except UnicodeEncodeError as error:
        raise Failure(f"the `{name}` of {what}: {error}") from None


def _optional_text(value: Any, what: str, name: str) -> str | None:
    return None if value is None else _text(value, what, name)


def _optional_integer(value: Any, greatest: int, what: str, name: str = "") -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= greatest:
        raise _wrong(value, what, name, f"a whole number from 0 to {greatest}")
    return int(value)


def _wrong(value: Any, what: str, name: str, expected: str) -> Failure:
    where = f"the `{name}` of {what}" if name else what
    return Failure(f"{where} is {value!r:.100}, not {expected}")


def _reserve(publications: list[wit.Publication]) -> None:
    """Makes sure of the memory that the bodies are about to be copied into. componentize-py does not look whether
    it gets it, and writes over address 0: here, instead, there is a MemoryError in time."""
    large = [len(publication.body) for publication in publications if len(publication.body) > LARGE]
    if large:
        # All at once, and dropped at once.
        [bytearray(length) for length in large]


def printable(text: str) -> str:
    """The text with what UTF-8 cannot hold written out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
