"""Connections and channels: how they begin, how they end, and what closes them."""

import struct

import pika
from pika import spec

from lab import body_frame, check, content_header, plain, raw

GROUP = "connection"


@check(GROUP, "server capabilities")
def capabilities(lab):
    connection = lab.connect()
    properties = connection._impl.server_properties
    return [sorted(properties), plain(properties["capabilities"])]


@check(GROUP, "mechanisms and locales")
def mechanisms(lab):
    with raw(lab, opened=False) as client:
        client.send(b"AMQP\x00\x00\x09\x01")
        method = client.receive().method
        return [sorted(method.mechanisms.split()), method.locales, method.version_major, method.version_minor]


@check(GROUP, "tune")
def tune(lab):
    with raw(lab, opened=False) as client:
        client.send(b"AMQP\x00\x00\x09\x01")
        client.receive()
        client.method(0, spec.Connection.StartOk({}, "PLAIN", b"\0guest\0guest", "en_US"))
        method = client.receive().method
        return [method.channel_max, method.frame_max, method.heartbeat]


def header(name, data):
    @check(GROUP, f"protocol header {name}")
    def observe(lab):
        with raw(lab, opened=False) as client:
            client.send(data)
            return client.names()


header("0-8", b"AMQP\x01\x01\x08\x00")
header("0-10", b"AMQP\x01\x01\x00\x0a")
header("of HTTP", b"GET / HT")


def refused(name, **changes):
    @check(GROUP, name)
    def observe(lab):
        return lab.error(lambda: lab.connect(**changes))


refused("wrong password", credentials=pika.PlainCredentials("guest", "wrong"))
refused("unknown user", credentials=pika.PlainCredentials("nobody", "guest"))
refused("unknown vhost", virtual_host="no-such-vhost")


@check(GROUP, "wrong password, client without authentication_failure_close")
def wrong_password_plain(lab):
    with raw(lab, opened=False) as client:
        client.send(b"AMQP\x00\x00\x09\x01")
        client.receive()
        client.method(0, spec.Connection.StartOk({}, "PLAIN", b"\0guest\0wrong", "en_US"))
        return client.names()


@check(GROUP, "AMQPLAIN")
def amqplain(lab):
    with raw(lab, opened=False) as client:
        client.send(b"AMQP\x00\x00\x09\x01")
        client.receive()
        response = b"\x05LOGINS" + struct.pack(">I", 5) + b"guest" + b"\x08PASSWORDS" + struct.pack(">I", 5) + b"guest"
        client.method(0, spec.Connection.StartOk({}, "AMQPLAIN", response, "en_US"))
        return client.names(1)


def tuned(name, channel_max, frame_max):
    @check(GROUP, name)
    def observe(lab):
        with raw(lab, opened=False) as client:
            client.send(b"AMQP\x00\x00\x09\x01")
            client.receive()
            capability = {"capabilities": {"authentication_failure_close": True}}
            client.method(0, spec.Connection.StartOk(capability, "PLAIN", b"\0guest\0guest", "en_US"))
            client.receive()
            client.method(0, spec.Connection.TuneOk(channel_max, frame_max, 0))
            client.method(0, spec.Connection.Open(lab.vhost))
            return client.names(1)


tuned("tune-ok with a frame_max that is too small", 10, 1024)
tuned("tune-ok with a frame_max that is too large", 10, 262144)
tuned("tune-ok with a channel_max that is too large", 4000, 131072)
tuned("tune-ok with less than was proposed", 10, 4096)


@check(GROUP, "close by the client")
def close(lab):
    with raw(lab) as client:
        client.method(0, spec.Connection.Close(200, "bye", 0, 0))
        return client.names(1)


@check(GROUP, "channel close by the client, and opened again")
def reopen(lab):
    with raw(lab) as client:
        client.method(1, spec.Channel.Close(200, "bye", 0, 0))
        client.method(1, spec.Channel.Open())
        return client.names(2)


@check(GROUP, "a method on a channel that is not open")
def not_open(lab):
    with raw(lab) as client:
        client.method(2, spec.Basic.Qos(0, 1, False))
        return client.names(1)


@check(GROUP, "a channel that is opened twice")
def twice(lab):
    with raw(lab) as client:
        client.method(1, spec.Channel.Open())
        return client.names(1)


@check(GROUP, "a channel number above channel_max")
def above(lab):
    with raw(lab) as client:
        client.method(2048, spec.Channel.Open())
        return client.names(1)


@check(GROUP, "more channels than channel_max")
def beyond(lab):
    with raw(lab) as client:
        for channel in range(2, 2049):
            client.method(channel, spec.Channel.Open())
        return client.names(2047)[-2:]


@check(GROUP, "class and method of a channel error")
def ids(lab):
    with raw(lab) as client:
        client.method(1, spec.Queue.Declare(queue=lab.name("none"), passive=True))
        return client.names(1)


