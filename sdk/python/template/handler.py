"""Greets whomever a message names."""

from wabbit_sdk import Delivery, Outcome, Publication


def handle(delivery: Delivery) -> Outcome:
    name = delivery.text()
    if not name:
        return Outcome.dead_letter("there is nobody to greet")
    print("greeting", name)
    return Outcome.ack(Publication.text("", "greetings", f"Hello, {name}!"))
