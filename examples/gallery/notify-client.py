#!/usr/bin/env python3
"""Tells of new patients."""

import json

import pika

import common

NAMES = ["Ada", "Alan", "Edsger", "Grace"]


def main(connection, options):
    channel = connection.channel()
    channel.exchange_declare("notify.patient.add", exchange_type="fanout", durable=True)
    channel.confirm_delivery()
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    for number in range(options.first, options.first + options.messages):
        patient = {"id": number, "name": NAMES[number % len(NAMES)]}
        channel.basic_publish("notify.patient.add", "", json.dumps(patient), properties, mandatory=True)
    print(f"{options.messages} records sent")


flags = common.count(common.parser(__doc__), 4)
flags.add_argument("--first", type=int, default=1, metavar="ID", help="of the first patient (default: %(default)s)")
common.run(main, flags.parse_args())
