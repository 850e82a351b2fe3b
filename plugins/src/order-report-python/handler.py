"""Reports each order as a page of plain text."""

from __future__ import annotations

from dataclasses import dataclass

from wabbit_sdk import Delivery, Outcome, Publication


@dataclass
class Order:
    # Some shops number their orders, others name them.
    id: int | str
    user_email: str
    product: str
    quantity: int

    def __post_init__(self) -> None:
        if isinstance(self.id, int) and not -(2**63) <= self.id < 2**63:
            raise ValueError("an order's `id` is a whole number of 64 bits or a text")
        if not 0 < self.quantity < 2**32:
            raise ValueError("an order's `quantity` is a whole number from 1 to 4294967295")

    def report(self) -> str:
        return f"Order {self.id}\n\nCustomer: {self.user_email}\nProduct:  {self.product}\nQuantity: {self.quantity}\n"


def handle(delivery: Delivery) -> Outcome:
    # An order that cannot be read goes to the dead-letter queue, with what is wrong with it.
    order = delivery.json(Order)
    order_id = str(order.id)
    print("reporting order", order_id)

    report = Publication.text(
        "reports",
        "order.report",
        order.report(),
        message_id=order_id,
        headers={"order-id": order_id},
        persistent=True,
    )
    return Outcome.ack(report)
