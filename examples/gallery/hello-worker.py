#!/usr/bin/env python3
"""Prints what comes to the queue `hello`."""

import pika

import common


def receive(channel, method, _properties, body):
    print(body.decode(), flush=True)
    channel.basic_ack(method.delivery_tag)


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.queue_declare("hello", durable=True)
channel.basic_consume("hello", receive)
common.consume(channel, options)
