#!/usr/bin/env python3
"""Shows each score as it comes, and none that came before."""

import pika

import common


def receive(_channel, _method, _properties, body):
    print(body.decode(), flush=True)


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.exchange_declare("score_updates", exchange_type="fanout", auto_delete=True)
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, "score_updates")
channel.basic_consume(queue, receive, auto_ack=True)
common.consume(channel, options)
