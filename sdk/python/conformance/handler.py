"""The conformance handler: the header `do` says what it does. It is the same in every language."""

import sys
from pathlib import Path

from wabbit_sdk import Delivery, Outcome, Publication, config, context, http, keyvalue


def handle(delivery: Delivery) -> Outcome:
    do = delivery.header("do", "")
    action = ACTIONS.get(do)
    return action(delivery) if action else Outcome.dead_letter(f"unknown: {do}")


def echo(delivery: Delivery) -> Outcome:
    return Outcome.ack(Publication(delivery.exchange, delivery.routing_key, delivery.body, delivery.properties))


def describe(delivery: Delivery) -> Outcome:
    text = (
        f"queue={delivery.queue} exchange={delivery.exchange} key={delivery.routing_key} "
        f"redelivered={str(delivery.redelivered).lower()} attempt={delivery.attempt}"
    )
    return Outcome.ack(Publication.text("", "described", text))


def many(delivery: Delivery) -> Outcome:
    count = delivery.header("count", 0)
    return Outcome.ack().publish_all(Publication.text("", f"many.{number}", str(number)) for number in range(count))


def retry(delivery: Delivery) -> Outcome:
    ms = delivery.header("ms")
    return Outcome.retry() if ms is None else Outcome.retry(after=ms / 1000)


def error(delivery: Delivery) -> Outcome:
    raise ValueError(delivery.text())


def trap(delivery: Delivery) -> Outcome:
    assert not delivery.headers, "planted bug"
    return Outcome.ack()


def loop(delivery: Delivery) -> Outcome:
    while True:
        pass


def memory(delivery: Delivery) -> Outcome:
    blocks = []
    while True:
        # Not zeros, so that each page is written.
        blocks.append(b"x" * (1 << 20))


def log(delivery: Delivery) -> Outcome:
    print(delivery.text(), file=sys.stderr)
    return Outcome.ack()


def json(delivery: Delivery) -> Outcome:
    text = delivery.text()
    return Outcome.ack(Publication.json("", "json", {"text": text, "length": len(text)}))


def tell_context(delivery: Delivery) -> Outcome:
    remaining = str(context.remaining() > 0).lower()
    return Outcome.ack(Publication.text("", "context", f"worker={context.worker()} remaining={remaining}"))


def churn(delivery: Delivery) -> Outcome:
    # 100 bytes each.
    for number in range(1000):
        str(number).zfill(60)
    return Outcome.ack()


def setting(delivery: Delivery) -> Outcome:
    return Outcome.ack(Publication.text("", "setting", config.get(delivery.header("name"), "none")))


def count(delivery: Delivery) -> Outcome:
    store, key = keyvalue.open("default"), delivery.header("key")
    total = store.increment(key, delivery.header("by"))
    return Outcome.ack(Publication.text("", "count", f"{total}/{store.text(key)}"))


def keep(delivery: Delivery) -> Outcome:
    store, key = keyvalue.open("default"), delivery.header("key")
    store.set(key, delivery.body)
    kept = store.get(key)
    store.delete(key)
    if kept is None or store.exists(key):
        return Outcome.dead_letter("still there")
    return Outcome.ack(Publication("", "kept", kept))


def fetch(delivery: Delivery) -> Outcome:
    method, url = delivery.header("method"), delivery.header("url")
    try:
        response = http.request(method, url, body=delivery.body, headers={"x-test": "wabbit"})
    except http.Error as error:
        return Outcome.dead_letter(str(error))
    text = f"{response.status} {response.header('x-answer', '')} ".encode()
    return Outcome.ack(Publication("", "fetched", text + response.body))


def write(delivery: Delivery) -> Outcome:
    path = Path(delivery.header("path"))
    try:
        path.write_bytes(delivery.body)
        return Outcome.ack(Publication("", "written", path.read_bytes()))
    except OSError as error:
        return Outcome.dead_letter(str(error))


ACTIONS = {
    "echo": echo,
    "describe": describe,
    "many": many,
    "ack": lambda delivery: Outcome.ack(),
    "requeue": lambda delivery: Outcome.requeue(),
    "retry": retry,
    "dead-letter": lambda delivery: Outcome.dead_letter(delivery.text()),
    "error": error,
    "trap": trap,
    "loop": loop,
    "memory": memory,
    "log": log,
    "json": json,
    "context": tell_context,
    "churn": churn,
    "setting": setting,
    "count": count,
    "keep": keep,
    "fetch": fetch,
    "write": write,
}
