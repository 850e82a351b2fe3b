#!/usr/bin/env python3
"""Has bursts of 1,000 messages published, and expects all of them."""

import collections

import pika

import common

BURST = 1000


def main(connection, options):
    channel = connection.channel()
    channel.queue_declare("burst", durable=True)
    channel.queue_declare("burst_out", durable=True)
    counts = collections.Counter()

    def receive(channel, method, _properties, body):
        counts[int(body)] += 1
        channel.basic_ack(method.delivery_tag)

    channel.basic_qos(prefetch_count=500)
    channel.basic_consume("burst_out", receive)
    sender = connection.channel()
    sender.confirm_delivery()
    bursts = max(1, options.messages // BURST)
    for _ in range(bursts):
        sender.basic_publish("", "burst", str(BURST), pika.BasicProperties(delivery_mode=2), mandatory=True)
    common.wait(connection, options, lambda: counts.total() < bursts * BURST and f"{counts.total()} messages came")
    if counts != collections.Counter({number: bursts for number in range(BURST)}):
        common.fail("not each number came once for each burst")
    print(f"{bursts * BURST} messages came, for {bursts} that were sent")


common.run(main, common.count(common.parser(__doc__), 3000).parse_args())
