#!/usr/bin/env python3
"""Asks for numbers of Fibonacci, and for some that are none."""

import secrets
import time

import pika

import common


def main(connection, options):
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    answers = {}

    def receive(_channel, _method, properties, body):
        answers[properties.correlation_id] = body.decode()

    channel.basic_consume(queue, receive, auto_ack=True)
    channel.confirm_delivery()

    def ask(request, patience=options.deadline):
        """The answer; none where there is none in time."""
        correlation_id = secrets.token_hex(8)
        properties = pika.BasicProperties(reply_to=queue, correlation_id=correlation_id)
        channel.basic_publish("", "rpc_queue", str(request), properties, mandatory=True)
        end = time.monotonic() + patience
        while correlation_id not in answers and time.monotonic() < end:
            connection.process_data_events(time_limit=0.1)
        return answers.pop(correlation_id, None)

    one, next_one = 0, 1
    for number in range(options.messages):
        if ask(number) != str(one):
            common.fail(f"{number} was not answered with {one}")
        one, next_one = next_one, one + next_one
    print(f"{options.messages} numbers, the last is {next_one - one}")
    for request in ["ten", "-1", "94"]:
        print(f"{request}: {ask(request)}")
    if options.hard:
        answer = ask(90, patience=0.5)
        print("90: no answer in 0.5 s" if answer is None else f"90: {answer}")
        print(f"10: {ask(10)}")


flags = common.count(common.parser(__doc__), 21)
flags.add_argument("--hard", action="store_true", help="ask for a number that takes years, too")
common.run(main, flags.parse_args())
