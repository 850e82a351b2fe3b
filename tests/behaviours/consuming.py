"""Consumers: how they come and go, and who gets what."""

from pika import spec

from lab import Consumer, bodies, check, get, raw, wait_for

GROUP = "consumer"


def filled(lab, channel, count, name="q", **options):
    """A queue with the messages 1 to count."""
    queue = lab.queue(channel, name, **options)
    for number in range(1, count + 1):
        channel.basic_publish("", queue, str(number).encode())
    lab.counts(channel, queue, count)
    return queue


@check(GROUP, "gets what waits in order")
def order(lab):
    channel = lab.channel()
    consumer = Consumer(channel, filled(lab, channel, 20), auto_ack=True)
    return [consumer.seen(20), [message.tag for message in consumer.messages]]


@check(GROUP, "tags that the broker makes")
def made_tag(lab):
    queue = lab.queue(lab.channel())
    with raw(lab) as client:
        client.method(1, spec.Basic.Consume(queue=queue))
        tag = client.receive().method.consumer_tag
        return [tag.startswith("amq.ctag-"), len(tag)]


@check(GROUP, "a tag twice")
def same_tag(lab):
    queue = lab.queue(lab.channel())
    with raw(lab) as client:
        for _ in range(2):
            client.method(1, spec.Basic.Consume(queue=queue, consumer_tag="mine"))
        return client.names(2)


@check(GROUP, "a tag once on each of two channels")
def tag_each(lab):
    connection = lab.connect()
    one, two = connection.channel(), connection.channel()
    queue = lab.queue(one)
    return [Consumer(channel, queue, consumer_tag="mine").tag for channel in [one, two]]


@check(GROUP, "of a missing queue")
def missing(lab):
    channel = lab.channel()
    return lab.error(lambda: channel.basic_consume(lab.name("none"), lambda *_: None))


@check(GROUP, "exclusive keeps others out")
def exclusive(lab):
    one, two = lab.channel(), lab.channel()
    queue = lab.queue(one)
    Consumer(one, queue, exclusive=True)
    return lab.error(lambda: Consumer(two, queue))


@check(GROUP, "exclusive where there is one")
def exclusive_late(lab):
    one, two = lab.channel(), lab.channel()
    queue = lab.queue(one)
    Consumer(one, queue)
    return lab.error(lambda: Consumer(two, queue, exclusive=True))


@check(GROUP, "exclusive until it is cancelled")
def exclusive_over(lab):
    one, two = lab.channel(), lab.channel()
    queue = lab.queue(one)
    one.basic_cancel(Consumer(one, queue, exclusive=True).tag)
    return lab.error(lambda: Consumer(two, queue))


@check(GROUP, "cancel what there is not")
def cancel_unknown(lab):
    with raw(lab) as client:
        client.method(1, spec.Basic.Cancel("nobody"))
        return client.names(1)


@check(GROUP, "after cancel nothing comes, and what came may be acknowledged")
def cancel(lab):
    channel = lab.channel()
    queue = filled(lab, channel, 1)
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    channel.basic_cancel(consumer.tag)
    channel.basic_publish("", queue, b"later")
    before = lab.counts(channel, queue, 1)
    channel.basic_ack(consumer.messages[0].tag)
    return [consumer.seen(), before, bodies(channel, queue)]


@check(GROUP, "is told that its queue is deleted")
def notified(lab):
    one, two = lab.channel(), lab.channel()
    queue = lab.queue(one)
    consumer = Consumer(one, queue)
    two.queue_delete(queue)
    wait_for(one.connection, lambda: consumer.cancelled)
    return [consumer.cancelled, lab.error(lambda: one.queue_declare("", exclusive=True))]


@check(GROUP, "is told that its queue is deleted on its own channel")
def notified_raw(lab):
    queue = lab.queue(lab.channel())
    with raw(lab) as client:
        client.method(1, spec.Basic.Consume(queue=queue, consumer_tag="mine"))
        client.receive()
        client.method(1, spec.Queue.Delete(queue=queue))
        return sorted(client.names(2))


