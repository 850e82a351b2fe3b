"""JSON as RFC 8259 has it: what Python's module takes or makes beyond that (`NaN`, lone surrogates, UTF-16) is refused,
so that every other language can read what is published, and reads the same out of a body."""

from __future__ import annotations

import json
import re
from dataclasses import is_dataclass
from typing import Any

from . import shapes
from .errors import BodyError

# Python's reader recurses, and the host's stack is smaller than Python thinks: too deep a body would be a bare trap.
DEPTH_MAX = 200

NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def read(body: bytes) -> Any:
    """The value that the body says. A BodyError where it says none."""
    return _read(_plain, body)


def read_into(shape: Any, body: bytes) -> Any:
    """The value that the body says, as that type."""
    value = _read(_noting_repeated, body)
    try:
        return shapes.reader(shape)(value)
    except shapes.Mismatch as error:
        raise _unexpected(error) from None


def write(value: Any) -> bytes:
    """The value as JSON, in UTF-8 and without spaces. A TypeError or ValueError where it has no such form."""
    return _encoder.encode(value).encode()


def _read(decoder: json.JSONDecoder, body: bytes) -> Any:
    try:
        text = body.decode()
        if _depth_exceeds(body, DEPTH_MAX):
            raise ValueError(f"nested more than {DEPTH_MAX} levels deep")
        value = decoder.decode(text)
        if "\\ud" in text or "\\uD" in text:
            # An escaped pair of surrogates is one character, a lone one is none, and could not be published.
            write(value)
        return value
    except UnicodeDecodeError as error:
        raise _unexpected(f"{error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise _unexpected("a lone surrogate") from None
    except ValueError as error:
        raise _unexpected(error) from None


def _unexpected(what: object) -> BodyError:
    return BodyError(f"the body is not the JSON expected: {what}")


def _depth_exceeds(body: bytes, levels: int) -> bool:
    if len(body.translate(None, NOT_BRACKETS)) <= levels:
        return False
    brackets = STRING.sub(b"", body).translate(None, NOT_BRACKETS)
    # Each round takes off the innermost level, which is far quicker than to look at every token.
    for _ in range(levels):
        fewer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(fewer) == len(brackets):
            # Some have no partner: it is not JSON, and the reader gets no deeper than there are opening ones.
            return len(brackets.translate(None, b"]}")) > levels
        brackets = fewer
    return bool(brackets)


def _no_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else shapes.Repeated(pairs)


def _members(value: Any) -> dict[str, Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    raise TypeError(f"`{type(value).__name__}` has no JSON form")


_plain = json.JSONDecoder(parse_constant=_no_constant)
_noting_repeated = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_object)
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_members)
