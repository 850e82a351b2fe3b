#!/usr/bin/env python3
"""Makes a mail and a report of each order."""

import json

import pika

import common


def notify(channel, method, _properties, body):
    try:
        to = json.loads(body)["user_email"]
    except (ValueError, KeyError, TypeError):
        channel.basic_reject(method.delivery_tag, requeue=False)
        return
    mail = {"to": to, "subject": "Your order", "text": "Thank you for your order. We are packing it now."}
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    channel.basic_publish("mail", "order.notify", json.dumps(mail), properties)
    channel.basic_ack(method.delivery_tag)


def report(channel, method, _properties, body):
    try:
        order = json.loads(body)
        number, text = str(order["id"]), (
            f"Order {order['id']}\n\nCustomer: {order['user_email']}\n"
            f"Product:  {order['product']}\nQuantity: {int(order['quantity'])}\n"
        )
    except (ValueError, KeyError, TypeError):
        channel.basic_reject(method.delivery_tag, requeue=False)
        return
    properties = pika.BasicProperties(content_type="text/plain", delivery_mode=2, message_id=number,
                                      headers={"order-id": number})
    channel.basic_publish("reports", "order.report", text, properties)
    channel.basic_ack(method.delivery_tag)


options = common.parser(__doc__).parse_args()
connection = pika.BlockingConnection(pika.URLParameters(options.url))
channel = connection.channel()
channel.exchange_declare("order", exchange_type="direct")
for exchange, kept, queue, key, receive in [
    ("mail", "mail", "order_notify", "order.notify", notify),
    ("reports", "reports", "order_report", "order.report", report),
]:
    channel.exchange_declare(exchange, exchange_type="direct", durable=True)
    channel.queue_declare(kept, durable=True)
    channel.queue_bind(kept, exchange, key)
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, "order", key)
    channel.basic_consume(queue, receive)
common.consume(channel, options)
