"""At build time: loads the handler with all that it may want later, since no file is there any more when it runs."""

from __future__ import annotations

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

# What Python's own C code imports when it first needs it: `datetime.strptime`, and the codecs that messages are written
# in. Others are there if the handler imports `encodings.NAME`.
HIDDEN = [
    "_strptime",
    *(f"encodings.{name}" for name in "ascii latin_1 iso8859_15 cp1252 utf_8_sig utf_16 utf_16_le utf_16_be".split()),
]

# The folders of the build, as Python sees them in the sandbox: `/0` is the handler's, the others are those of packages.
FOLDER = re.compile(r'(File ")/[0-9]+/')


def load() -> Handle:
    """The function `handle` of the module `handler`."""
    for name in HIDDEN:
        importlib.import_module(name)
    before = set(sys.modules)
    module = importlib.import_module("handler")
    handle: Handle | None = getattr(module, "handle", None)
    if handle is None or not callable(handle):
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
            if module is None:
                continue
            for late in late_imports(module):
                if is_ours(module):
                    try_import(late)
                elif late.split(".")[0] not in LEFT_OUT:
                    already = set(sys.modules)
                    try_import(late)
                    seen |= set(sys.modules) - already


# What Python's own modules import late for the command line or for what a sandbox does not have. It would make plugins
# larger by some megabytes, for nothing.
LEFT_OUT = set(
    "argparse asyncio ctypes curses doctest getopt multiprocessing pdb pydoc readline shutil signal socket ssl "
    "subprocess tempfile threading tkinter unittest webbrowser".split()
)


# By the text: a syntax tree would leave megabytes of what it was made of in the memory that is kept. What is not meant,
# such as words in a comment, names no module.
IMPORT_OR_BLOCK = re.compile(
    r"""^ (?P<block> [^\s#)\]}] .*)
      | (?: ^ [ \t]+ | [:;] [ \t]* )
        (?: import [ \t]+ (?P<modules> [\w., \t]+)
          | from [ \t]+ (?P<dots> \.*) (?P<base> [\w.]*) [ \t]+ import [ \t]+ (?P<parts> \([^()]*\) | [\w, \t]+) )""",
    re.MULTILINE | re.VERBOSE,
)


def late_imports(module: ModuleType) -> Iterator[str]:
    """The names of the modules that functions of this one import."""
    try:
        source = Path(module.__file__ or "").read_text(encoding="utf-8")
    except (AttributeError, OSError, ValueError):
        return
    package = getattr(module, "__package__", None) or ""
    is_late = False
    for found in IMPORT_OR_BLOCK.finditer(source):
        if found["block"]:
            # What is in other blocks, such as `try`, has been carried out already.
            is_late = found["block"].startswith(("def ", "async def ", "class "))
        elif not is_late:
            continue
        elif found["modules"]:
            yield from names(found["modules"])
        else:
            base = found["base"]
            if found["dots"]:
                parents = package.split(".")
                parents = parents[: len(parents) - len(found["dots"]) + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            yield from (f"{base}.{part}" for part in names(found["parts"]))


def names(text: str) -> Iterator[str]:
    """Those of `a, b as c`."""
    for part in text.strip("()").split(","):
        if words := part.split():
            yield words[0]


def try_import(name: str) -> None:
    try:
        importlib.import_module(name)
    except BaseException:  # What is not there now is an error only for a delivery that needs it.
        pass


def is_ours(module: ModuleType | None) -> bool:
    """Whether it comes from the handler's folder or its packages, and not with Python."""
    file = getattr(module, "__file__", None) or ""
    return FOLDER.match(f'File "{file}') is not None


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
