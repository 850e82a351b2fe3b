"""What outlives a delivery: the store of `[grant] keyvalue`.

    from wabbit_sdk import Delivery, Outcome, keyvalue


    def handle(delivery: Delivery) -> Outcome:
        orders = keyvalue.open("orders")
        seen = orders.increment(delivery.routing_key)
        print(seen, "orders for", delivery.routing_key)
        return Outcome.ack()

What is written takes effect at once, not with the settlement: a delivery that is tried again writes again.

Outside a host, in a handler's own tests, `provide` says which stores there are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

if sys.platform == "wasi":
    from componentize_py_types import Err
    from wit_world.imports import keyvalue_store
    from wit_world.imports.keyvalue_atomics import increment as _increment

U64_MAX = 2**64 - 1


class Error(Exception):
    """A store did not do as it was asked; the text says why."""


def open(name: str = "default") -> Store:
    """The store of this name, which the manifest grants. It goes by `default`, too."""
    return Store(_ask(_open, _text(name)))


class Store:
    """A store that is open."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None where it is not there."""
        value: bytes | None = _ask(self._bucket.get, _text(key))
        return value

    def text(self, key: str) -> str | None:
        """The same as UTF-8 text. An Error where it is not."""
        value = self.get(key)
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError as error:
            raise Error(f"the value of `{key}` is not UTF-8 text: {error.reason} at byte {error.start}") from None

    def set(self, key: str, value: bytes | str) -> None:
        """Gives a key a value; a text is kept as UTF-8."""
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes):
            data = bytes(memoryview(data))
        # componentize-py copies it without a look whether there is memory: here, there is a MemoryError in time.
        bytearray(len(data))
        _ask(self._bucket.set, _text(key), data)

    def delete(self, key: str) -> None:
        """Takes a key away, if it is there."""
        _ask(self._bucket.delete, _text(key))

    def exists(self, key: str) -> bool:
        """Whether a key is there."""
        return bool(_ask(self._bucket.exists, _text(key)))

    def increment(self, key: str, by: int = 1) -> int:
        """Adds to a whole number, which is 0 where the key is not there, and returns the sum. Nobody comes in between.
        In `get` and `set` the number is written in decimal digits."""
        if not 0 <= by <= U64_MAX:
            raise ValueError(f"adding {by}: it must be a whole number of 64 bits, and not negative")
        return int(_ask(_increment, self._bucket, _text(key), int(by)))

    def keys(self) -> list[str]:
        """All keys, in their order."""
        keys: list[str] = []
        cursor = None
        while True:
            page = _ask(self._bucket.list_keys, cursor)
            keys += page.keys
            cursor = page.cursor
            if cursor is None:
                return keys


def _text(text: str) -> str:
    # What has no UTF-8, or is no text, would end the instance without a word.
    text.encode()
    return text


if sys.platform == "wasi":
    _open = keyvalue_store.open

    def _ask(ask: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return ask(*arguments)
        except Err as error:
            raise Error(_told(error.value)) from None

    def _told(error: keyvalue_store.Error) -> str:
        if isinstance(error, keyvalue_store.Error_NoSuchStore):
            return NO_SUCH_STORE
        if isinstance(error, keyvalue_store.Error_AccessDenied):
            return "the store is not for this handler"
        return str(error.value)

else:

    def _ask(ask: Callable[..., Any], *arguments: Any) -> Any:
        return ask(*arguments)

    def _open(name: str) -> _Provided:
        if name not in _provided:
            raise Error(NO_SUCH_STORE)
        return _provided[name]

    def _increment(bucket: _Provided, key: str, by: int) -> int:
        return bucket.increment(key, by)


NO_SUCH_STORE = "the manifest grants no such store"

_provided: dict[str, _Provided] = {}


@contextmanager
def provide(name: str) -> Iterator[Store]:
    """In a handler's own tests: has the manifest grant a store of this name, which is empty, as long as the `with`
    lasts."""
    before = dict(_provided)
    _provided[name] = _provided["default"] = _Provided()
    try:
        yield Store(_provided[name])
    finally:
        _provided.clear()
        _provided.update(before)


class _Provided:
    """Stands in for a store of the host, and for the one page of its keys."""

    cursor = None

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.get = self.values.get
        self.set = self.values.__setitem__
        self.exists = self.values.__contains__

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def increment(self, key: str, by: int) -> int:
        old = self.values.get(key, b"0")
        if not old.isdigit():
            raise Error(f"the value of `{key}` is not a whole number")
        total = int(old) + by
        if total > U64_MAX:
            raise Error(f"`{key}` would be too large")
        self.values[key] = str(total).encode()
        return total

    def list_keys(self, cursor: None) -> _Provided:
        return self

    @property
    def keys(self) -> list[str]:
        return sorted(self.values)
