"""What the build finds out about a handler."""

import importlib.machinery
import importlib.util
import tempfile
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

from wabbit_sdk import freeze

SOURCE = """
import json
try:
    from decimal import Decimal
except ImportError:
    import fractions

def handle(delivery):
    import csv, xml.dom as dom  # and more
    from . import beside
    from .deeper import (
        found,
        lost as l,
    )
    from ..above import other
    if delivery: import colorsys
    def inner():
        from zoneinfo import ZoneInfo
"""


def load_build() -> Any:
    path = str(Path(__file__).parent.parent / "build")
    loader = importlib.machinery.SourceFileLoader("build", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("build", loader))
    loader.exec_module(module)
    return module


class Freezing(unittest.TestCase):
    def test_imports_inside_of_functions_are_found(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "module.py"
            file.write_text(SOURCE)
            module = ModuleType("outer.inner.module")
            module.__file__, module.__package__ = str(file), "outer.inner"
            found = set(freeze.late_imports(module))
        inside = {"outer.inner", "outer.inner.beside", "outer.inner.deeper", "outer.inner.deeper.lost", "outer.above"}
        self.assertLessEqual({"csv", "xml.dom", "colorsys", "zoneinfo"} | inside, found)
        self.assertFalse({"json", "decimal", "fractions"} & found)

    def test_files_are_named_as_in_the_handlers_folder(self) -> None:
        text = '  File "/0/handler.py", line 1\n  File "/python/lib/python3.14/json/__init__.py", line 2'
        expected = '  File "handler.py", line 1\n  File "/python/lib/python3.14/json/__init__.py", line 2'
        self.assertEqual(freeze.without_folders(text), expected)

    def test_errors_of_the_compiler_name_the_files_of_this_machine(self) -> None:
        output = """Traceback (most recent call last):
  File "x/componentize-py", line 8, in <module>
AssertionError: Traceback (most recent call last):
  File "/1/wabbit_sdk/export.py", line 24, in <module>
  File "/0/handler.py", line 1, in <module>
    import nosuch
ModuleNotFoundError: No module named 'nosuch'


Caused by:
    ModuleNotFoundError: No module named 'nosuch'

Stack backtrace:
   0: anyhow
"""
        expected = """Traceback (most recent call last):
  File "sdk/wabbit_sdk/export.py", line 24, in <module>
  File "src/handler.py", line 1, in <module>
    import nosuch
ModuleNotFoundError: No module named 'nosuch'
error: src/handler.py does not compile
hint: name the package of `nosuch` in src/requirements.txt"""
        self.assertEqual(load_build().explain(output, Path("src"), Path("packages"), Path("sdk")), expected)
        hint = "hint: import what is in `wabbit_sdk` by `import` statements, since those say what the handler needs"
        for raised in [
            "ModuleNotFoundError: No module named 'wit_world.imports.config_store'",
            "ImportError: cannot import name 'http_handler' from 'wit_world.imports' (/world/wit_world/imports)",
        ]:
            told = load_build().explain(f"AssertionError: {raised}", Path("src"), Path("packages"), Path("sdk"))
            self.assertEqual(told, f"{raised}\nerror: src/handler.py does not compile\n{hint}")
