"""What the README shows of reaching outside, run as it stands there."""

import contextlib
import io
import re
import tempfile
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wabbit_sdk

README = Path(__file__).parent.parent / "README.md"


class Readme(unittest.TestCase):
    def test_the_examples_run(self) -> None:
        section = README.read_text().split("## Reaching outside\n")[1].split("\n## ")[0]
        blocks = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        self.assertEqual(len(blocks), 5)
        names: dict[str, Any] = {name: getattr(wabbit_sdk, name) for name in ("Delivery", "Outcome", "Publication")}
        names |= {"dataclass": dataclass, "Path": Path, "unittest": unittest, "__name__": __name__}
        printed = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
            for block in blocks:
                exec(block.replace('"/reports"', repr(folder)), names)
            suite = unittest.defaultTestLoader.loadTestsFromTestCase(names["Capabilities"])
            result = unittest.TextTestRunner(io.StringIO()).run(suite)
            for text in "ab":
                names["report"](wabbit_sdk.Delivery(text))
            self.assertEqual(Path(folder, "today.txt").read_text(), "a\nb\n")
        self.assertEqual((result.testsRun, [text for _, text in result.failures + result.errors]), (1, []))
        self.assertIn("with the token ***", printed.getvalue())
