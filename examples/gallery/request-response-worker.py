#!/usr/bin/env python3
"""Answers requests to add a patient."""

import json
import time

import pika

import common

patients = {}


def answer(properties, body):
    if properties.type != "add":
        return {"error": f"nobody knows requests of type `{properties.type or ''}`"}
    try:
        patient = json.loads(body)
        name = patient["name"]
    except (ValueError, KeyError, TypeError) as error:
        return {"error": f"the body is not the JSON expected: {error}"}
    if name in patients:
        return {"known": name}
    patients[name] = patient
    return {"added": name}


def receive(channel, method, properties, body):
    late = time.time() * 1000 - (properties.headers or {}).get("deadline", float("inf"))
    if late > 0:
        print(f"a request came {late:.0f} ms too late: it is dropped", flush=True)
    elif properties.reply_to:
        reply = pika.BasicProperties(correlation_id=properties.correlation_id, content_type="application/json")
        channel.basic_publish("", properties.reply_to, json.dumps(answer(properties, body)), reply)
    channel.basic_ack(method.delivery_tag)


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.exchange_declare("api", exchange_type="direct", durable=True, auto_delete=True)
channel.queue_declare("add_patient", durable=True, auto_delete=True)
channel.queue_bind("add_patient", "api", "add_patient")
channel.basic_consume("add_patient", receive)
common.consume(channel, options)
