"""Notifies whoever ordered: an order becomes a mail message."""

from dataclasses import dataclass

from wabbit_sdk import Delivery, Outcome, Publication


@dataclass
class Order:
    user_email: str


@dataclass
class Mail:
    to: str
    subject: str
    text: str


def handle(delivery: Delivery) -> Outcome:
    # An order that cannot be read goes to the dead-letter queue, with what is wrong with it.
    order = delivery.json(Order)
    print("notifying", order.user_email)

    mail = Mail(order.user_email, "Your order", "Thank you for your order. We are packing it now.")
    return Outcome.ack(Publication.json("mail", "order.notify", mail, persistent=True))
