#!/usr/bin/env python3
"""Prints documents by what their headers say."""

import pika

import common

BINDINGS = {
    "documents_reports": {"x-match": "all", "format": "pdf", "kind": "report"},
    "documents_drafts": {"x-match": "any", "format": "pdf", "kind": "draft"},
}


def receive(channel, method, _properties, body):
    print(body.decode(), flush=True)
    channel.basic_ack(method.delivery_tag)


flags = common.parser(__doc__)
flags.add_argument("queue", choices=list(BINDINGS))
options = flags.parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.exchange_declare("documents", exchange_type="headers", durable=True)
channel.queue_declare(options.queue, durable=True)
channel.queue_bind(options.queue, "documents", arguments=BINDINGS[options.queue])
channel.basic_consume(options.queue, receive)
common.consume(channel, options)
