#!/usr/bin/env python3
"""The adapter once more, with a part of what a host does by itself: it reconnects, waits for confirms, tries again after
pauses that grow, and leaves dead letters with the reason."""

import time

import pika
import pika.exceptions

import common

ROUTES = {
    "adapter_orders": ("order", "adapter_answers"),
    "adapter_returns": ("return", "adapter_answers"),
    "adapter_complaints": ("complaint", "adapter_desk"),
}
ATTEMPTS = 5


def declare(channel):
    channel.exchange_declare("adapter", exchange_type="direct", durable=True)
    for queue, (key, to) in ROUTES.items():
        for name in (queue, to, f"{queue}.dead"):
            channel.queue_declare(name, durable=True)
        channel.queue_bind(queue, "adapter", key)
        for attempt in range(1, ATTEMPTS):
            channel.queue_declare(f"{queue}.wait-{attempt}", durable=True, arguments={
                "x-message-ttl": 1000 * 2 ** (attempt - 1),
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": queue,
            })


def receive(channel, method, properties, body):
    queue = method.consumer_tag
    headers = dict(properties.headers or {})
    attempt = headers.pop("x-attempt", 1)
    try:
        answer = pika.BasicProperties(delivery_mode=properties.delivery_mode, headers={"from": queue})
        channel.basic_publish("", ROUTES[queue][1], body, answer, mandatory=True)
    except pika.exceptions.AMQPConnectionError:
        raise
    except Exception as error:
        properties.headers = headers | {"x-attempt": attempt + 1, "x-error": repr(error)[:1000]}
        properties.delivery_mode, properties.expiration = 2, None
        place = f"{queue}.wait-{attempt}" if attempt < ATTEMPTS else f"{queue}.dead"
        channel.basic_publish("", place, body, properties, mandatory=True)
    channel.basic_ack(method.delivery_tag)


def work(options):
    with pika.BlockingConnection(pika.URLParameters(options.url)) as connection:
        channel = connection.channel()
        declare(channel)
        channel.confirm_delivery()
        channel.basic_qos(prefetch_count=20)
        for queue in ROUTES:
            channel.basic_consume(queue, receive, consumer_tag=queue)
        common.consume(channel, options)


options = common.parser(__doc__).parse_args()
end, pause = time.monotonic() + options.deadline, 0.1
while time.monotonic() < end:
    began = time.monotonic()
    try:
        work(options)
    except pika.exceptions.AMQPError as error:
        pause = 0.1 if time.monotonic() - began > 60 else min(2 * pause, 30)
        print(f"no broker: {error!r}; next try in {pause:.1f} s", flush=True)
        time.sleep(pause)
