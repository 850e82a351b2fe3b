"""Publishing: confirms, returns, properties, transactions, and times to live."""

import datetime
import decimal
import time

import pika
from pika import spec

from lab import SOON, Consumer, bodies, check, content_header, get, plain, raw, until, within

GROUP = "publishing"


@check(GROUP, "to no queue is confirmed")
def unroutable(lab):
    channel = lab.channel()
    channel.confirm_delivery()
    return lab.error(lambda: channel.basic_publish("", lab.name("none"), b"x"))


@check(GROUP, "mandatory to no queue: the return is before the confirm")
def mandatory(lab):
    with raw(lab) as client:
        client.method(1, spec.Confirm.Select())
        client.receive()
        client.method(1, spec.Basic.Publish(exchange="amq.direct", routing_key="nowhere", mandatory=True))
        client.send(content_header(1, 0))
        method = client.receive().method
        return [method.NAME, method.reply_code, method.reply_text, method.exchange, method.routing_key, client.names(2)]


@check(GROUP, "mandatory without confirms")
def mandatory_plain(lab):
    channel = lab.channel()
    returned = []
    channel.add_on_return_callback(lambda _c, method, _p, body: returned.append([method.reply_code, body.decode()]))
    channel.basic_publish("", lab.name("none"), b"one", mandatory=True)
    channel.basic_publish("", lab.queue(channel), b"two", mandatory=True)
    until(lambda: channel.connection.process_data_events(0.01), lambda _: returned)
    return returned


def confirmed(client, last):
    """The numbers that were confirmed, however they were grouped."""
    acked = set()
    while last not in acked:
        method = client.receive().method
        if method.NAME != "Basic.Ack":
            return [method.NAME]
        first = min(set(range(1, last + 1)) - acked) if method.multiple else method.delivery_tag
        acked |= set(range(first, method.delivery_tag + 1))
    return sorted(acked)


@check(GROUP, "confirms count from 1, and all come")
def confirms(lab):
    queue = lab.queue(lab.channel())
    with raw(lab) as client:
        client.method(1, spec.Confirm.Select())
        client.receive()
        for _ in range(20):
            client.method(1, spec.Basic.Publish(exchange="", routing_key=queue))
            client.send(content_header(1, 0))
        return confirmed(client, 20)


@check(GROUP, "confirm.select twice goes on counting")
def confirms_twice(lab):
    with raw(lab) as client:
        for _ in range(2):
            client.method(1, spec.Confirm.Select())
            client.receive()
            client.method(1, spec.Basic.Publish(exchange="", routing_key="none"))
            client.send(content_header(1, 0))
            method = client.receive().method
        return [method.NAME, method.delivery_tag]


@check(GROUP, "confirm.select with nowait")
def confirms_nowait(lab):
    with raw(lab) as client:
        client.method(1, spec.Confirm.Select(nowait=True))
        client.method(1, spec.Basic.Publish(exchange="", routing_key="none"))
        client.send(content_header(1, 0))
        return client.names(1)


@check(GROUP, "all properties arrive as they were")
def properties(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=3, correlation_id="c",
        reply_to="r", expiration="60000", message_id="m", timestamp=1700000000, type="t", user_id="guest", app_id="a",
        cluster_id="x",
    )
    channel.basic_publish("", queue, b"x", sent)
    return {key: plain(value) for key, value in sorted(vars(get(channel, queue).properties).items())}


