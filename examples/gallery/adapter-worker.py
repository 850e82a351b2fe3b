#!/usr/bin/env python3
"""Listens on three queues, and answers to two others."""

import pika

import common


def forward(to):
    def receive(channel, method, properties, body):
        answer = pika.BasicProperties(delivery_mode=properties.delivery_mode, headers={"from": sources[method.consumer_tag]})
        channel.basic_publish("", to, body, answer)
        channel.basic_ack(method.delivery_tag)

    return receive


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.exchange_declare("adapter", exchange_type="direct", durable=True)
channel.basic_qos(prefetch_count=20)
sources = {}
for queue, key, to in [
    ("adapter_orders", "order", "adapter_answers"),
    ("adapter_returns", "return", "adapter_answers"),
    ("adapter_complaints", "complaint", "adapter_desk"),
]:
    channel.queue_declare(queue, durable=True)
    channel.queue_declare(to, durable=True)
    channel.queue_bind(queue, "adapter", key)
    sources[channel.basic_consume(queue, forward(to))] = queue
common.consume(channel, options)
