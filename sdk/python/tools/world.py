"""What a handler imports of the host: the modules of `wabbit_sdk` for it, found in the handler's source.

A plugin must import nothing that its handler does not use, since the manifest has to grant it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

# The modules that reach outside, with the interfaces that each of them needs.
CAPABILITIES = {
    "config": ["wasi:config/store@0.2.0-rc.1"],
    "http": ["wasi:http/outgoing-handler@0.2.0"],
    "keyvalue": ["wasi:keyvalue/store@0.2.0-draft", "wasi:keyvalue/atomics@0.2.0-draft"],
}

# What the modules of `wabbit_sdk` call interfaces whose own names say too little.
NAMES = {
    "wabbit:worker/types@0.1.0": "types",
    "wasi:config/store@0.2.0-rc.1": "config_store",
    "wasi:http/outgoing-handler@0.2.0": "http_handler",
    "wasi:http/types@0.2.0": "http_types",
    "wasi:io/streams@0.2.0": "io_streams",
    "wasi:keyvalue/atomics@0.2.0-draft": "keyvalue_atomics",
    "wasi:keyvalue/store@0.2.0-draft": "keyvalue_store",
}

# For what the Python at hand is too old to read.
IMPORT = re.compile(
    r"""^ [ \t]* (?: import [ \t]+ (?P<modules> [\w., \t]+)
      | from [ \t]+ (?P<dots> \.*) (?P<base> [\w.]*) [ \t]+ import [ \t]+ (?P<parts> \([^()]*\) | [\w, \t]+) )""",
    re.MULTILINE | re.VERBOSE,
)


def capabilities(folders: list[Path]) -> list[str]:
    """Those that the module `handler` imports, itself or by other modules in these folders."""
    wanted: set[str] = set()
    seen: set[Path] = set()
    rest = ["handler"]
    while rest:
        name = rest.pop()
        package, _, module = name.partition(".")
        if package == "wabbit_sdk":
            wanted.add(module.split(".")[0])
            continue
        for file, package in files(name, folders):
            if file not in seen:
                seen.add(file)
                rest += imports(file.read_bytes(), package)
    return [capability for capability in CAPABILITIES if capability in wanted]


def text(names: Iterable[str]) -> str:
    """The world of a handler with those capabilities, as WIT."""
    lines = [f"import {interface};" for name in names for interface in CAPABILITIES[name]]
    return "\n".join(
        ["package wabbit:python;", "world handler {", "include wabbit:worker/worker@0.1.0;", *lines, "}", ""]
    )


def files(name: str, folders: list[Path]) -> Iterator[tuple[Path, str]]:
    """The files that importing a module runs, each with the package that it is in."""
    parts = name.split(".")
    if "" in parts:
        return
    for end in range(1, len(parts) + 1):
        path, package = Path(*parts[:end]), ".".join(parts[:end])
        for folder in folders:
            if (file := folder / path / "__init__.py").is_file():
                yield file, package
                break
            if (file := folder / path.with_suffix(".py")).is_file():
                yield file, package.rpartition(".")[0]
                break


def imports(source: bytes, package: str) -> list[str]:
    """The names that a module imports. What is imported from a module may be a module, too."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return list(by_text(source.decode(errors="replace"), package))
    return list(by_tree(tree.body, package))


def by_tree(nodes: Iterable[ast.AST], package: str) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node.level, node.module or "", package)
            yield base
            yield from (f"{base}.{name.name}" for name in node.names)
        elif isinstance(node, ast.If) and is_type_checking(node.test):
            yield from by_tree(node.orelse, package)
        else:
            within = (ast.stmt, ast.excepthandler, ast.match_case)
            yield from by_tree((child for child in ast.iter_child_nodes(node) if isinstance(child, within)), package)


def is_type_checking(test: ast.expr) -> bool:
    """Whether it is true for type checkers alone."""
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def by_text(source: str, package: str) -> Iterator[str]:
    for found in IMPORT.finditer(source):
        names = (found["modules"] or found["parts"]).strip("()").split(",")
        names = [words[0] for name in names if (words := name.split())]
        if found["modules"]:
            yield from names
        else:
            base = absolute(len(found["dots"]), found["base"], package)
            yield base
            yield from (f"{base}.{name}" for name in names)


def absolute(level: int, base: str, package: str) -> str:
    """The name that `from ..base import` means in a module of that package, with `level` dots."""
    if level == 0:
        return base
    parents = package.split(".")
    parents = parents[: len(parents) - level + 1]
    return ".".join([*parents, base] if base else parents)