@check(GROUP, "headers of every type arrive as they were")
def headers(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    sent = {
        "text": "ä", "bytes": b"\x00\xff", "yes": True, "small": 5, "negative": -5, "large": 2**40,
        "none": None, "list": [1, "two", [3, None]], "table": {"a": {"b": {}}}, "empty": "",
        "decimal": decimal.Decimal("1.5"), "time": datetime.datetime(2020, 1, 1),
    }
    channel.basic_publish("", queue, b"x", pika.BasicProperties(headers=sent))
    received = get(channel, queue).properties.headers
    return {key: [type(value).__name__, str(value)] for key, value in sorted(received.items())}


@check(GROUP, "bodies of many sizes arrive as they were")
def sizes(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    seen = {}
    for size in [0, 1, 131_063, 131_064, 131_065, 262_128, 1_000_000]:
        body = bytes(number % 251 for number in range(size))
        channel.basic_publish("", queue, body)
        _, _, received = channel.basic_get(queue, auto_ack=True)
        seen[size] = received == body
    return seen


@check(GROUP, "a body larger than frames of 4096")
def small_frames(lab):
    channel = lab.connect(frame_max=4096).channel()
    queue = lab.queue(channel)
    body = bytes(number % 251 for number in range(20_000))
    channel.basic_publish("", queue, body)
    return channel.basic_get(queue, auto_ack=True)[2] == body


def refused(name, **options):
    @check(GROUP, name)
    def observe(lab):
        channel = lab.channel()
        queue = lab.queue(channel)
        channel.confirm_delivery()
        return lab.error(lambda: channel.basic_publish("", queue, b"x", pika.BasicProperties(**options)))


refused("user-id of another", user_id="somebody")
refused("user-id of one's own", user_id="guest")
for expiration in ["text", "-1", "", "1.5", "5s", " 5", "+5", "4294967296", "99999999999999999999", "0", "100"]:
    refused(f"expiration {expiration!r}", expiration=expiration)


def copied(name, headers, keys=("a", "b", "c", "d")):
    @check("CC and BCC", name)
    def observe(lab):
        def act():
            channel = lab.channel()
            exchange = lab.exchange(channel, "direct")
            for key in keys:
                channel.queue_bind(lab.queue(channel, key), exchange, key)
            channel.confirm_delivery()
            channel.basic_publish(exchange, "a", b"x", pika.BasicProperties(headers=headers))
            for key in keys:
                message = get(channel, lab.name(key))
                seen[key] = message and [message.method.routing_key, message.headers]

        seen = {}
        return [lab.error(act), seen]


copied("CC", {"CC": ["b", "c"]})
copied("BCC is hidden", {"BCC": ["b"], "other": 1})
copied("both", {"CC": ["b"], "BCC": ["c"]})
copied("the key again", {"CC": ["a"]})
copied("CC that is a text", {"CC": "b"})
copied("CC with a number", {"CC": ["b", 5]})
copied("BCC that is a text", {"BCC": "b"})


@check("CC and BCC", "through the default exchange")
def copied_default(lab):
    channel = lab.channel()
    one, two = lab.queue(channel, "one"), lab.queue(channel, "two")
    channel.basic_publish("", one, b"x", pika.BasicProperties(headers={"CC": [two]}))
    return [bodies(channel, one), bodies(channel, two)]


@check("transactions", "commit publishes")
def commit(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    channel.tx_select()
    channel.basic_publish("", queue, b"one")
    before = lab.count(channel, queue)
    channel.tx_commit()
    return [before, lab.counts(channel, queue, 1), bodies(lab.channel(), queue)]


@check("transactions", "rollback forgets")
def rollback(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    channel.tx_select()
    channel.basic_publish("", queue, b"one")
    channel.tx_rollback()
    channel.tx_commit()
    return lab.count(channel, queue)


@check("transactions", "acknowledgements wait for the commit")
def transaction_ack(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    channel.basic_publish("", queue, b"one")
    channel.tx_select()
    message = get(channel, queue, auto_ack=False)
    channel.basic_ack(message.tag)
    channel.close()
    other = lab.channel()
    return lab.counts(other, queue, 1)


@check("transactions", "rollback brings back what was acknowledged")
def transaction_rollback_ack(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    channel.basic_publish("", queue, b"one")
    channel.tx_select()
    message = get(channel, queue, auto_ack=False)
    channel.basic_ack(message.tag)
    channel.tx_rollback()
    channel.basic_nack(message.tag)
    channel.tx_commit()
    other = lab.channel()
    lab.counts(other, queue, 1)
    return get(other, queue).seen()[3]


@check("transactions", "mandatory is returned at the commit")
def transaction_mandatory(lab):
    with raw(lab) as client:
        client.method(1, spec.Tx.Select())
        client.method(1, spec.Basic.Publish(exchange="", routing_key="none", mandatory=True))
        client.send(content_header(1, 0))
        client.method(1, spec.Tx.Commit())
        return client.names(4)


def modes(name, *methods):
    @check("transactions", name)
    def observe(lab):
        with raw(lab) as client:
            for method in methods:
                client.method(1, method)
            return client.names(len(methods))


modes("tx.select after confirm.select", spec.Confirm.Select(), spec.Tx.Select())
modes("confirm.select after tx.select", spec.Tx.Select(), spec.Confirm.Select())
modes("tx.commit without tx.select", spec.Tx.Commit())
modes("tx.rollback without tx.select", spec.Tx.Rollback())


@check("time to live", "x-message-ttl")
def queue_ttl(lab):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-message-ttl": 200})
    with within(0.15):
        channel.basic_publish("", queue, b"one")
        early = lab.counts(channel, queue, 1)
    with within(0.4):
        return [early, lab.counts(channel, queue, 0)]


@check("time to live", "of a message")
def message_ttl(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    with within(0.15):
        channel.basic_publish("", queue, b"one", pika.BasicProperties(expiration="200"))
        early = lab.counts(channel, queue, 1)
    with within(0.4):
        return [early, lab.counts(channel, queue, 0)]


@check("time to live", "of a message behind one that lives on")
def behind(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    channel.basic_publish("", queue, b"long", pika.BasicProperties(expiration="60000"))
    channel.basic_publish("", queue, b"short", pika.BasicProperties(expiration="100"))
    time.sleep(0.4)
    stays = lab.count(channel, queue)
    head = get(channel, queue).body
    return [stays, head, lab.counts(channel, queue, 0), bodies(channel, queue)]


@check("time to live", "the shorter of both")
def shorter(lab):
    channel = lab.channel()
    one, two = lab.queue(channel, "one", {"x-message-ttl": 60000}), lab.queue(channel, "two", {"x-message-ttl": 100})
    channel.basic_publish("", one, b"x", pika.BasicProperties(expiration="100"))
    channel.basic_publish("", two, b"x", pika.BasicProperties(expiration="60000"))
    with within(0.4):
        return [lab.counts(channel, one, 0), lab.counts(channel, two, 0)]


@check("time to live", "0 without a consumer")
def zero(lab):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-message-ttl": 0})
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"one")
    return bodies(channel, queue)


@check("time to live", "0 with a consumer")
def zero_consumer(lab):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-message-ttl": 0})
    consumer = Consumer(channel, queue)
    channel.basic_publish("", queue, b"one")
    return consumer.seen(1)


@check("time to live", "is not for what is delivered")
def delivered(lab):
    channel = lab.channel()
    queue = lab.queue(channel, arguments={"x-message-ttl": 150})
    with within(0.1):
        channel.basic_publish("", queue, b"one")
        message = get(channel, queue, auto_ack=False, wait=0.1)
    time.sleep(0.4)
    channel.basic_nack(message.tag, requeue=True)
    return lab.counts(channel, queue, 0)


@check("direct reply-to", "request and answer")
def reply(lab):
    requester, server = lab.channel(), lab.channel()
    queue = lab.queue(server)
    answers = Consumer(requester, "amq.rabbitmq.reply-to", auto_ack=True)
    requester.basic_publish("", queue, b"question", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    question = get(server, queue, wait=SOON)
    address = question.properties.reply_to
    server.basic_publish("", address, b"answer", pika.BasicProperties(correlation_id="1"))
    answer = answers.wait(1)[0]
    exists = lab.error(lambda: lab.channel().queue_declare(address, passive=True))
    return [address.startswith("amq.rabbitmq.reply-to."), answer.body, answer.method.exchange,
            answer.method.routing_key == address, answer.properties.correlation_id, exists]


@check("direct reply-to", "a mandatory answer")
def reply_mandatory(lab):
    requester, server = lab.channel(), lab.channel()
    queue = lab.queue(server)
    answers = Consumer(requester, "amq.rabbitmq.reply-to", auto_ack=True)
    requester.basic_publish("", queue, b"question", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    address = get(server, queue, wait=SOON).properties.reply_to
    server.confirm_delivery()
    try:
        server.basic_publish("", address, b"answer", mandatory=True)
        outcome = "routed"
    except pika.exceptions.UnroutableError:
        outcome = "returned"
    return [outcome, answers.seen(1)]


@check("direct reply-to", "nobody waits any more")
def reply_gone(lab):
    requester, server = lab.channel(), lab.channel()
    queue = lab.queue(server)
    Consumer(requester, "amq.rabbitmq.reply-to", auto_ack=True)
    requester.basic_publish("", queue, b"question", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    address = get(server, queue, wait=SOON).properties.reply_to
    requester.close()
    server.confirm_delivery()
    published = lab.error(lambda: server.basic_publish("", address, b"answer"))
    declared = lab.missing(address)
    return [published, {**declared, "text": declared["text"].replace(address, "ADDRESS")}]


@check("direct reply-to", "the pseudo queue can be declared passively")
def reply_declared(lab):
    return lab.error(lambda: lab.channel().queue_declare("amq.rabbitmq.reply-to", passive=True))


def reply_misuse(name, act):
    @check("direct reply-to", name)
    def observe(lab):
        return lab.error(lambda: act(lab, lab.channel()))


def consume_twice(_lab, channel):
    for _ in range(2):
        Consumer(channel, "amq.rabbitmq.reply-to", auto_ack=True)


def ask_without_consumer(lab, channel):
    channel.confirm_delivery()
    channel.basic_publish("", "x", b"x", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))


reply_misuse("with acknowledgements", lambda _lab, channel: Consumer(channel, "amq.rabbitmq.reply-to"))
reply_misuse("consumed twice", consume_twice)
reply_misuse("a request without a consumer", ask_without_consumer)
