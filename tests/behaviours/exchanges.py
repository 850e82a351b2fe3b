"""Exchanges: what they are declared with, and where they route."""

import pika
from pika import spec

from lab import bodies, check, get, raw

GROUP = "exchange"


def declared(name, kind="direct", again=None, exchange="e", first=None, arguments=None, again_arguments=None):
    """Declares an exchange, and once more in another way."""

    @check(GROUP, name)
    def observe(lab):
        def act():
            channel = lab.channel()
            target = lab.name(exchange) if exchange == "e" else exchange
            if first is not None:
                channel.exchange_declare(target, kind, arguments=arguments, **first)
            channel.exchange_declare(target, arguments=again_arguments, **again)

        return lab.error(act)


declared("declared twice alike", first={}, again={"exchange_type": "direct"})
declared("of another type", first={}, again={"exchange_type": "fanout"})
declared("durable or not", first={"durable": False}, again={"exchange_type": "direct", "durable": True})
declared("auto-delete or not", first={}, again={"exchange_type": "direct", "auto_delete": True})
declared("internal or not", first={}, again={"exchange_type": "direct", "internal": True})
declared("another alternate-exchange", first={}, again={"exchange_type": "direct"},
         arguments={"alternate-exchange": "x"})
declared("an alternate-exchange that came later", first={}, again={"exchange_type": "direct"},
         again_arguments={"alternate-exchange": "x"})
declared("an alternate-exchange that is a number", again={"exchange_type": "direct"},
         again_arguments={"alternate-exchange": 5})
declared("other arguments do not count", first={}, again={"exchange_type": "direct"}, arguments={"x-foo": 1})
declared("unknown type", again={"exchange_type": "nonsense"})
declared("reserved name", exchange="amq.mine", again={"exchange_type": "direct"})
declared("a predeclared one as it is", exchange="amq.direct", again={"exchange_type": "direct", "durable": True})
declared("a predeclared one as another", exchange="amq.direct", again={"exchange_type": "fanout", "durable": True})
declared("the default exchange", exchange="", again={"exchange_type": "direct"})
declared("passive, missing", again={"exchange_type": "direct", "passive": True})
declared("passive, of another type", first={}, again={"exchange_type": "fanout", "passive": True})


@check(GROUP, "predeclared exchanges")
def predeclared(lab):
    seen = {}
    for name in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.none"]:
        error = lab.error(lambda: lab.channel().exchange_declare(name, passive=True))
        seen[name] = error and error["code"]
    return seen


def deleted(name, exchange, if_unused=False, bound=False, declare=True):
    @check(GROUP, name)
    def observe(lab):
        channel = lab.channel()
        target = lab.name(exchange) if exchange == "e" else exchange
        if declare:
            channel.exchange_declare(target, "direct")
        if bound:
            channel.queue_bind(lab.queue(channel), target, "k")
        return lab.error(lambda: channel.exchange_delete(target, if_unused=if_unused))


deleted("delete", "e")
deleted("delete what is missing", "e", declare=False)
deleted("delete the default exchange", "", declare=False)
deleted("delete a predeclared one", "amq.topic", declare=False)
deleted("delete if unused, unused", "e", if_unused=True)
deleted("delete if unused, used", "e", if_unused=True, bound=True)


@check(GROUP, "auto-delete goes with its last binding")
def auto_delete(lab):
    channel = lab.channel()
    queue, exchange = lab.queue(channel), lab.exchange(channel, "direct", auto_delete=True)
    channel.queue_bind(queue, exchange, "a")
    channel.queue_bind(queue, exchange, "b")
    channel.queue_unbind(queue, exchange, "a")
    channel.exchange_declare(exchange, passive=True)
    channel.queue_unbind(queue, exchange, "b")
    return lab.error(lambda: channel.exchange_declare(exchange, passive=True))


@check(GROUP, "auto-delete goes with its last queue")
def auto_delete_queue(lab):
    channel = lab.channel()
    queue, exchange = lab.queue(channel), lab.exchange(channel, "direct", auto_delete=True)
    channel.queue_bind(queue, exchange, "a")
    channel.queue_delete(queue)
    return lab.error(lambda: channel.exchange_declare(exchange, passive=True))


