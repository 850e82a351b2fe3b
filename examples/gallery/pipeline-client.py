#!/usr/bin/env python3
"""Sends purchases, some of them twice, and expects the recommendations that they come to."""

import collections
import itertools
import json
import random

import pika

import common

PRODUCTS = ["brush", "carrots", "hay", "hutch", "straw", "sticks"]
SHOWN = 3


def purchases(number):
    """The same in each run, and about one in five repeats an earlier one."""
    chance = random.Random(1)
    made = [(f"customer-{chance.randrange(number // 3 + 1)}", chance.choice(PRODUCTS)) for _ in range(number)]
    return made + chance.sample(made, number // 4)


def recommendations(made):
    """For each product the others of its buyers, with how many these are."""
    baskets = collections.defaultdict(set)
    for customer, product in made:
        baskets[customer].add(product)
    counts = collections.defaultdict(collections.Counter)
    for basket in baskets.values():
        for one, other in itertools.permutations(basket, 2):
            counts[one][other] += 1
    return {product: sorted(also.items(), key=lambda pair: (-pair[1], pair[0]))[:SHOWN]
            for product, also in counts.items()}


def main(connection, options):
    channel = connection.channel()
    channel.queue_declare("shop_purchases", durable=True)
    channel.queue_declare("shop_recommendations", durable=True)
    made = purchases(options.messages)
    expected, seen = recommendations(made), {}

    def receive(channel, method, _properties, body):
        told = json.loads(body)
        seen[told["product"]] = [(also["product"], also["customers"]) for also in told["also"]]
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume("shop_recommendations", receive)
    sender = connection.channel()
    sender.confirm_delivery()
    for customer, product in made:
        properties = pika.BasicProperties(content_type="application/json", delivery_mode=2,
                                          headers={"customer": customer})
        body = json.dumps({"customer": customer, "product": product})
        sender.basic_publish("", "shop_purchases", body, properties, mandatory=True)

    common.wait(connection, options, lambda: seen != expected and f"recommended is {seen}, and not {expected}")
    # Nothing changes any more.
    connection.sleep(0.5)
    if seen != expected:
        common.fail(f"recommended is {seen}, and not {expected}")
    print(f"{len(made)} purchases sent")
    for product, also in sorted(seen.items()):
        print(f"who bought {product} bought {', '.join(f'{other} ({count})' for other, count in also)}")


common.run(main, common.count(common.parser(__doc__), 40).parse_args())
