#!/usr/bin/env python3
"""Answers which number of Fibonacci it is."""

import pika

import common


def fibonacci(number):
    return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)


def answer(body):
    try:
        number = int(body)
    except ValueError:
        number = -1
    if number < 0:
        return "error: this is no whole number"
    if number > 93:
        return "error: the number is at most 93"
    return str(fibonacci(number))


def receive(channel, method, properties, body):
    if properties.reply_to:
        reply = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", properties.reply_to, answer(body), reply)
    channel.basic_ack(method.delivery_tag)


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.queue_declare("rpc_queue", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("rpc_queue", receive)
common.consume(channel, options)
