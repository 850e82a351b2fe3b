#!/usr/bin/env python3
"""Recommends what those bought, too, who bought a product: baskets, pairs and recommendations, one after the other."""

import collections
import json

import pika

import common

baskets = collections.defaultdict(list)
counts = collections.Counter()
counted = set()


def publish(channel, queue, body, message_id=None):
    channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, message_id=message_id))


def purchase(channel, method, _properties, body):
    try:
        bought = json.loads(body)
        customer, product = bought["customer"], bought["product"]
    except (ValueError, KeyError, TypeError):
        channel.basic_reject(method.delivery_tag, requeue=False)
        return
    others = [other for other in baskets[customer] if other != product]
    for other in others:
        one, two = sorted([product, other])
        publish(channel, "shop_pairs", json.dumps({"one": one, "other": two}), f"{customer}/{one}/{two}")
    baskets[customer] = (others + [product])[-50:]
    channel.basic_ack(method.delivery_tag)


def pair(channel, method, properties, body):
    bought = json.loads(body)
    if properties.message_id not in counted:
        counted.add(properties.message_id)
        counts[bought["one"], bought["other"]] += 1
        for product in (bought["one"], bought["other"]):
            publish(channel, "shop_changed", product)
    channel.basic_ack(method.delivery_tag)


def changed(channel, method, _properties, body):
    product = body.decode()
    also = []
    for (one, other), customers in counts.items():
        if product in (one, other):
            also.append({"product": other if product == one else one, "customers": customers})
    also.sort(key=lambda entry: (-entry["customers"], entry["product"]))
    publish(channel, "shop_recommendations", json.dumps({"product": product, "also": also[:3]}))
    channel.basic_ack(method.delivery_tag)


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
for queue in ["shop_purchases", "shop_pairs", "shop_changed", "shop_recommendations"]:
    channel.queue_declare(queue, durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("shop_purchases", purchase)
channel.basic_consume("shop_pairs", pair)
channel.basic_consume("shop_changed", changed)
common.consume(channel, options)
