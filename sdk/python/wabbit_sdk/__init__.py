"""Write handlers for wabbit, WebAssembly workers for RabbitMQ.

A handler is one function from a delivery to an outcome, in a file named `handler.py`:

    from dataclasses import dataclass

    from wabbit_sdk import Delivery, Outcome, Publication


    @dataclass
    class Order:
        user_email: str


    def handle(delivery: Delivery) -> Outcome:
        order = delivery.json(Order)
        print("notifying", order.user_email)
        mail = {"to": order.user_email, "text": "We are packing your order."}
        return Outcome.ack(Publication.json("mail", "order.notify", mail, persistent=True))

The delivery is acked only after the broker has confirmed every publication. An exception is a failure: nothing is
published, and the manifest's failure policy decides.

Modules for what a manifest grants, each for `from wabbit_sdk import …`: `config` reads settings and secrets, `keyvalue`
keeps what outlives a delivery, `http` sends requests. A plugin imports only those that its handler does.
"""

from . import context
from .delivery import Delivery
from .errors import BodyError, DeadLetter, Retry
from .outcome import Outcome
from .properties import FieldValue, Json, Properties, Timestamp
from .publication import Publication

__all__ = [
    "BodyError",
    "DeadLetter",
    "Delivery",
    "FieldValue",
    "Json",
    "Outcome",
    "Properties",
    "Publication",
    "Retry",
    "Timestamp",
    "context",
]
