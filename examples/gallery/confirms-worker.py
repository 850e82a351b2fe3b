#!/usr/bin/env python3
"""Publishes as many messages as the body says, each confirmed, and then acks."""

import pika

import common


def receive(channel, method, _properties, body):
    properties = pika.BasicProperties(content_type="text/plain", delivery_mode=2)
    try:
        count = int(body)
    except ValueError:
        channel.basic_reject(method.delivery_tag, requeue=False)
        return
    for number in range(count):
        channel.basic_publish("", "burst_out", str(number), properties, mandatory=True)
    channel.basic_ack(method.delivery_tag)


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.queue_declare("burst", durable=True)
channel.queue_declare("burst_out", durable=True)
channel.confirm_delivery()
channel.basic_qos(prefetch_count=1)
channel.basic_consume("burst", receive)
common.consume(channel, options)
