#!/usr/bin/env python3
"""What scripts/demo asks of the broker and of the host. Each step waits for what it wants to see, with a deadline.

    listening PORT PROCESS     until the broker listens, while the process runs
    ready ADDRESS PROCESS      until every worker consumes, while the process runs
    malformed URL              an order that cannot be read, and the dead letter that it becomes
    workers ADDRESS            a line for each worker
"""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request

DEADLINE = 50
ORDER = b'{"id": "broken-1", "user_email": "customer@example.com", "product": "hay"'


def listening(port, process):
    def probe():
        socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()

    wait("the broker to listen", probe, process)


def ready(address, process):
    def probe():
        try:
            get(address, "/readyz")
        except urllib.error.HTTPError as error:
            raise OSError(f"/readyz answers {error.code}: {error.read().decode()}") from error

    wait("the host to be ready", probe, process)


def malformed(url):
    import pika

    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("order", "order.report", ORDER, mandatory=True)
        print(f"  {ORDER.decode()}")

        def probe():
            _, properties, body = connection.channel().basic_get("order_report.dead", auto_ack=True)
            if body is None:
                raise OSError("the queue is empty")
            return properties.headers or {}, body

        headers, body = wait("a message in order_report.dead", probe, errors=(OSError, pika.exceptions.AMQPError))
        assert body == ORDER, f"another message: {body}"
        print("it is in the queue order_report.dead, with the reason in its headers")
        for name, value in sorted(headers.items()):
            print(f"  {name}: {value}")


def workers(address):
    answer = json.loads(get(address, "/workers"))
    for worker in answer["workers"] if isinstance(answer, dict) else answer:
        counts = next((value for value in worker.values() if isinstance(value, dict)), {})
        counts = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        print(f"  {worker['name']}: {worker['state']}; {counts or 'nothing yet'}")


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return answer.read().decode()


def wait(what, probe, process=None, errors=(OSError,)):
    """Returns what `probe` returns, once it raises no error any more."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            return probe()
        except errors as error:
            if process and not os.path.exists(f"/proc/{process}"):
                sys.exit(f"error: waited for {what}, but the process ended")
            if time.monotonic() > end:
                sys.exit(f"error: waited {DEADLINE} s for {what}: {str(error) or type(error).__name__}")
        time.sleep(0.1)


if __name__ == "__main__":
    steps = {step.__name__: step for step in (listening, ready, malformed, workers)}
    steps[sys.argv[1]](*sys.argv[2:])
