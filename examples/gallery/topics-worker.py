#!/usr/bin/env python3
"""Prints lines by the patterns that are named."""

import pika

import common


def receive(channel, method, _properties, body):
    print(f"{method.routing_key}: {body.decode()}", flush=True)
    channel.basic_ack(method.delivery_tag)


flags = common.parser(__doc__)
flags.add_argument("patterns", nargs="+", metavar="PATTERN")
options = flags.parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.exchange_declare("topic_logs", exchange_type="topic")
queue = channel.queue_declare("", exclusive=True).method.queue
for pattern in options.patterns:
    channel.queue_bind(queue, "topic_logs", pattern)
channel.basic_consume(queue, receive)
common.consume(channel, options)
