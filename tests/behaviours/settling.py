"""Acknowledgements, rejections and recovery."""

from pika import spec

from lab import SOON, Consumer, bodies, check, get, raw, wait_for
from consuming import filled

GROUP = "settling"


def settled(name, act, requeued, left):
    """Fetches three messages without acknowledging them, does something, and says what waits then, when that is as many
    as are requeued, and when the channel is closed, when that is as many as are left."""

    @check(GROUP, name)
    def observe(lab):
        channel, other = lab.channel(), lab.channel()
        queue = filled(lab, channel, 3)
        messages = [get(channel, queue, auto_ack=False) for _ in range(3)]
        act(channel, [message.tag for message in messages])
        before = lab.stays(other, queue, requeued)
        channel.close()
        after = lab.stays(other, queue, left)
        return [before, [get(other, queue, wait=SOON).seen()[::3] for _ in range(after)]]


settled("nothing", lambda channel, tags: None, 0, 3)
settled("ack one", lambda channel, tags: channel.basic_ack(tags[1]), 0, 2)
settled("ack up to one", lambda channel, tags: channel.basic_ack(tags[1], multiple=True), 0, 1)
settled("ack all with tag 0", lambda channel, tags: channel.basic_ack(0, multiple=True), 0, 0)
settled("nack one to the queue", lambda channel, tags: channel.basic_nack(tags[1]), 1, 3)
settled("nack up to one to the queue", lambda channel, tags: channel.basic_nack(tags[1], multiple=True), 2, 3)
settled("nack up to one for good", lambda channel, tags: channel.basic_nack(tags[1], multiple=True, requeue=False), 0, 1)
settled("nack all with tag 0", lambda channel, tags: channel.basic_nack(0, multiple=True), 3, 3)
settled("reject to the queue", lambda channel, tags: channel.basic_reject(tags[0]), 1, 3)
settled("reject for good", lambda channel, tags: channel.basic_reject(tags[0], requeue=False), 0, 2)
settled("recover", lambda channel, tags: channel.basic_recover(requeue=True), 3, 3)


def refused(name, *methods, count=2):
    @check(GROUP, name)
    def observe(lab):
        channel = lab.channel()
        queue = filled(lab, channel, count)
        with raw(lab) as client:
            for _ in range(count):
                client.method(1, spec.Basic.Get(queue=queue))
            client.names(3 * count)
            for method in methods:
                client.method(1, method)
            return client.names(1)


refused("ack of an unknown tag", spec.Basic.Ack(99))
refused("ack of an unknown tag, multiple", spec.Basic.Ack(99, multiple=True))
refused("ack twice", spec.Basic.Ack(1), spec.Basic.Ack(1))
refused("ack of tag 0", spec.Basic.Ack(0))
refused("ack up to one that is settled", spec.Basic.Ack(1), spec.Basic.Ack(1, multiple=True))
refused("nack of an unknown tag", spec.Basic.Nack(99))
refused("reject of an unknown tag", spec.Basic.Reject(99))
refused("recover without requeue", spec.Basic.Recover(requeue=False))
refused("recover-async without requeue", spec.Basic.RecoverAsync(requeue=False))
refused("recover-async is not answered", spec.Basic.RecoverAsync(requeue=True), spec.Basic.Qos(0, 1, False))
refused("ack all where there is nothing", spec.Basic.Ack(0, multiple=True), spec.Basic.Qos(0, 1, False), count=0)


@check(GROUP, "requeued to its place")
def place(lab):
    channel = lab.channel()
    queue = filled(lab, channel, 5)
    messages = [get(channel, queue, auto_ack=False) for _ in range(3)]
    channel.basic_nack(messages[1].tag)
    channel.basic_nack(messages[0].tag)
    return bodies(channel, queue)


@check(GROUP, "requeued to its place in front of what came later")
def place_later(lab):
    channel = lab.channel()
    queue = filled(lab, channel, 1)
    message = get(channel, queue, auto_ack=False)
    channel.basic_publish("", queue, b"later")
    channel.basic_nack(message.tag)
    return bodies(channel, queue)


@check(GROUP, "redelivered to another consumer")
def redelivered(lab):
    one, two = lab.channel(), lab.channel()
    queue = filled(lab, one, 1)
    first = Consumer(one, queue)
    first.wait(1)
    second = Consumer(two, queue)
    one.close()
    second.wait(1)
    return [first.messages[0].seen()[3], second.messages[0].seen()[3]]


@check(GROUP, "redelivered to the same consumer")
def again(lab):
    channel = lab.channel()
    consumer = Consumer(channel, filled(lab, channel, 1))
    consumer.wait(1)
    channel.basic_nack(consumer.messages[0].tag)
    consumer.wait(2)
    return [[message.tag, message.seen()[3]] for message in consumer.messages]


@check(GROUP, "recover delivers again to a consumer")
def recover(lab):
    channel = lab.channel()
    consumer = Consumer(channel, filled(lab, channel, 2))
    consumer.wait(2)
    channel.basic_recover(requeue=True)
    wait_for(channel.connection, lambda: len(consumer.messages) >= 4)
    return [[message.body, message.tag, message.seen()[3]] for message in consumer.messages]


@check(GROUP, "classic queues do not count deliveries")
def no_count(lab):
    channel = lab.channel()
    queue = filled(lab, channel, 1)
    channel.basic_nack(get(channel, queue, auto_ack=False).tag)
    return get(channel, queue).headers


@check(GROUP, "what a cancelled consumer has stays with its channel")
def cancelled(lab):
    channel = lab.channel()
    queue = filled(lab, channel, 2)
    consumer = Consumer(channel, queue)
    consumer.wait(2)
    channel.basic_cancel(consumer.tag)
    before = lab.count(channel, queue)
    channel.basic_nack(consumer.messages[1].tag, multiple=True)
    return [before, lab.counts(channel, queue, 2)]
