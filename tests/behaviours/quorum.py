"""Quorum queues, as far as a single node shows them."""

from lab import SOON, Consumer, bodies, check, get, until

GROUP = "quorum queue"


def quorum(lab, channel, name="q", **arguments):
    arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
    return lab.queue(channel, name, {"x-queue-type": "quorum", **arguments})


def declared(name, arguments=None, **flags):
    @check(GROUP, name)
    def observe(lab):
        channel = lab.channel()
        table = {"x-queue-type": "quorum", **(arguments or {})}
        return lab.error(lambda: channel.queue_declare(lab.name("q"), arguments=table, **{"durable": True, **flags}))


declared("declare")
declared("not durable", durable=False)
declared("exclusive", exclusive=True)
declared("auto-delete", auto_delete=True)
declared("with x-max-priority", {"x-max-priority": 5})
declared("with x-delivery-limit", {"x-delivery-limit": 3})
declared("with a negative x-delivery-limit", {"x-delivery-limit": -1})
declared("with x-overflow reject-publish-dlx", {"x-overflow": "reject-publish-dlx"})
declared("with x-queue-mode", {"x-queue-mode": "lazy"})
declared("with x-message-ttl", {"x-message-ttl": 1000})
declared("with x-max-length", {"x-max-length": 5})


@check(GROUP, "x-delivery-limit on a classic queue")
def limit_on_classic(lab):
    channel = lab.channel()
    return lab.error(lambda: channel.queue_declare(lab.name("q"), durable=True, arguments={"x-delivery-limit": 3}))


@check(GROUP, "x-quorum-initial-group-size on a classic queue")
def size_on_classic(lab):
    channel = lab.channel()
    table = {"x-quorum-initial-group-size": 3}
    return lab.error(lambda: channel.queue_declare(lab.name("q"), durable=True, arguments=table))


def publish(channel, queue, *messages):
    channel.confirm_delivery()
    for body in messages:
        channel.basic_publish("", queue, body)


@check(GROUP, "order, and acknowledgements")
def order(lab):
    channel = lab.channel()
    queue = quorum(lab, channel)
    publish(channel, queue, b"1", b"2", b"3")
    consumer = Consumer(channel, queue)
    seen = list(consumer.seen(3))
    channel.basic_ack(consumer.messages[1].tag, multiple=True)
    channel.connection.close()
    other = lab.channel()
    return [seen, get(other, queue, wait=SOON).seen()[::3]]


def counted(name, **arguments):
    @check(GROUP, name)
    def observe(lab):
        channel = lab.channel()
        queue = quorum(lab, channel, **arguments)
        publish(channel, queue, b"one")
        consumer = Consumer(channel, queue)
        for number in range(1, 4):
            consumer.wait(number)
            channel.basic_nack(consumer.messages[-1].tag)
        consumer.wait(4)
        return [[message.seen()[3], message.headers] for message in consumer.messages]


counted("x-delivery-count rises")
counted("x-delivery-count with a limit", x_delivery_limit=5)


def back(name, give_back, **arguments):
    """Two of four messages are taken and come back: in which order all of them come then."""

    @check(GROUP, name)
    def observe(lab):
        connection = lab.connect()
        channel = connection.channel()
        queue = quorum(lab, channel, **arguments)
        publish(channel, queue, b"1", b"2", b"3", b"4")
        taken = [get(channel, queue, auto_ack=False, wait=SOON) for _ in range(2)]
        give_back(connection, channel, taken)
        other = lab.channel()
        lab.counts(other, queue, 4)
        return [get(other, queue, wait=SOON).seen()[0] for _ in range(4)]


for limit_name, limit_arguments in [("", {}), (", with a limit", {"x_delivery_limit": 5})]:
    back(f"order after a channel is closed{limit_name}", lambda _, channel, __: channel.close(), **limit_arguments)
    back(f"order after a connection is closed{limit_name}", lambda connection, *_: connection.close(), **limit_arguments)


@check(GROUP, "x-delivery-count by basic.get")
def counted_get(lab):
    channel = lab.channel()
    queue = quorum(lab, channel)
    publish(channel, queue, b"one")
    seen = []
    for _ in range(3):
        message = get(channel, queue, auto_ack=False, wait=SOON)
        seen.append([message.seen()[3], message.headers])
        channel.basic_nack(message.tag)
    return seen