@check(GROUP, "several take turns")
def turns(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    consumers = [Consumer(channel, queue, auto_ack=True) for _ in range(3)]
    for number in range(9):
        channel.basic_publish("", queue, str(number).encode())
    for consumer in consumers:
        consumer.wait(3)
    return [consumer.seen() for consumer in consumers]


@check(GROUP, "x-priority: the higher gets all it can take")
def priority(lab):
    low, high = lab.channel(), lab.channel()
    queue = lab.queue(low)
    for channel in [low, high]:
        channel.basic_qos(prefetch_count=2)
    first = Consumer(low, queue)
    second = Consumer(high, queue, arguments={"x-priority": 5})
    publisher = lab.channel()
    for number in range(3):
        publisher.basic_publish("", queue, str(number).encode())
    return [second.seen(2), first.seen(1)]


@check(GROUP, "no-local is ignored")
def no_local(lab):
    queue = lab.queue(lab.channel())
    with raw(lab) as client:
        client.method(1, spec.Basic.Consume(queue=queue, consumer_tag="mine", no_local=True, no_ack=True))
        client.receive()
        client.method(1, spec.Basic.Publish(exchange="", routing_key=queue))
        client.send(b"\x02\x00\x01\x00\x00\x00\x0e\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xce")
        return client.names(2)


@check(GROUP, "consume with nowait")
def nowait(lab):
    channel = lab.channel()
    queue = filled(lab, channel, 1)
    with raw(lab) as client:
        client.method(1, spec.Basic.Consume(queue=queue, consumer_tag="mine", nowait=True))
        return client.names(3)


@check(GROUP, "consume-ok is before the first message")
def consume_ok(lab):
    channel = lab.channel()
    queue = filled(lab, channel, 1)
    with raw(lab) as client:
        client.method(1, spec.Basic.Consume(queue=queue, consumer_tag="mine"))
        return client.names(4)


def single_active(lab, count):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-single-active-consumer": True})
    return channel, queue, [Consumer(lab.channel(), queue, auto_ack=True) for _ in range(count)]


@check(GROUP, "single active: one gets all")
def sac(lab):
    channel, queue, consumers = single_active(lab, 2)
    for number in range(4):
        channel.basic_publish("", queue, str(number).encode())
    return [consumers[0].seen(4), consumers[1].seen()]


@check(GROUP, "single active: the next takes over")
def sac_next(lab):
    channel, queue, consumers = single_active(lab, 3)
    consumers[0].channel.basic_cancel(consumers[0].tag)
    channel.basic_publish("", queue, b"one")
    second = consumers[1].seen(1)
    consumers[1].channel.close()
    channel.basic_publish("", queue, b"two")
    return [second, consumers[2].seen(1)]


@check(GROUP, "single active: exclusive is refused or not")
def sac_exclusive(lab):
    channel, queue, _ = single_active(lab, 0)
    return lab.error(lambda: Consumer(channel, queue, exclusive=True))


def limited(name, count, act, group="prefetch"):
    @check(group, name)
    def observe(lab):
        channel = lab.channel()
        return act(lab, channel, filled(lab, channel, count))


def per_consumer(lab, channel, queue):
    channel.basic_qos(prefetch_count=2)
    one, two = Consumer(channel, queue), Consumer(channel, queue)
    one.wait(2)
    two.wait(2)
    return [len(one.wait()), len(two.wait())]


limited("is for each consumer", 10, per_consumer)


def whole_channel(lab, channel, queue):
    channel.basic_qos(prefetch_count=3, global_qos=True)
    one, two = Consumer(channel, queue), Consumer(channel, queue)
    wait_for(channel.connection, lambda: len(one.messages) + len(two.messages) >= 3)
    one.wait()
    return len(one.messages) + len(two.messages)


limited("global is for the channel", 10, whole_channel)


def both(lab, channel, queue):
    channel.basic_qos(prefetch_count=2)
    channel.basic_qos(prefetch_count=3, global_qos=True)
    one, two = Consumer(channel, queue), Consumer(channel, queue)
    wait_for(channel.connection, lambda: len(one.messages) + len(two.messages) >= 3)
    one.wait()
    return [len(one.messages), len(two.messages)]


limited("both", 10, both)


def next_one(lab, channel, queue):
    channel.basic_qos(prefetch_count=1)
    consumer = Consumer(channel, queue)
    seen = [list(consumer.seen(1))]
    channel.basic_ack(consumer.messages[0].tag)
    seen.append(list(consumer.seen(2)))
    channel.basic_nack(consumer.messages[1].tag, requeue=False)
    seen.append(list(consumer.seen(3)))
    return seen


limited("an acknowledgement makes room", 5, next_one)


def later(lab, channel, queue):
    channel.basic_qos(prefetch_count=1)
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    channel.basic_qos(prefetch_count=5)
    return len(consumer.wait())


limited("is for consumers to come", 10, later)


def later_global(lab, channel, queue):
    channel.basic_qos(prefetch_count=1, global_qos=True)
    consumer = Consumer(channel, queue)
    consumer.wait(1)
    channel.basic_qos(prefetch_count=5, global_qos=True)
    consumer.wait(5)
    return len(consumer.wait())


limited("global is for consumers that are there", 10, later_global)


def no_ack(lab, channel, queue):
    channel.basic_qos(prefetch_count=1)
    return len(Consumer(channel, queue, auto_ack=True).wait(10))


limited("is not for no-ack", 10, no_ack)


def not_get(lab, channel, queue):
    channel.basic_qos(prefetch_count=1, global_qos=True)
    return [get(channel, queue, auto_ack=False).body for _ in range(3)]


limited("is not for basic.get", 3, not_get)


def zero(lab, channel, queue):
    channel.basic_qos(prefetch_count=0)
    return len(Consumer(channel, queue).wait(10))


limited("0 is no bound", 10, zero)


def get_ok(lab, channel, queue):
    first, second = get(channel, queue), get(channel, queue, auto_ack=False)
    return [first.seen()[0], first.method.message_count, second.method.message_count, second.tag]


limited("says what waits", 3, get_ok, "get")


def empty(lab, channel, queue):
    return [channel.basic_get(queue, auto_ack=True)[0], lab.error(lambda: channel.basic_get(lab.name("none")))]


limited("of an empty queue, of a missing one", 0, empty, "get")
