"""What the build makes a handler import of the host."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import world


def found(files: dict[str, str]) -> list[str]:
    """The capabilities of a handler with these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, source in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return world.capabilities([Path(folder)])


class Worlds(unittest.TestCase):
    def test_imports_are_found(self) -> None:
        for source, expected in [
            ("", []),
            ("from wabbit_sdk import Delivery, context", []),
            ("from wabbit_sdk import *", []),
            ("from wabbit_sdk import config, keyvalue as kv", ["config", "keyvalue"]),
            ("import wabbit_sdk.http as h, json", ["http"]),
            ("from wabbit_sdk.http import get", ["http"]),
            ("def f():\n    if f:\n        from wabbit_sdk import (\n            http,\n        )", ["http"]),
            (f"x = {'-' * 10_000}1\nimport wabbit_sdk.http", ["http"]),
            ("match x:\n    case 1:\n        import wabbit_sdk.http", ["http"]),
            ("try:\n    pass\nexcept E:\n    from wabbit_sdk import config", ["config"]),
            ("# from wabbit_sdk import http\n'''\nfrom wabbit_sdk import config\n'''", []),
            ("if TYPE_CHECKING:\n    from wabbit_sdk import http\nelse:\n    import wabbit_sdk.config", ["config"]),
            ("if typing.TYPE_CHECKING:\n    from wabbit_sdk import http", []),
            # Of a newer Python than this one.
            ("odd odd\nfrom wabbit_sdk import (http,\n  config as c)\n", ["config", "http"]),
            ("odd odd\n\timport json, wabbit_sdk.keyvalue", ["keyvalue"]),
        ]:
            self.assertEqual(found({"handler.py": source}), expected, source)

    def test_other_modules_count_where_the_handler_imports_them(self) -> None:
        sends, reads = "from wabbit_sdk import http", "import wabbit_sdk.config"
        for files, expected in [
            ({"handler.py": "", "test_handler.py": sends}, []),
            ({"handler.py": "import other", "other.py": f"import handler\n{sends}"}, ["http"]),
            ({"handler.py": "import a.b", "a/__init__.py": sends, "a/b.py": reads}, ["config", "http"]),
            ({"handler.py": "from a import b", "a/b.py": "from . import c", "a/c.py": sends}, ["http"]),
            ({"handler.py": "import a.b.c", "a/b/c.py": "from ..d import e", "a/d.py": sends}, ["http"]),
            ({"handler.py": "import a", "a/__init__.py": "from .b import c", "a/b.py": sends}, ["http"]),
            ({"handler.py": "import a", "a/__init__.py": "", "a/b.py": sends}, []),
            ({"handler.py": "import a.b", "a/b.py": "odd odd\nfrom . import c", "a/c.py": sends}, ["http"]),
            ({"handler.py": "from . import other\nfrom ... import b", "other.py": sends}, []),
        ]:
            self.assertEqual(found(files), expected, files)

    def test_the_world_has_no_other_imports(self) -> None:
        base = "package wabbit:python;\nworld handler {\ninclude wabbit:worker/worker@0.1.0;\n"
        self.assertEqual(world.text([]), base + "}\n")
        self.assertEqual(world.text(["http"]), base + "import wasi:http/outgoing-handler@0.2.0;\n}\n")
