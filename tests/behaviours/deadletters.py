"""Dead letters: what is dead-lettered, where to, and with which headers."""

import time

import pika

from lab import SOON, Consumer, bodies, check, get, within

GROUP = "dead letters"


def graveyard(lab, channel, arguments=None, name="q", key=None):
    """A queue whose dead letters reach another."""
    dead = lab.queue(channel, "dead")
    exchange = lab.exchange(channel, "fanout", "dlx")
    channel.queue_bind(dead, exchange)
    arguments = {"x-dead-letter-exchange": exchange, **(arguments or {})}
    if key is not None:
        arguments["x-dead-letter-routing-key"] = key
    return lab.queue(channel, name, arguments), dead


def letter(lab, message):
    """A dead letter without what differs from run to run."""
    import json

    if message is None:
        return None
    seen = {"seen": message.seen(), "headers": message.headers, "expiration": message.properties.expiration}
    return json.loads(lab.clean(json.dumps(seen)))


def died(name, kill, arguments=None, key=None, **properties):
    @check(GROUP, name)
    def observe(lab):
        channel = lab.channel()
        queue, dead = graveyard(lab, channel, arguments, key=key)
        channel.confirm_delivery()
        channel.basic_publish("", queue, b"one", pika.BasicProperties(**properties))
        kill(channel, queue)
        return letter(lab, get(channel, dead, wait=SOON))


def reject(channel, queue):
    channel.basic_reject(get(channel, queue, auto_ack=False).tag, requeue=False)


def nack(channel, queue):
    channel.basic_nack(get(channel, queue, auto_ack=False).tag, requeue=False)


def push_out(channel, queue):
    channel.basic_publish("", queue, b"two")


def nothing(_channel, _queue):
    pass


died("rejected", reject)
died("nacked", nack)
died("expired in the queue", nothing, {"x-message-ttl": 100})
died("expired by itself", nothing, expiration="100")
died("expired at once", nothing, expiration="0")
died("pushed out", push_out, {"x-max-length": 1})
died("with a routing key", reject, key="other")
died("with an empty routing key", reject, key="")
died("headers stay", reject, headers={"mine": 1}, delivery_mode=2, message_id="m", priority=3)
died("the expiration is taken", reject, expiration="60000")
died("CC stays", reject, headers={"CC": ["further"]})
died("CC goes with a routing key", reject, key="other", headers={"CC": ["further"]})
died("BCC is not told", reject, headers={"BCC": ["further"]})
died("an x-death of the publisher", reject, headers={"x-death": [{"queue": "a", "reason": "rejected", "count": 5}]})
died("an x-death that is a text", reject, headers={"x-death": "mine"})


@check(GROUP, "reject-publish-dlx")
def reject_publish(lab):
    channel = lab.channel()
    queue, dead = graveyard(lab, channel, {"x-max-length": 1, "x-overflow": "reject-publish-dlx"})
    channel.confirm_delivery()
    outcomes = []
    for body in [b"1", b"2"]:
        try:
            channel.basic_publish("", queue, body)
            outcomes.append("ack")
        except pika.exceptions.NackError:
            outcomes.append("nack")
    return [outcomes, letter(lab, get(channel, dead, wait=SOON)), bodies(channel, queue)]


@check(GROUP, "reject-publish does not dead-letter")
def reject_publish_plain(lab):
    channel = lab.channel()
    queue, dead = graveyard(lab, channel, {"x-max-length": 1, "x-overflow": "reject-publish"})
    for body in [b"1", b"2"]:
        channel.basic_publish("", queue, body)
    lab.counts(channel, queue, 1)
    return [bodies(channel, dead), bodies(channel, queue)]


@check(GROUP, "acknowledged is not dead")
def acknowledged(lab):
    channel = lab.channel()
    queue, dead = graveyard(lab, channel)
    channel.basic_publish("", queue, b"one")
    channel.basic_ack(get(channel, queue, auto_ack=False).tag)
    return bodies(channel, dead)


@check(GROUP, "requeued is not dead")
def requeued(lab):
    channel = lab.channel()
    queue, dead = graveyard(lab, channel)
    channel.basic_publish("", queue, b"one")
    channel.basic_nack(get(channel, queue, auto_ack=False).tag, requeue=True)
    return [bodies(channel, dead), bodies(channel, queue)]


