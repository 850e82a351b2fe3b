#!/usr/bin/env python3
"""Sends by three routing keys, and expects each message back where the manifests say."""

import pika

import common

ANSWERS = {"order": "adapter_answers", "return": "adapter_answers", "complaint": "adapter_desk"}
QUEUES = {"order": "adapter_orders", "return": "adapter_returns", "complaint": "adapter_complaints"}


def main(connection, options):
    channel = connection.channel()
    channel.exchange_declare("adapter", exchange_type="direct", durable=True)
    expected, seen = set(), []

    def receive(channel, method, properties, body):
        seen.append((method.routing_key, properties.headers["from"], body.decode()))
        channel.basic_ack(method.delivery_tag)

    for queue in sorted(set(ANSWERS.values())):
        channel.queue_declare(queue, durable=True)
        channel.basic_consume(queue, receive)
    channel.confirm_delivery()
    for number in range(options.messages):
        key = list(ANSWERS)[number % len(ANSWERS)]
        body = f"{key} {number}"
        channel.basic_publish("adapter", key, body, pika.BasicProperties(delivery_mode=2), mandatory=True)
        expected.add((ANSWERS[key], QUEUES[key], body))

    common.wait(connection, options, lambda: len(seen) < len(expected) and f"{len(seen)} of {len(expected)} answers")
    if sorted(seen) != sorted(expected):
        common.fail(f"other answers came: {sorted(set(seen) ^ expected)[:3]}")
    print(f"{options.messages} sent, and each was answered once, to its queue")


common.run(main, common.count(common.parser(__doc__), 9).parse_args())
