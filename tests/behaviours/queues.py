"""Queues: what they are declared with, how long they live, and how much they hold."""

import time

import pika

from lab import Consumer, bodies, check, get, within

GROUP = "queue"


@check(GROUP, "declare-ok counts messages and consumers")
def declare_ok(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    for _ in range(3):
        channel.basic_publish("", queue, b"x")
    lab.counts(channel, queue, 3)
    channel.basic_qos(prefetch_count=1)
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    method = channel.queue_declare(queue, passive=True).method
    return [lab.clean(method.queue), method.message_count, method.consumer_count]


@check(GROUP, "server-named")
def server_named(lab):
    name = lab.channel().queue_declare("", exclusive=True).method.queue
    return [name.startswith("amq.gen-"), len(name)]


def declared(name, again, first=None, queue="q", arguments=None, again_arguments=None):
    @check(GROUP, name)
    def observe(lab):
        def act():
            channel = lab.channel()
            target = lab.name(queue) if queue == "q" else queue
            if first is not None:
                channel.queue_declare(target, arguments=arguments, **first)
            channel.queue_declare(target, arguments=again_arguments, **again)

        return lab.error(act)


DURABLE = {"durable": True}
declared("declared twice alike", DURABLE, DURABLE)
declared("durable or not", {}, DURABLE)
declared("auto-delete or not", {"durable": True, "auto_delete": True}, DURABLE)
declared("exclusive or not", {"durable": True, "exclusive": True}, DURABLE)
declared("no longer exclusive", DURABLE, {"durable": True, "exclusive": True})
declared("reserved name", DURABLE, queue="amq.mine")
declared("passive, missing", {"passive": True})
declared("passive, with other flags", {"passive": True, "auto_delete": True}, DURABLE)
EQUIVALENCE = {
    "x-message-ttl": (1000, 2000),
    "x-expires": (60000, 70000),
    "x-max-length": (5, 6),
    "x-max-length-bytes": (500, 600),
    "x-dead-letter-exchange": ("a", "b"),
    "x-max-priority": (5, 6),
    "x-overflow": ("reject-publish", "drop-head"),
    "x-single-active-consumer": (True, False),
    "x-queue-mode": ("lazy", "default"),
    "x-queue-type": ("classic", "quorum"),
    "x-foo": (1, 2),
}
for argument, (one, two) in EQUIVALENCE.items():
    declared(f"{argument} with another value", DURABLE, DURABLE, arguments={argument: one},
             again_arguments={argument: two})
declared("x-message-ttl that was not there", DURABLE, DURABLE, again_arguments={"x-message-ttl": 1000})
declared("x-message-ttl that is gone", DURABLE, DURABLE, arguments={"x-message-ttl": 1000})
REFUSED = {
    "x-message-ttl": ["text", -1, 4294967296000],
    "x-expires": ["text", -1, 0],
    "x-max-length": ["text", -1],
    "x-max-length-bytes": ["text", -1],
    "x-max-priority": ["text", -1, 256],
    "x-dead-letter-exchange": [5],
    "x-dead-letter-routing-key": [5, "without-an-exchange"],
    "x-overflow": ["nonsense", 5],
    "x-single-active-consumer": ["text"],
    "x-queue-type": ["nonsense", 5],
    "x-queue-mode": ["nonsense"],
}
for argument, values in REFUSED.items():
    for value in values:
        declared(f"{argument} of {value!r}", DURABLE, again_arguments={argument: value})


@check(GROUP, "exclusive to its connection")
def exclusive(lab):
    queue = lab.name("q")
    lab.connect().channel().queue_declare(queue, exclusive=True)
    acts = {
        "declare": lambda channel: channel.queue_declare(queue, exclusive=True),
        "passive": lambda channel: channel.queue_declare(queue, passive=True),
        "consume": lambda channel: channel.basic_consume(queue, lambda *_: None),
        "get": lambda channel: channel.basic_get(queue),
        "purge": lambda channel: channel.queue_purge(queue),
        "delete": lambda channel: channel.queue_delete(queue),
        "bind": lambda channel: channel.queue_bind(queue, "amq.direct", "k"),
    }
    return {name: lab.error(lambda act=act: act(lab.channel())) for name, act in acts.items()}


@check(GROUP, "others may publish to an exclusive one")
def exclusive_publish(lab):
    queue = lab.name("q")
    own = lab.channel()
    own.queue_declare(queue, exclusive=True)
    other = lab.channel()
    other.confirm_delivery()
    other.basic_publish("", queue, b"one")
    return bodies(own, queue)


@check(GROUP, "purge")
def purge(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    for _ in range(3):
        channel.basic_publish("", queue, b"x")
    lab.counts(channel, queue, 3)
    unacked = get(channel, queue, auto_ack=False)
    purged = channel.queue_purge(queue).method.message_count
    channel.basic_nack(unacked.tag)
    return [purged, lab.counts(channel, queue, 1), lab.error(lambda: channel.queue_purge(lab.name("none")))]


def deleted(name, if_unused=False, if_empty=False, consumer=False, messages=0, queue="q"):
    @check(GROUP, name)
    def observe(lab):
        channel = lab.channel()
        lab.queue(channel)
        for _ in range(messages):
            channel.basic_publish("", lab.name("q"), b"x")
        lab.counts(channel, lab.name("q"), messages)
        if consumer:
            Consumer(channel, lab.name("q"))
        count = []
        error = lab.error(lambda: count.append(
            channel.queue_delete(lab.name(queue), if_unused=if_unused, if_empty=if_empty).method.message_count))
        return [error, count]


deleted("delete", messages=2)
deleted("delete what is missing", queue="none")
deleted("delete if unused, unused", if_unused=True)
deleted("delete if unused, used", if_unused=True, consumer=True)
deleted("delete if empty, empty", if_empty=True)
deleted("delete if empty, not empty", if_empty=True, messages=1)


@check(GROUP, "auto-delete goes with its last consumer")
def auto_delete(lab):
    channel = lab.channel()
    queue = lab.queue(channel, auto_delete=True)
    first, second = Consumer(channel, queue), Consumer(channel, queue)
    channel.basic_cancel(first.tag)
    channel.queue_declare(queue, passive=True)
    channel.basic_cancel(second.tag)
    return lab.missing(queue)


@check(GROUP, "auto-delete stays while it never had a consumer")
def auto_delete_unused(lab):
    channel = lab.channel()
    queue = lab.queue(channel, auto_delete=True)
    channel.basic_publish("", queue, b"one")
    get(channel, queue)
    return lab.error(lambda: channel.queue_declare(queue, passive=True))


@check(GROUP, "auto-delete goes with the channel of its consumer")
def auto_delete_channel(lab):
    connection = lab.connect()
    channel = connection.channel()
    queue = lab.queue(channel, auto_delete=True)
    Consumer(channel, queue)
    channel.close()
    return lab.missing(queue)


@check(GROUP, "x-expires: a queue that is not used goes")
def expires(lab):
    queue = lab.queue(lab.channel(), arguments={"x-expires": 200})
    time.sleep(0.6)
    with within(0.4):
        return lab.missing(queue, pause=0.6)


@check(GROUP, "x-expires: a queue that is used stays")
def expires_used(lab):
    channel = lab.channel()
    with within(0.1):
        declared_only = lab.queue(channel, "declared", {"x-expires": 600})
        fetched = lab.queue(channel, "fetched", {"x-expires": 600})
        consumed = lab.queue(channel, "consumed", {"x-expires": 600})
        published = lab.queue(channel, "published", {"x-expires": 600})
        Consumer(channel, consumed)
    for _ in range(6):
        with within(0.45):
            time.sleep(0.2)
            channel.queue_declare(declared_only, arguments={"x-expires": 600}, durable=True)
            channel.basic_get(fetched)
            channel.basic_publish("", published, b"x")
    stays = {}
    with within(0.5):
        for name in [declared_only, fetched, consumed]:
            stays[lab.clean(name)] = lab.error(lambda: lab.channel().queue_declare(name, passive=True)) is None
    with within(0.4):
        stays[lab.clean(published)] = lab.missing(published, pause=0.9) is None
    return stays


def full(name, arguments, messages, **options):
    """Publishes to a queue with confirms, and says what was refused and what is there."""

    @check("queue length", name)
    def observe(lab):
        channel = lab.channel()
        queue = lab.queue(channel, arguments=arguments)
        channel.confirm_delivery()
        outcomes = []
        for body in messages:
            try:
                channel.basic_publish("", queue, body, pika.BasicProperties(**options))
                outcomes.append("ack")
            except pika.exceptions.NackError:
                outcomes.append("nack")
        return [outcomes, bodies(channel, queue)]


FIVE = [b"1", b"2", b"3", b"4", b"5"]
SIZES = [b"a" * 10, b"b" * 10, b"c" * 10, b"d" * 25, b"e" * 40, b"f"]
full("x-max-length drops the head", {"x-max-length": 3}, FIVE)
full("x-max-length of 0", {"x-max-length": 0}, FIVE)
full("x-max-length-bytes drops the head", {"x-max-length-bytes": 30}, SIZES)
full("both", {"x-max-length": 2, "x-max-length-bytes": 30}, SIZES)
full("drop-head by name", {"x-max-length": 3, "x-overflow": "drop-head"}, FIVE)
full("reject-publish", {"x-max-length": 3, "x-overflow": "reject-publish"}, FIVE)
full("reject-publish by bytes", {"x-max-length-bytes": 30, "x-overflow": "reject-publish"}, SIZES)
full("reject-publish of 0", {"x-max-length": 0, "x-overflow": "reject-publish"}, FIVE)
full("reject-publish-dlx", {"x-max-length": 3, "x-overflow": "reject-publish-dlx"}, FIVE)


@check("queue length", "what is not acknowledged does not count")
def unacked(lab):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-max-length": 2})
    for body in [b"1", b"2"]:
        channel.basic_publish("", queue, body)
    lab.counts(channel, queue, 2)
    first, second = get(channel, queue, auto_ack=False), get(channel, queue, auto_ack=False)
    for body in [b"3", b"4", b"5"]:
        channel.basic_publish("", queue, body)
    seen = [first.body, second.body, bodies(channel, queue)]
    channel.basic_ack(second.tag, multiple=True)
    return seen


@check("queue length", "one that refuses nacks what others took")
def one_refuses(lab):
    channel = lab.channel()
    full_queue = lab.queue(channel, "full", {"x-max-length": 1, "x-overflow": "reject-publish"})
    other = lab.queue(channel, "other")
    exchange = lab.exchange(channel, "fanout")
    for queue in [full_queue, other]:
        channel.queue_bind(queue, exchange)
    channel.confirm_delivery()
    outcomes = []
    for body in [b"1", b"2"]:
        try:
            channel.basic_publish(exchange, "", body)
            outcomes.append("ack")
        except pika.exceptions.NackError:
            outcomes.append("nack")
    return [outcomes, bodies(channel, full_queue), bodies(channel, other)]


def prioritised(name, arguments, priorities):
    @check("priority", name)
    def observe(lab):
        channel = lab.channel()
        queue = lab.queue(channel, arguments=arguments)
        channel.confirm_delivery()
        for number, priority in enumerate(priorities):
            body = f"{number}:{priority}".encode()
            channel.basic_publish("", queue, body, pika.BasicProperties(priority=priority))
        return bodies(channel, queue)


MIXED = [1, None, 5, 0, 5, 9, 200, 3]
prioritised("the higher first", {"x-max-priority": 10}, MIXED)
prioritised("above the most", {"x-max-priority": 3}, MIXED)
prioritised("a queue without priorities", None, MIXED)
prioritised("x-max-priority of 0", {"x-max-priority": 0}, MIXED)
prioritised("with x-max-length", {"x-max-priority": 5, "x-max-length": 3}, [1, 2, 3, 4, 5])


@check("priority", "requeued to its place")
def requeued(lab):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-max-priority": 5})
    channel.confirm_delivery()
    for number, priority in enumerate([1, 5, 1, 5]):
        body = f"{number}:{priority}".encode()
        channel.basic_publish("", queue, body, pika.BasicProperties(priority=priority))
    messages = [get(channel, queue, auto_ack=False) for _ in range(3)]
    channel.basic_nack(messages[-1].tag, multiple=True)
    return [[message.body for message in messages], bodies(channel, queue)]
