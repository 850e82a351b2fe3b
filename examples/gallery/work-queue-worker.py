#!/usr/bin/env python3
"""Works on one task after the other, a second for each dot."""

import pika

import common


def work(channel, method, _properties, body):
    task = body.decode()
    print(f"begins: {task}", flush=True)
    # Sleeping by the connection keeps its heartbeat going.
    channel.connection.sleep(task.count("."))
    print(f"done: {task}", flush=True)
    channel.basic_ack(method.delivery_tag)


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.queue_declare("task_queue", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("task_queue", work)
common.consume(channel, options)
