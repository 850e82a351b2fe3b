#!/usr/bin/env python3
"""Sends documents of several kinds in several formats."""

import pika

import common

DOCUMENTS = [("pdf", "report"), ("pdf", "draft"), ("txt", "report"), ("txt", "draft"), ("txt", "letter")]


def main(connection, options):
    channel = connection.channel()
    channel.exchange_declare("documents", exchange_type="headers", durable=True)
    channel.confirm_delivery()
    for number in range(options.messages):
        document, kind = DOCUMENTS[number % len(DOCUMENTS)]
        properties = pika.BasicProperties(delivery_mode=2, headers={"format": document, "kind": kind})
        channel.basic_publish("documents", "", f"{kind} {number + 1} as {document}", properties)
    print(f"{options.messages} documents sent")


common.run(main, common.count(common.parser(__doc__), 5).parse_args())
