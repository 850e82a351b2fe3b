"""JSON values into types: dataclasses, and what they are made of."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class Mismatch(ValueError):
    """The value is not of the type."""


class Repeated(dict[str, Any]):
    """An object with a name that is there twice. Which of them counts, readers disagree about."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.names = {name for name in names if names.count(name) > 1}


Reader = Callable[[Any], Any]


@cache
def reader(shape: Any) -> Reader:
    """What makes that type of a JSON value, or raises a Mismatch. A TypeError where the type has no JSON form."""
    if shape in PLAIN:
        return PLAIN[shape]
    if isinstance(shape, type) and is_dataclass(shape):
        return _dataclass(shape)
    origin, arguments = get_origin(shape), get_args(shape)
    if shape in (list, dict):
        origin, arguments = shape, (Any,) if shape is list else (str, Any)
    if origin is list:
        return _list(reader(arguments[0]))
    if origin is dict and arguments[0] is str:
        return _dict(reader(arguments[1]))
    if origin in (Union, types.UnionType):
        return _union([reader(argument) for argument in arguments], " or ".join(map(_name, arguments)))
    if origin is Literal:
        return _one_of({_key(value): value for value in arguments})
    if isinstance(shape, type) and issubclass(shape, Enum):
        return _one_of({_key(member.value): member for member in shape})
    raise TypeError(f"`{_name(shape)}` cannot be read from JSON")


def prepare(shape: type) -> None:
    """Does ahead what the first reading of that dataclass would do. Whatever is wrong with it, that will say."""
    try:
        reader(shape)(None)
    except (Mismatch, TypeError, NameError):
        pass


def _dataclass(shape: type) -> Reader:
    parts: list[tuple[str, Reader, bool]] | None = None

    def prepare() -> list[tuple[str, Reader, bool]]:
        # Not before it is needed, since a type may hold itself.
        hints = get_type_hints(shape)
        return [
            (field.name, reader(hints[field.name]), field.default is MISSING and field.default_factory is MISSING)
            for field in fields(shape)
            if field.init
        ]

    def read(value: Any) -> Any:
        nonlocal parts
        if parts is None:
            parts = prepare()
        if not isinstance(value, dict):
            raise _mismatch("an object", value)
        members = {}
        for name, read_part, required in parts:
            if name in value:
                if type(value) is Repeated and name in value.names:
                    raise Mismatch(f"field `{name}` is there twice")
                try:
                    members[name] = read_part(value[name])
                except Mismatch as error:
                    raise _inside(name, error) from None
            elif required:
                raise Mismatch(f"missing field `{name}`")
        try:
            return shape(**members)
        except ValueError as error:
            # `__post_init__` may check more than a type can say.
            raise Mismatch(str(error)) from None

    return read


def _list(read_item: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise _mismatch("a list", value)
        items = []
        for item in value:
            try:
                items.append(read_item(item))
            except Mismatch as error:
                raise _inside(len(items), error) from None
        return items

    return read


def _dict(read_value: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _mismatch("an object", value)
        members = {}
        for name, member in value.items():
            try:
                members[name] = read_value(member)
            except Mismatch as error:
                raise _inside(name, error) from None
        return members

    return read


def _union(readers: list[Reader], names: str) -> Reader:
    def read(value: Any) -> Any:
        for read_one in readers:
            try:
                return read_one(value)
            except Mismatch:
                pass
        raise _mismatch(names, value)

    return read


def _one_of(values: dict[Any, Any]) -> Reader:
    names = " or ".join(str(value) for _, value in values)

    def read(value: Any) -> Any:
        try:
            return values[_key(value)]
        except (KeyError, TypeError):
            raise _mismatch(names, value) from None

    return read


def _key(value: Any) -> tuple[type, Any]:
    # To Python, 1, 1.0 and True are equal.
    return type(value), value


def _exactly(shape: type, name: str) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not shape:
            raise _mismatch(name, value)
        return value

    return read


def _float(value: Any) -> float:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            pass
    if type(value) is not float or value in (float("inf"), float("-inf")):
        raise _mismatch("a number", value)
    return value


NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}

PLAIN: dict[Any, Reader] = {shape: _exactly(shape, name) for shape, name in NAMES.items()}
PLAIN |= {float: _float, None: PLAIN[type(None)], Any: lambda value: value, object: lambda value: value}


def _name(shape: Any) -> str:
    return NAMES.get(shape) or str(getattr(shape, "__name__", shape))


def _mismatch(expected: str, value: Any) -> Mismatch:
    shown = {dict: "an object", list: "a list", Repeated: "an object", type(None): "null"}.get(type(value))
    if shown is None:
        shown = repr(value) if len(str(value)) <= 50 else f"{str(value)[:50]!r}…"
    return Mismatch(f"expected {expected}, not {shown}")


def _inside(name: str | int, error: Mismatch) -> Mismatch:
    where = f"[{name}]" if isinstance(name, int) else name
    inner = str(error)
    if inner.startswith("at `"):
        path, _, rest = inner.removeprefix("at `").partition("`: ")
        return Mismatch(f"at `{where}{'' if path.startswith('[') else '.'}{path}`: {rest}")
    return Mismatch(f"at `{where}`: {inner}")
