"""At build time: loads the handler with all that it may want later, since no file is there any more when it runs."""

from __future__ import annotations

import ast
import importlib
import linecache
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType

from . import shapes
from .delivery import Delivery
from .outcome import Outcome

Handle = Callable[[Delivery], Outcome]

# Modules that Python's own C code imports when it first needs them, and the one that does.
HIDDEN = {"datetime": ["_strptime"], "_datetime": ["_strptime"]}

# Codecs beside UTF-8 that messages are written in; others are there if the handler imports `encodings.NAME`.
CODECS = ["ascii", "latin_1", "iso8859_15", "cp1252", "utf_8_sig", "utf_16", "utf_16_le", "utf_16_be"]

# The folders of the build, as Python sees them in the sandbox: `/0` is the handler's, the others are those of packages.
FOLDER = re.compile(r'(File ")/[0-9]+/')


def load() -> Handle:
    """The function `handle` of the module `handler`."""
    before = set(sys.modules)
    for codec in CODECS:
        importlib.import_module(f"encodings.{codec}")
    module = importlib.import_module("handler")
    handle = getattr(module, "handle", None)
    if not callable(handle):
        raise ImportError("`handler.py` has no function `handle`")
    load_late_imports(before)
    for name in set(sys.modules) - before:
        if is_ours(sys.modules[name]):
            remember_source(sys.modules[name])
    prepare_shapes(module)
    return handle


def load_late_imports(before: set[str]) -> None:
    """Imports inside of functions would come too late. Those of the handler and its packages are made now, and so on
    for what they import; of the standard library's modules only their own."""
    seen = set(before)
    while fresh := set(sys.modules) - seen:
        seen |= fresh
        for name in sorted(fresh):
            module = sys.modules.get(name)
            if module is None or (name in LEFT_ALONE and not is_ours(module)):
                continue
            for late in [*HIDDEN.get(name, []), *late_imports(module)]:
                already = set(sys.modules)
                try_import(late)
                if not is_ours(module):
                    seen |= {new for new in set(sys.modules) - already if not is_ours(sys.modules.get(new))}


# Their late imports are many, and serve the command line or a terminal.
LEFT_ALONE = {"importlib", "inspect", "typing", "unittest", "pydoc", "doctest", "pdb"}


def late_imports(module: ModuleType) -> Iterator[str]:
    """The names of the modules that functions of this one import."""
    try:
        tree = ast.parse(Path(module.__file__ or "").read_bytes())
    except (AttributeError, OSError, SyntaxError, ValueError):
        return
    package = getattr(module, "__package__", None) or ""
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = package.split(".")
                    parents = parents[: len(parents) - node.level + 1]
                    base = ".".join([*parents, base] if base else parents)
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def try_import(name: str) -> None:
    try:
        importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - what is not there now is an error only for a delivery that needs it.
        pass


def is_ours(module: ModuleType | None) -> bool:
    """Whether it comes from the handler's folder or its packages, and not with Python."""
    file = getattr(module, "__file__", None) or ""
    return FOLDER.match(f'File "{file}') is not None and not file.startswith("/python/")


def remember_source(module: ModuleType) -> None:
    """So that a traceback can show the lines."""
    file = getattr(module, "__file__", None)
    if file and file.endswith(".py"):
        lines = linecache.getlines(file)
        # Without a time of change, the file is never looked for again.
        linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


def prepare_shapes(module: ModuleType) -> None:
    """Reads the handler's dataclasses once, which `delivery.json(…)` would do at each delivery."""
    for value in list(vars(module).values()):
        if isinstance(value, type) and is_dataclass(value):
            shapes.prepare(value)


def without_folders(text: str) -> str:
    """A traceback with files named as they are in the handler's folder."""
    return FOLDER.sub(r"\1", text)