@check(GROUP, "class and method of a connection error")
def hard_ids(lab):
    with raw(lab) as client:
        client.method(1, spec.Exchange.Declare(exchange=lab.name("e"), type="nonsense"))
        return client.names(1)


@check(GROUP, "the connection goes on after a channel error")
def goes_on(lab):
    connection = lab.connect()
    error = lab.error(lambda: connection.channel().queue_declare(lab.name("none"), passive=True))
    return [error["code"], connection.channel().queue_declare("", exclusive=True).method.message_count]


@check(GROUP, "what a closed channel is sent is ignored until close-ok")
def ignored(lab):
    with raw(lab) as client:
        client.method(1, spec.Queue.Declare(queue=lab.name("none"), passive=True))
        client.method(1, spec.Queue.Declare(queue=lab.name("other"), durable=True))
        client.method(1, spec.Channel.CloseOk())
        client.method(1, spec.Channel.Open())
        client.method(1, spec.Queue.Declare(queue=lab.name("other"), passive=True))
        return client.names(3)


@check(GROUP, "flow: active is answered")
def flow(lab):
    with raw(lab) as client:
        client.method(1, spec.Channel.Flow(True))
        return client.names(1)


@check(GROUP, "flow: not active")
def no_flow(lab):
    with raw(lab) as client:
        client.method(1, spec.Channel.Flow(False))
        return client.names(1)


@check(GROUP, "a heartbeat is no error")
def heartbeat(lab):
    with raw(lab) as client:
        client.send(b"\x08\x00\x00\x00\x00\x00\x00\xce")
        client.method(1, spec.Basic.Qos(0, 1, False))
        return client.names(1)


@check(GROUP, "update-secret")
def update_secret(lab):
    with raw(lab) as client:
        client.method(0, spec.Connection.UpdateSecret("secret", "new"))
        return client.names(1)


def violation(name, *frames, hides_text=False):
    """Frames that break the protocol. What RabbitMQ says of them shows its own terms, so the text may be hidden."""

    @check("protocol errors", name)
    def observe(lab):
        with raw(lab) as client:
            for data in frames:
                client.send(data(lab) if callable(data) else data)
            seen = client.names(1)
            return [one[:2] + one[3:] for one in seen] if hides_text else seen


def published(lab):
    from pika import frame

    return frame.Method(1, spec.Basic.Publish(exchange="", routing_key=lab.name("q"))).marshal()


violation("a body without a method", body_frame(1, b"x"))
violation("a content header without a method", content_header(1, 1))
violation("a content header of another class", published, content_header(1, 1, class_id=50))
violation("a body before its header", published, body_frame(1, b"x"))
violation("a method instead of a header", published, published)
violation("a method instead of a body", published, content_header(1, 5), published)
violation("a header instead of a body", published, content_header(1, 5), content_header(1, 5))
violation("an unknown frame type", b"\x09\x00\x01\x00\x00\x00\x01x\xce", hides_text=True)
violation("a frame with a wrong end", b"\x01\x00\x01\x00\x00\x00\x04\x00\x14\x00\x28\xcd", hides_text=True)
violation("a frame that is too large", b"\x03\x00\x01\x00\x10\x00\x00", hides_text=True)
violation("an unknown class", b"\x01\x00\x01\x00\x00\x00\x04\x00\xc8\x00\x0a\xce", hides_text=True)
violation("an unknown method", b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\xc8\xce", hides_text=True)
violation("a method that ends in the middle", b"\x01\x00\x01\x00\x00\x00\x05\x00\x32\x00\x0a\x00\xce", hides_text=True)
violation("a method that only servers send", b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x0b\xce")


@check("protocol errors", "basic.qos with a prefetch size")
def prefetch_size(lab):
    return lab.error(lambda: lab.channel().basic_qos(prefetch_size=10, prefetch_count=1))


@check("protocol errors", "immediate=true")
def immediate(lab):
    with raw(lab) as client:
        client.method(1, spec.Basic.Publish(exchange="", routing_key="x", immediate=True))
        client.send(content_header(1, 0))
        return client.names(1)


@check(GROUP, "exclusive queues go with their connection")
def exclusive(lab):
    connection = lab.connect()
    queue = connection.channel().queue_declare("", exclusive=True).method.queue
    connection.close()
    channel = lab.channel()
    return lab.error(lambda: channel.queue_declare(queue, passive=True))


@check(GROUP, "what is not acknowledged goes back when a connection is cut")
def cut(lab):
    channel = lab.channel()
    queue = lab.queue(channel)
    channel.basic_publish("", queue, b"one")
    client = lab.raw().open()
    client.method(1, spec.Basic.Get(queue=queue))
    got = client.names(3)
    client.close()
    lab.counts(channel, queue, 1)
    method, _, body = channel.basic_get(queue, auto_ack=True)
    return [got, body.decode(), method.redelivered]


