#!/usr/bin/env python3
"""Takes one number at a time, and hands it on."""

import pika

import common


def receive(channel, method, properties, body):
    answer = pika.BasicProperties(delivery_mode=properties.delivery_mode, headers={"from": "worker_queue"})
    channel.basic_publish("", "worker_done", body, answer)
    channel.basic_ack(method.delivery_tag)


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.queue_declare("worker_queue", durable=True)
channel.queue_declare("worker_done", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("worker_queue", receive)
common.consume(channel, options)