@check(GROUP, "auto-delete in a chain")
def auto_delete_chain(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    first = lab.exchange(channel, "fanout", "first", auto_delete=True)
    second = lab.exchange(channel, "fanout", "second", auto_delete=True)
    channel.exchange_bind(second, first)
    channel.queue_bind(queue, second)
    channel.queue_delete(queue)
    return [lab.error(lambda: lab.channel().exchange_declare(name, passive=True)) for name in [first, second]]


@check(GROUP, "publish to an internal exchange")
def internal(lab):
    channel = lab.channel()
    exchange = lab.exchange(channel, "fanout", internal=True)
    channel.confirm_delivery()
    return lab.error(lambda: channel.basic_publish(exchange, "", b"x"))


@check(GROUP, "publish to a missing exchange")
def missing(lab):
    channel = lab.channel()
    channel.confirm_delivery()
    return lab.error(lambda: channel.basic_publish(lab.name("none"), "", b"x"))


def routed(name, kind, bindings, messages, group="routing"):
    """Publishes messages (key, headers) to an exchange, and says which came for each binding (key, arguments)."""

    @check(group, name)
    def observe(lab):
        channel = lab.channel()
        exchange = lab.exchange(channel, kind)
        queues = []
        for number, (key, arguments) in enumerate(bindings):
            queues.append(lab.queue(channel, f"q{number}"))
            channel.queue_bind(queues[-1], exchange, key, arguments=arguments)
        for key, headers in messages:
            label = f"{key} {sorted((headers or {}).items())}" if headers else key
            channel.basic_publish(exchange, key, label.encode(), pika.BasicProperties(headers=headers))
        return {
            f"{key or ''}{arguments or ''}": bodies(channel, queue)
            for (key, arguments), queue in zip(bindings, queues, strict=True)
        }


def keys(*names):
    return [(name, None) for name in names]


routed("direct", "direct", keys("a", "b", "", "a.*"), keys("a", "b", "c", "", "a.b"))
routed("fanout", "fanout", keys("a", ""), keys("a", "b"))
TOPICS = keys("", "a", "a.b", "a.b.c", "b", "b.a", "a..b", ".", "a.", ".a", "A")
for pattern in ["#", "*", "", "a", "a.*", "a.#", "*.b", "#.b", "a.*.c", "a.#.c", "*.*", "#.a.#", "*.#", "#.*", "*..*"]:
    routed(f"topic {pattern or 'empty'}", "topic", keys(pattern), TOPICS)
HEADERS = [("", headers) for headers in [
    None, {"a": 1}, {"b": "two"}, {"a": 1, "b": "two"}, {"a": 1, "b": "other"}, {"a": "1"}, {"a": True}, {"x-c": 3},
    {"a": 1, "x-c": 3},
]]
for how in ["all", "any", "all-with-x", "any-with-x", None]:
    match = {"x-match": how} if how else {}
    for label, wanted in [("numbers and texts", {"a": 1, "b": "two"}), ("presence", {"a": None}),
                          ("a header x-", {"a": 1, "x-c": 3}), ("nothing", {})]:
        routed(f"headers {how or 'by default'}: {label}", "headers", [("", {**match, **wanted})], HEADERS)


def refused_match(name, value):
    @check("routing", name)
    def observe(lab):
        channel = lab.channel()
        queue, exchange = lab.queue(channel), lab.exchange(channel, "headers")
        return lab.error(lambda: channel.queue_bind(queue, exchange, "", arguments={"x-match": value}))


refused_match("headers with an unknown x-match", "some")
refused_match("headers with an x-match that is a number", 5)


@check("routing", "the default exchange")
def default(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    channel.basic_publish("", queue, b"one")
    return get(channel, queue).seen()[2] == queue


@check("routing", "several bindings bring one message")
def several(lab):
    channel = lab.channel()
    queue, exchange = lab.queue(channel), lab.exchange(channel, "topic")
    for pattern in ["a.*", "#", "*.b"]:
        channel.queue_bind(queue, exchange, pattern)
    channel.basic_publish(exchange, "a.b", b"one")
    return bodies(channel, queue)


@check("routing", "the same binding twice is one")
def same(lab):
    channel = lab.channel()
    queue, exchange = lab.queue(channel), lab.exchange(channel, "direct")
    channel.queue_bind(queue, exchange, "a")
    channel.queue_bind(queue, exchange, "a")
    channel.queue_unbind(queue, exchange, "a")
    channel.basic_publish(exchange, "a", b"one")
    return bodies(channel, queue)


@check("routing", "exchange to exchange")
def chain(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    first, second = lab.exchange(channel, "topic", "first"), lab.exchange(channel, "direct", "second", internal=True)
    channel.exchange_bind(second, first, "a.#")
    channel.queue_bind(queue, second, "a.b")
    for key in ["a.b", "a.c", "b"]:
        channel.basic_publish(first, key, key.encode())
    message = get(channel, queue)
    channel.exchange_unbind(second, first, "a.#")
    channel.basic_publish(first, "a.b", b"after")
    return [lab.clean(str(message.seen())), bodies(channel, queue)]


@check("routing", "exchanges in a circle")
def circle(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    first, second = lab.exchange(channel, "fanout", "first"), lab.exchange(channel, "fanout", "second")
    channel.exchange_bind(second, first)
    channel.exchange_bind(first, second)
    channel.queue_bind(queue, second)
    channel.basic_publish(first, "", b"one")
    return bodies(channel, queue)


@check("routing", "alternate exchange")
def alternate(lab):
    channel = lab.channel()
    routed_to, other = lab.queue(channel, "routed"), lab.queue(channel, "other")
    spare = lab.exchange(channel, "fanout", "spare")
    exchange = lab.exchange(channel, "direct", arguments={"alternate-exchange": spare})
    channel.queue_bind(routed_to, exchange, "a")
    channel.queue_bind(other, spare)
    channel.basic_publish(exchange, "a", b"a")
    channel.basic_publish(exchange, "b", b"b")
    message = get(channel, other)
    return [bodies(channel, routed_to), lab.clean(str(message.seen())), bodies(channel, other)]


@check("routing", "an alternate exchange that is missing, and mandatory")
def alternate_missing(lab):
    channel = lab.channel()
    exchange = lab.exchange(channel, "direct", arguments={"alternate-exchange": lab.name("none")})
    return returned(lab, channel, exchange)


def returned(lab, channel, exchange):
    channel.confirm_delivery()
    try:
        channel.basic_publish(exchange, "b", b"b", mandatory=True)
    except pika.exceptions.UnroutableError as error:
        return [[one.method.reply_code, one.method.reply_text, one.body.decode()] for one in error.messages]
    return "routed"


@check("routing", "an alternate exchange counts for mandatory")
def alternate_mandatory(lab):
    channel = lab.channel()
    spare = lab.exchange(channel, "fanout", "spare")
    channel.queue_bind(lab.queue(channel), spare)
    return returned(lab, channel, lab.exchange(channel, "direct", arguments={"alternate-exchange": spare}))


def binding(name, act):
    @check("binding", name)
    def observe(lab):
        channel = lab.channel()
        queue, exchange = lab.queue(channel), lab.exchange(channel, "direct")
        return lab.error(lambda: act(lab, channel, queue, exchange))


binding("of a missing queue", lambda lab, channel, queue, exchange: channel.queue_bind(lab.name("no"), exchange, "k"))
binding("to a missing exchange", lambda lab, channel, queue, exchange: channel.queue_bind(queue, lab.name("no"), "k"))
binding("of both missing", lambda lab, channel, queue, exchange: channel.queue_bind(lab.name("n"), lab.name("o"), "k"))
binding("to the default exchange", lambda lab, channel, queue, exchange: channel.queue_bind(queue, "", "k"))
binding("unbind from the default exchange", lambda lab, channel, queue, exchange: channel.queue_unbind(queue, "", "k"))
binding("unbind what is not bound", lambda lab, channel, queue, exchange: channel.queue_unbind(queue, exchange, "k"))
binding("unbind a missing queue",
        lambda lab, channel, queue, exchange: channel.queue_unbind(lab.name("no"), exchange, "k"))
binding("unbind from a missing exchange",
        lambda lab, channel, queue, exchange: channel.queue_unbind(queue, lab.name("no"), "k"))
binding("of exchanges, unbind a missing one",
        lambda lab, channel, queue, exchange: channel.exchange_unbind(lab.name("no"), exchange, "k"))
binding("of exchanges, source missing",
        lambda lab, channel, queue, exchange: channel.exchange_bind(exchange, lab.name("no"), "k"))
binding("of exchanges, destination missing",
        lambda lab, channel, queue, exchange: channel.exchange_bind(lab.name("no"), exchange, "k"))
binding("of exchanges, to the default", lambda lab, channel, queue, exchange: channel.exchange_bind("", exchange, "k"))
binding("of exchanges, from the default", lambda lab, channel, queue, exchange: channel.exchange_bind(exchange, "", "k"))
binding("of exchanges, unbind what is not bound",
        lambda lab, channel, queue, exchange: channel.exchange_unbind(exchange, "amq.fanout", "k"))


@check("binding", "an empty name is the queue declared last")
def last_declared(lab):
    channel = lab.channel()
    exchange = lab.exchange(channel, "direct")
    queue = lab.queue(channel)
    channel.queue_bind("", exchange, "k")
    channel.basic_publish(exchange, "k", b"one")
    return bodies(channel, queue)


@check("binding", "an empty name and key are the queue declared last")
def last_declared_key(lab):
    with raw(lab) as client:
        queue, exchange = lab.name("q"), lab.name("e")
        client.method(1, spec.Exchange.Declare(exchange=exchange, type="direct"))
        client.method(1, spec.Queue.Declare(queue=queue, durable=True))
        client.method(1, spec.Queue.Bind(queue="", exchange=exchange, routing_key=""))
        client.names(3)
        channel = lab.channel()
        channel.basic_publish(exchange, queue, b"by name")
        channel.basic_publish(exchange, "", b"by nothing")
        return bodies(channel, queue)


@check("binding", "an empty name where nothing was declared")
def nothing_declared(lab):
    with raw(lab) as client:
        client.method(1, spec.Queue.Bind(queue="", exchange="amq.direct", routing_key="k"))
        return client.names(1)
