#!/usr/bin/env python3
"""Keeps the record of each patient as a file."""

import json
import os

import pika

import common


def receive(channel, method, _properties, body):
    patient = json.loads(body)
    half = os.path.join(options.folder, f".{int(patient['id'])}")
    with open(half, "wb") as file:
        file.write(body)
    os.replace(half, os.path.join(options.folder, f"{int(patient['id'])}.json"))
    print(f"{options.name} has the record of {patient['name']}", flush=True)
    channel.basic_ack(method.delivery_tag)


flags = common.parser(__doc__)
flags.add_argument("name", choices=["scheduling", "reporting"], help="who keeps them")
flags.add_argument("folder", help="where they are kept")
options = flags.parse_args()
os.makedirs(options.folder, exist_ok=True)
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
queue = f"notify.patient.add.{options.name}"
channel.exchange_declare("notify.patient.add", exchange_type="fanout", durable=True)
channel.queue_declare(queue, durable=True)
channel.queue_bind(queue, "notify.patient.add")
channel.basic_consume(queue, receive)
common.consume(channel, options)
