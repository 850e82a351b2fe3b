"""What the manifest tells a handler: `[grant] config` and `[grant] secrets`.

    from wabbit_sdk import Delivery, Outcome, config


    def handle(delivery: Delivery) -> Outcome:
        sender = config.require("from")
        token = config.secret("token")
        print("sending as", sender, "with the token", token)  # prints `***`
        return send(sender, token.expose())

Outside a host, in a handler's own tests, `provide` says what is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


def get(name: str, default: T = None) -> str | T:  # type: ignore[assignment]
    """The value of that name in the manifest's `config` or `secrets`, or the default where it is in neither."""
    value: str | None = _get(name)
    return default if value is None else value


def require(name: str) -> str:
    """The same, and a LookupError where there is none."""
    value = get(name)
    if value is None:
        raise LookupError(f"the manifest grants no value `{name}`")
    return value


def secret(name: str) -> Secret:
    """As `require`, for what must not be printed by accident."""
    return Secret(require(name))


def all() -> dict[str, str]:
    """All names of `config` with their values. Secrets are left out."""
    return dict(_get_all())


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that shows itself as `***`."""

    _value: str = field(repr=False)

    def expose(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return "***"


_provided: dict[str, str] = {}

if sys.platform == "wasi":
    # The values are there before a handler begins, so that reading them cannot fail.
    from wit_world.imports.config_store import get as _get
    from wit_world.imports.config_store import get_all as _get_all
else:
    _get, _get_all = _provided.get, _provided.copy


@contextmanager
def provide(values: Mapping[str, str]) -> Iterator[None]:
    """In a handler's own tests: has the manifest grant these values, as long as the `with` lasts."""
    before = dict(_provided)
    _provided.update(values)
    try:
        yield
    finally:
        _provided.clear()
        _provided.update(before)
