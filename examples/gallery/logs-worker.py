#!/usr/bin/env python3
"""Prints every line, or adds it to a file."""

import pika

import common


def receive(channel, method, _properties, body):
    if options.file:
        with open(options.file, "a", encoding="utf-8") as file:
            file.write(body.decode() + "\n")
    else:
        print(body.decode(), flush=True)
    channel.basic_ack(method.delivery_tag)


flags = common.parser(__doc__)
flags.add_argument("--file", help="the file to add lines to")
options = flags.parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.exchange_declare("logs", exchange_type="fanout")
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, "logs")
channel.basic_consume(queue, receive)
common.consume(channel, options)
