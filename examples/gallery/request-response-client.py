#!/usr/bin/env python3
"""Asks to add patients, and looks at what is answered: to a queue of its own, to the broker's, and not in time."""

import json
import secrets
import time

import pika

import common

DIRECT = "amq.rabbitmq.reply-to"


class Requester:
    """Sends requests, and files their answers by correlation id."""

    def __init__(self, connection, options, reply_to):
        self.connection, self.options, self.reply_to, self.answers = connection, options, reply_to, {}
        self.channel = connection.channel()
        if reply_to != DIRECT:
            self.reply_to = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.basic_consume(self.reply_to, self.receive, auto_ack=True)

    def receive(self, _channel, _method, properties, body):
        self.answers[properties.correlation_id] = json.loads(body)

    def send(self, body, kind="add", headers=None):
        correlation_id = secrets.token_hex(8)
        properties = pika.BasicProperties(type=kind, reply_to=self.reply_to, correlation_id=correlation_id,
                                          content_type="application/json", headers=headers)
        self.channel.basic_publish("api", "add_patient", body, properties)
        return correlation_id

    def ask(self, body, kind="add", headers=None, patience=None):
        """The answer; none where there is none in time."""
        correlation_id = self.send(body, kind, headers)
        end = time.monotonic() + (patience or self.options.deadline)
        while correlation_id not in self.answers and time.monotonic() < end:
            self.connection.process_data_events(time_limit=0.1)
        return self.answers.pop(correlation_id, None)


def expect(answer, expected):
    if answer != expected:
        common.fail(f"the answer is {answer}, and not {expected}")


def main(connection, options):
    connection.channel().exchange_declare("api", exchange_type="direct", durable=True, auto_delete=True)
    own, direct = Requester(connection, options, None), Requester(connection, options, DIRECT)
    run = secrets.token_hex(3)

    # Many at once: each answer finds its request.
    names = {own.send(json.dumps({"name": name})): name for name in (f"{run}-{n}" for n in range(options.messages))}
    common.wait(connection, options, lambda: len(own.answers) < len(names) and f"{len(own.answers)} answers came")
    expect(own.answers, {correlation_id: {"added": name} for correlation_id, name in names.items()})
    own.answers.clear()

    expect(direct.ask(json.dumps({"name": f"{run}-Ada"})), {"added": f"{run}-Ada"})
    expect(own.ask(json.dumps({"name": f"{run}-Ada"})), {"known": f"{run}-Ada"})
    expect(direct.ask("{}", kind="remove"), {"error": "nobody knows requests of type `remove`"})
    if "error" not in (own.ask("no JSON") or {}):
        common.fail("a request that cannot be read was not answered with an error")
    # Who waits no longer gets no answer, and the patient is not added.
    late = {"deadline": int(time.time() * 1000) - 1}
    expect(own.ask(json.dumps({"name": f"{run}-Alan"}), headers=late, patience=0.5), None)
    expect(own.ask(json.dumps({"name": f"{run}-Alan"})), {"added": f"{run}-Alan"})
    print(f"{options.messages} patients added at once; unknown and late requests were treated as such")


common.run(main, common.count(common.parser(__doc__), 20).parse_args())