@check(GROUP, "purged and deleted is not dead")
def purged(lab):
    channel = lab.channel()
    queue, dead = graveyard(lab, channel)
    channel.basic_publish("", queue, b"one")
    channel.queue_purge(queue)
    channel.basic_publish("", queue, b"two")
    channel.queue_delete(queue)
    time.sleep(0.1)
    return bodies(channel, dead)


@check(GROUP, "an exchange that is missing")
def missing(lab):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-dead-letter-exchange": lab.name("none")})
    channel.basic_publish("", queue, b"one")
    channel.basic_reject(get(channel, queue, auto_ack=False).tag, requeue=False)
    return lab.count(channel, queue)


@check(GROUP, "many keep their order")
def order(lab):
    channel = lab.channel()
    queue, dead = graveyard(lab, channel, {"x-message-ttl": 100})
    for number in range(10):
        channel.basic_publish("", queue, str(number).encode())
    lab.counts(channel, dead, 10)
    return bodies(channel, dead)


@check(GROUP, "rejected together keep their order")
def order_rejected(lab):
    channel = lab.channel()
    queue, dead = graveyard(lab, channel)
    consumer = Consumer(channel, queue)
    for number in range(5):
        channel.basic_publish("", queue, str(number).encode())
    consumer.wait(5)
    channel.basic_nack(0, multiple=True, requeue=False)
    lab.counts(channel, dead, 5)
    return bodies(channel, dead)


@check(GROUP, "twice from the same queue counts")
def twice(lab):
    channel = lab.channel()
    work = lab.name("work")
    exchange = lab.exchange(channel, "direct", "dlx")
    wait = lab.queue(channel, "wait", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": work,
                                       "x-message-ttl": 50})
    lab.queue(channel, "work", {"x-dead-letter-exchange": exchange})
    channel.queue_bind(wait, exchange, work)
    channel.basic_publish("", work, b"one")
    for _ in range(3):
        message = get(channel, work, auto_ack=False, wait=SOON)
        channel.basic_reject(message.tag, requeue=False)
    return letter(lab, get(channel, work, wait=SOON))


@check(GROUP, "a circle without a rejection is dropped")
def circle(lab):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-dead-letter-exchange": "", "x-message-ttl": 50})
    channel.basic_publish("", queue, b"one")
    with within(0.8):
        return lab.stays(channel, queue, 0)


@check(GROUP, "a circle of two without a rejection is dropped")
def circle_of_two(lab):
    channel = lab.channel()
    one, two = lab.name("one"), lab.name("two")
    lab.queue(channel, "one", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": two, "x-message-ttl": 50})
    lab.queue(channel, "two", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": one, "x-message-ttl": 50})
    channel.basic_publish("", one, b"one")
    with within(1.2):
        return [lab.stays(channel, one, 0), lab.stays(channel, two, 0)]


@check(GROUP, "a circle with a rejection goes on")
def circle_rejected(lab):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-dead-letter-exchange": ""})
    channel.basic_publish("", queue, b"one")
    for _ in range(3):
        message = get(channel, queue, auto_ack=False, wait=SOON)
        channel.basic_reject(message.tag, requeue=False)
    return letter(lab, get(channel, queue, wait=SOON))


@check(GROUP, "from queue to queue: the newest death first")
def chain(lab):
    channel = lab.channel()
    last = lab.queue(channel, "last")
    lab.queue(channel, "second", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": last,
                                  "x-message-ttl": 50})
    first = lab.queue(channel, "first", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": lab.name("second")})
    channel.basic_publish("", first, b"one")
    channel.basic_reject(get(channel, first, auto_ack=False).tag, requeue=False)
    return letter(lab, get(channel, last, wait=SOON))


@check(GROUP, "a dead letter exchange that is the default one, by the old key")
def default(lab):
    channel = lab.channel()
    queue = lab.name("q")
    exchange = lab.exchange(channel, "fanout")
    lab.queue(channel, "q", {"x-dead-letter-exchange": ""})
    dead = lab.queue(channel, "old-key")
    channel.queue_bind(queue, exchange)
    channel.basic_publish(exchange, dead, b"one")
    channel.basic_reject(get(channel, queue, auto_ack=False).tag, requeue=False)
    return letter(lab, get(channel, dead, wait=SOON))
