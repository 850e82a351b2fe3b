"""What componentize-py takes for the component: it imports this module when it builds, keeps the memory as it then
is, and each delivery starts from a copy of that. So all that can be done here costs nothing for a delivery.
"""

from __future__ import annotations

import gc
import sys
from io import TextIOWrapper
from types import ModuleType
from typing import cast

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import types as wit

from . import contract, freeze
from .answer import Failure, answer
from .delivery import Delivery
from .outcome import Outcome
from .publication import Publication

# What is printed goes to the host's log at once, so that nothing is lost however the call ends.
for stream in (sys.stdout, sys.stderr):
    cast(TextIOWrapper, stream).reconfigure(write_through=True, errors="backslashreplace")

handle = freeze.load()


class Handler(exports.Handler):
    """The export `wabbit:worker/handler`."""

    def handle(self, delivery: wit.Delivery) -> wit.Outcome:
        return respond(handle, delivery)


def respond(handle: freeze.Handle, delivery: wit.Delivery) -> wit.Outcome:
    try:
        return contract.lower(answer(handle, contract.lift(delivery)))
    except Failure as failure:
        raise Err(contract.printable(freeze.without_folders(str(failure)))) from None


def warm_up() -> None:
    """Python rewrites code that has run some times into a quicker form. Done here, no delivery pays for it."""

    def greet(delivery: Delivery) -> Outcome:
        value = delivery.json()
        return Outcome.ack(Publication.json("", "greetings", value, headers=delivery.headers))

    headers: list[tuple[str, wit.Field]] = [("text", wit.Field_Text("text")), ("number", wit.Field_Integer(1))]
    properties = wit.Properties("text/plain", None, headers, False, *[None] * 9)
    for _ in range(50):
        respond(greet, wit.Delivery(b'{"name": "Ada"}', properties, "", "greet", "greet", False, 1))


def spare_the_seed() -> None:
    """componentize-py has `random` seeded anew for every instance, which takes a tenth of the time of a delivery:
    not where nobody has imported it."""
    if "random" not in sys.modules:
        # No more than it asks for: an import at run time finds nothing, rather than a seed that is always the same.
        unseeded = ModuleType("random")
        unseeded.seed = lambda: None  # type: ignore[attr-defined]
        sys.modules["random"] = unseeded


warm_up()
spare_the_seed()
# What is there now stays: no collection need ever look through it, and touch all of its pages.
gc.collect()
gc.freeze()