@check(GROUP, "x-delivery-count rises when a connection is cut")
def counted_cut(lab):
    connection = lab.connect()
    channel = connection.channel()
    queue = quorum(lab, channel)
    publish(channel, queue, b"one")
    Consumer(channel, queue).wait(1)
    connection.close()
    message = get(lab.channel(), queue, wait=SOON)
    return [message.seen()[3], message.headers]


@check(GROUP, "x-delivery-limit dead-letters")
def limit(lab):
    channel = lab.channel()
    dead = lab.queue(channel, "dead")
    queue = quorum(lab, channel, x_delivery_limit=2, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    publish(channel, queue, b"one")
    deliveries = 0

    def look():
        nonlocal deliveries
        if (delivered := get(channel, queue, auto_ack=False)) is not None:
            deliveries += 1
            channel.basic_nack(delivered.tag)
        return get(channel, dead)

    message = until(look, bool)
    # Not delivered once more after that.
    while get(channel, queue, wait=0.5) is not None:
        deliveries += 1
    deaths = message.headers.get("x-death")
    return [deliveries, message.body, [[death["reason"], death["count"]] for death in deaths],
            message.headers.get("x-first-death-reason"), message.headers.get("x-delivery-count")]


@check(GROUP, "x-delivery-limit drops without a dead letter exchange")
def limit_drops(lab):
    channel = lab.channel()
    queue = quorum(lab, channel, x_delivery_limit=1)
    publish(channel, queue, b"one")
    for _ in range(2):
        channel.basic_nack(get(channel, queue, auto_ack=False, wait=SOON).tag)
    return lab.counts(channel, queue, 0)


def requeued(name, **arguments):
    @check(GROUP, name)
    def observe(lab):
        channel = lab.channel()
        queue = quorum(lab, channel, **arguments)
        publish(channel, queue, b"1", b"2", b"3")
        message = get(channel, queue, auto_ack=False, wait=SOON)
        channel.basic_nack(message.tag)
        lab.counts(channel, queue, 3)
        return bodies(channel, queue)


requeued("requeued without a limit")
requeued("requeued with a limit", x_delivery_limit=5)


@check(GROUP, "rejected is dead-lettered")
def rejected(lab):
    channel = lab.channel()
    dead = lab.queue(channel, "dead")
    queue = quorum(lab, channel, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    publish(channel, queue, b"one")
    channel.basic_reject(get(channel, queue, auto_ack=False, wait=SOON).tag, requeue=False)
    message = get(channel, dead, wait=SOON)
    deaths = message.headers["x-death"]
    return [message.body, deaths[0]["reason"], deaths[0]["count"], sorted(message.headers)]


def length(name, **arguments):
    @check(GROUP, name)
    def observe(lab):
        channel = lab.channel()
        queue = quorum(lab, channel, **arguments)
        channel.confirm_delivery()
        for body in [b"1", b"2", b"3", b"4", b"5"]:
            channel.basic_publish("", queue, body)
        lab.counts(channel, queue, 3)
        return bodies(channel, queue)


length("x-max-length drops the head", x_max_length=3)


@check(GROUP, "time to live")
def ttl(lab):
    channel = lab.channel()
    dead = lab.queue(channel, "dead")
    queue = quorum(lab, channel, x_message_ttl=100, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    publish(channel, queue, b"one")
    message = get(channel, dead, wait=SOON)
    return [message.body, message.headers["x-first-death-reason"]]


@check(GROUP, "global prefetch is refused")
def global_prefetch(lab):
    channel = lab.channel()
    queue = quorum(lab, channel)
    channel.basic_qos(prefetch_count=5, global_qos=True)
    return lab.error(lambda: Consumer(channel, queue))


@check(GROUP, "single active consumer")
def single_active(lab):
    publisher = lab.channel()
    queue = quorum(lab, publisher, x_single_active_consumer=True)
    consumers = [Consumer(lab.channel(), queue, auto_ack=True) for _ in range(2)]
    publish(publisher, queue, b"1", b"2")
    seen = list(consumers[0].seen(2))
    consumers[0].channel.basic_cancel(consumers[0].tag)
    publisher.basic_publish("", queue, b"3")
    return [seen, consumers[1].seen(1)]


@check(GROUP, "purge and delete")
def purge(lab):
    channel = lab.channel()
    queue = quorum(lab, channel)
    publish(channel, queue, b"1", b"2")
    until(lambda: lab.count(channel, queue), lambda count: count == 2)
    purged = channel.queue_purge(queue).method.message_count
    return [purged, lab.count(channel, queue), channel.queue_delete(queue).method.message_count]


