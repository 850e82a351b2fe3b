#!/usr/bin/env python3
"""Sends to the queue `hello`, and sees that somebody takes it."""

import pika

import common


def main(connection, options):
    channel = connection.channel()
    channel.queue_declare("hello", durable=True)
    channel.confirm_delivery()
    properties = pika.BasicProperties(delivery_mode=2)
    for number in range(1, options.messages + 1):
        body = "Hello World!" if number == 1 else f"Hello World! ({number})"
        channel.basic_publish("", "hello", body, properties, mandatory=True)
    print(f"{options.messages} sent")

    def missing():
        left = channel.queue_declare("hello", passive=True).method.message_count
        return left and f"{left} are left in the queue"

    common.wait(connection, options, missing)
    print("all were taken")


common.run(main, common.count(common.parser(__doc__), 1).parse_args())
