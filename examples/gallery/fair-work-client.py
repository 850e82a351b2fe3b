#!/usr/bin/env python3
"""Sends the numbers from 0 to N - 1 once the workers are there, and expects each of them back once."""

import pika

import common


def main(connection, options):
    channel = connection.channel()
    channel.queue_declare("worker_queue", durable=True)
    channel.queue_declare("worker_done", durable=True)

    def too_few():
        there = channel.queue_declare("worker_queue", passive=True).method.consumer_count
        return there < options.workers and f"{there} of {options.workers} workers consume"

    common.wait(connection, options, too_few)
    counts = [0] * options.messages
    done = repeated = 0

    def receive(channel, method, _properties, body):
        nonlocal done, repeated
        counts[int(body)] += 1
        if counts[int(body)] == 1:
            done += 1
        else:
            repeated += 1
        if done % 500 == 0 or done == options.messages:
            channel.basic_ack(method.delivery_tag, multiple=True)

    for number in range(options.messages):
        channel.basic_publish("", "worker_queue", str(number))
        if options.rate:
            connection.sleep(1 / options.rate)
    channel.basic_qos(prefetch_count=2000)
    channel.basic_consume("worker_done", receive)
    common.wait(connection, options, lambda: done < options.messages and f"{done} of {options.messages} were handled")
    # What comes twice comes soon after.
    connection.sleep(0.5)
    if repeated:
        common.fail(f"{repeated} numbers were handled more than once")
    print(f"each of {options.messages} numbers was handled once")


flags = common.count(common.parser(__doc__), 1000)
flags.add_argument("--rate", type=float, metavar="N",
                   help="how many to publish in a second (default: as many as the broker takes)")
flags.add_argument("--workers", type=int, default=1, metavar="N", help="how many to wait for (default: %(default)s)")
common.run(main, flags.parse_args())
