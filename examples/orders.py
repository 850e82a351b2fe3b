#!/usr/bin/env python3
"""The shop of the orders example, and those who wait for its mail and reports.

It publishes orders to the exchange `order`, as any shop would that knows nothing of wabbit, and listens on queues of its
own for what the two handlers make of them. It ends well when every order was both notified and reported.

    examples/orders.py [--url URL] [--orders 100] [--deadline 60]
"""

import argparse
import json
import os
import re
import secrets
import sys
import time

try:
    import pika
    import pika.exceptions
except ImportError:
    sys.exit("error: the package `pika` is not installed\n"
             "hint: scripts/require-python installs it into target/python; then set PYTHONPATH=target/python")

PRODUCTS = ["hay", "carrots", "a hutch", "a brush", "willow sticks"]
SHOWN = 3


class Arrivals:
    """What arrived for each order, by the words that name the order in it."""

    def __init__(self, pattern):
        self.pattern = re.compile(pattern)
        self.texts = {}
        self.repeated = 0

    def take(self, body):
        """Files a message; one that belongs to none of our orders is left out."""
        text = body.decode("utf-8", errors="replace")
        found = self.pattern.search(text)
        if found and found.group() in self.texts:
            self.repeated += 1
        elif found:
            self.texts[found.group()] = text

    def missing(self, expected):
        return [key for key in expected if key not in self.texts]


def main():
    arguments = parse_arguments()
    # Tells the orders of this run from all others, so that several may run side by side.
    run = secrets.token_hex(3)
    orders = [
        {
            "id": f"{run}-{number}",
            "user_email": f"customer-{number}.{run}@example.com",
            "product": PRODUCTS[number % len(PRODUCTS)],
            "quantity": number % 4 + 1,
        }
        for number in range(1, arguments.orders + 1)
    ]
    mails = Arrivals(rf"customer-\d+\.{run}@example\.com")
    reports = Arrivals(rf"\b{run}-\d+\b")

    try:
        with pika.BlockingConnection(pika.URLParameters(arguments.url)) as connection:
            listen(connection, "mail", "order.notify", mails)
            listen(connection, "reports", "order.report", reports)
            publish(connection, orders)
            print(f"published {len(orders)} orders, each to be notified and to be reported")
            wait(connection, orders, mails, reports, arguments.deadline)
    except pika.exceptions.UnroutableError:
        return fail("an order was returned: no queue is bound to the exchange `order`",
                    "is the host running, with the manifests of this project?")
    except pika.exceptions.AMQPConnectionError as error:
        return fail(f"no connection to the broker: {str(error) or 'nobody answers there'}", "see --url")
    except pika.exceptions.AMQPError as error:
        return fail(f"the broker refused: {error!r}")

    show("mails", mails)
    show("reports", reports)
    missing = [f"no mail to {key}" for key in mails.missing(order["user_email"] for order in orders)]
    missing += [f"no report on order {key}" for key in reports.missing(order["id"] for order in orders)]
    if missing:
        more = f", and {len(missing) - 5} more" if len(missing) > 5 else ""
        return fail(f"after {arguments.deadline:g} s: {', '.join(missing[:5])}{more}")
    print(f"\nevery one of the {len(orders)} orders was notified and reported")
    return 0


def parse_arguments():
    default = os.environ.get("WABBIT_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f")
    # Of several addresses, the first.
    default = default.split(",amqp")[0]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=default, help="the broker (default: WABBIT_AMQP_URL, or the local one)")
    parser.add_argument("--orders", type=int, default=100, help="how many to publish (default: %(default)s)")
    parser.add_argument("--deadline", type=float, default=60, metavar="SECONDS",
                        help="how long to wait for mails and reports (default: %(default)s)")
    return parser.parse_args()


def listen(connection, exchange, routing_key, arrivals):
    """Binds a queue of our own, gone when we are, and files what it receives."""
    channel = connection.channel()
    channel.exchange_declare(exchange, exchange_type="direct", durable=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, routing_key)
    channel.basic_consume(queue, lambda _channel, _method, _properties, body: arrivals.take(body), auto_ack=True)


def publish(connection, orders):
    """Publishes each order twice: the address for the notification, all of it for the report.

    With confirms on, and mandatory, an order that no queue takes is an error instead of being lost in silence.
    """
    channel = connection.channel()
    channel.exchange_declare("order", exchange_type="direct", durable=False)
    channel.confirm_delivery()
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    for order in orders:
        address = {"user_email": order["user_email"]}
        for routing_key, content in (("order.notify", address), ("order.report", order)):
            channel.basic_publish("order", routing_key, json.dumps(content), properties, mandatory=True)


def wait(connection, orders, mails, reports, deadline):
    """Receives until all is there, or until the deadline."""
    end = time.monotonic() + deadline
    while time.monotonic() < end and min(len(mails.texts), len(reports.texts)) < len(orders):
        connection.process_data_events(time_limit=min(0.5, deadline))


def show(name, arrivals):
    """Prints the first few, each on one line."""
    repeated = f", and {arrivals.repeated} repeated" if arrivals.repeated else ""
    print(f"\n{len(arrivals.texts)} {name}{repeated}")
    for text in list(arrivals.texts.values())[:SHOWN]:
        line = " ".join(text.split())
        print("  " + (line if len(line) <= 100 else line[:99] + "…"))
    if len(arrivals.texts) > SHOWN:
        print("  …")


def fail(message, hint=None):
    sys.stdout.flush()
    print(f"\nerror: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
