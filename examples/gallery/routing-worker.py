#!/usr/bin/env python3
"""Prints lines of the severities that are named, or adds them to a file."""

import pika

import common


def receive(channel, method, _properties, body):
    line = f"{method.routing_key}: {body.decode()}"
    if options.file:
        with open(options.file, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    else:
        print(line, flush=True)
    channel.basic_ack(method.delivery_tag)


flags = common.parser(__doc__)
flags.add_argument("severities", nargs="+", metavar="SEVERITY")
flags.add_argument("--file", help="the file to add lines to")
options = flags.parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.exchange_declare("direct_logs", exchange_type="direct")
queue = channel.queue_declare("", exclusive=True).method.queue
for severity in options.severities:
    channel.queue_bind(queue, "direct_logs", severity)
channel.basic_consume(queue, receive)
common.consume(channel, options)
