"""What the checks are written with: connections to the broker under test, and what is seen of it as plain values."""

import json
import re
import struct
import socket
import time
from contextlib import contextmanager
from urllib.parse import unquote, urlparse

import pika
from pika import exceptions, frame, spec

# How long something may take that is to happen, in seconds.
SOON = 10.0
# The same of frames. RabbitMQ gives a client 10 s to open its connection, and then ends it.
FRAME = 30.0
# How long it is watched that nothing happens, in seconds.
QUIET = 0.25
# How often a check is made for which the machine is too busy, before it is said to be.
ATTEMPTS = 30

# Distinguishes the names of this run from those of an earlier one.
RUN = f"{time.time_ns() // 1_000_000 % 2**32:08x}"

CHECKS = []


def check(group, name):
    """Registers a check: a function of a Lab that returns what it observed, as JSON has it."""

    def register(function):
        CHECKS.append((group, name, function))
        return function

    return register


class Late(Exception):
    """The machine was too busy to see in time what was to be seen: the check is made again."""


@contextmanager
def within(seconds):
    """What is done in here says something only if it takes no longer than this."""
    begun = time.monotonic()
    try:
        yield
    finally:
        if time.monotonic() - begun > seconds:
            raise Late(f"more than {seconds} s")


class Lab:
    """The broker at one URL, as one attempt at a check sees it."""

    def __init__(self, url, number):
        self.url = url
        self.address = urlparse(url)
        self.vhost = unquote(self.address.path[1:]) or "/"
        self.prefix = f"c{number}-{RUN}-"
        self.opened = []

    def name(self, name):
        """A name that no other check uses."""
        return self.prefix + name

    def parameters(self, **changes):
        parameters = pika.URLParameters(self.url)
        parameters.heartbeat = 0
        for key, value in changes.items():
            setattr(parameters, key, value)
        return parameters

    def connect(self, **changes):
        connection = pika.BlockingConnection(self.parameters(**changes))
        self.opened.append(connection)
        return connection

    def channel(self):
        """A channel on a connection of its own."""
        return self.connect().channel()

    def queue(self, channel, name="q", arguments=None, **flags):
        """Declares a queue of this check, and returns its name."""
        name = self.name(name)
        flags.setdefault("durable", True)
        channel.queue_declare(name, arguments=arguments, **flags)
        return name

    def exchange(self, channel, kind, name="e", arguments=None, **flags):
        name = self.name(name)
        channel.exchange_declare(name, kind, arguments=arguments, **flags)
        return name

    def count(self, channel, queue):
        """How many messages wait in a queue."""
        return channel.queue_declare(queue, passive=True).method.message_count

    def counts(self, channel, queue, expected):
        """The same, when it is what is expected, or when that took too long."""
        return until(lambda: self.count(channel, queue), lambda count: count == expected)

    def stays(self, channel, queue, expected):
        """The same, when it stays so for a moment."""
        self.counts(channel, queue, expected)
        time.sleep(QUIET)
        return self.count(channel, queue)

    def missing(self, queue, pause=0.01):
        """What the broker says of a queue that is to go, as another connection sees it. Looking is no use that keeps
        it, if it is not looked at more often than it expires."""
        return until(lambda: self.error(lambda: self.channel().queue_declare(queue, passive=True)), bool, pause=pause)

    def close(self):
        """Closes what the check opened. Names end with their check: what is durable goes with the vhost."""
        for connection in self.opened:
            try:
                connection.close()
            except exceptions.AMQPError:
                pass

    def clean(self, text):
        """A text without what differs from run to run."""
        text = text.replace(self.prefix, "").replace(f"vhost '{self.vhost}'", "vhost 'V'")
        text = text.replace(f"vhost {self.vhost} ", "vhost V ")
        # Erlang breaks what is long into lines.
        text = re.sub(r"\n\s*", "", text)
        text = re.sub(r"amq\.gen-[\w-]+", "amq.gen-X", text)
        return re.sub(r"amq\.ctag-[\w-]+", "amq.ctag-X", text)

    def error(self, act):
        """What the broker closes a channel or connection with when this is done."""
        try:
            act()
        except exceptions.ChannelClosedByBroker as closed:
            return {"closes": "channel", "code": closed.reply_code, "text": self.clean(closed.reply_text)}
        except exceptions.ConnectionClosedByBroker as closed:
            return {"closes": "connection", "code": closed.reply_code, "text": self.clean(closed.reply_text)}
        except exceptions.ProbableAuthenticationError as closed:
            return {"closes": "connection", "code": "login", "text": self.clean(str(closed))}
        except exceptions.AMQPConnectionError as closed:
            return {"closes": "connection", "code": "lost", "text": type(closed).__name__}
        return None

    def raw(self):
        return Raw(self)


def until(look, done, limit=SOON, pause=0.01):
    """Looks until what is seen is what is waited for, with a pause between; returns what was seen last."""
    end = time.monotonic() + limit
    while True:
        seen = look()
        if done(seen) or time.monotonic() > end:
            return seen
        time.sleep(pause)


def get(channel, queue, auto_ack=True, wait=0.0):
    """A message by basic.get as plain values, or None."""
    method, properties, body = until(
        lambda: channel.basic_get(queue, auto_ack=auto_ack), lambda answer: answer[0] is not None, wait
    )
    if method is None:
        return None
    return Message(method, properties, body)


def bodies(channel, queue):
    """The bodies of all messages that wait."""
    found = []
    while (message := get(channel, queue)) is not None:
        found.append(message.body)
    return found


class Message:
    def __init__(self, method, properties, body):
        self.method = method
        self.properties = properties
        self.body = body.decode()
        self.tag = method.delivery_tag
        self.headers = plain(properties.headers or {})

    def seen(self):
        """What a consumer sees of it."""
        method = self.method
        return [self.body, method.exchange, method.routing_key, bool(method.redelivered)]


def plain(value):
    """A value of a header as JSON has it. What passes with time is its type only."""
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return type(value).__name__


class Consumer:
    """A consumer whose deliveries are kept as they come."""

    def __init__(self, channel, queue, auto_ack=False, **options):
        self.channel = channel
        self.messages = []
        self.cancelled = False
        channel.add_on_cancel_callback(self._on_cancel)
        self.tag = channel.basic_consume(queue, self._on_message, auto_ack=auto_ack, **options)

    def _on_message(self, _channel, method, properties, body):
        self.messages.append(Message(method, properties, body))

    def _on_cancel(self, _frame):
        self.cancelled = True

    def wait(self, count=None, limit=SOON):
        """The messages when there are so many; without a count those of a quiet moment."""
        wait_for(self.channel.connection, lambda: count is not None and len(self.messages) >= count,
                 QUIET if count is None else limit)
        return self.messages

    def seen(self, count=None):
        return [message.body for message in self.wait(count)]


def wait_for(connection, done, limit=SOON):
    end = time.monotonic() + limit
    while not done() and time.monotonic() < end:
        connection.process_data_events(time_limit=0.01)


class Raw:
    """A client that sends frames as it likes."""

    def __init__(self, lab):
        self.lab = lab
        self.socket = socket.create_connection((lab.address.hostname, lab.address.port), timeout=FRAME)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def method(self, channel, method):
        self.send(frame.Method(channel, method).marshal())

    def receive(self):
        """The next frame as [name, values], or how the connection ended."""
        while True:
            if self.buffer[:4] == b"AMQP" and len(self.buffer) >= 8:
                header, self.buffer = self.buffer[:8], self.buffer[8:]
                return ["protocol header", list(header[4:])]
            used, decoded = frame.decode_frame(self.buffer) if self.buffer else (0, None)
            if decoded is not None:
                self.buffer = self.buffer[used:]
                return decoded
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return ["end"]
            if not data:
                return ["end"]
            self.buffer += data

    def names(self, count=None):
        """The names of the next frames, with what they close with, until the end or so many."""
        seen = []
        while count is None or len(seen) < count:
            one = self.receive()
            if isinstance(one, list):
                seen.append(one)
                if one == ["end"]:
                    break
                continue
            seen.append(self.described(one))
        return seen

    def described(self, one):
        if not isinstance(one, frame.Method):
            return [type(one).__name__]
        method = one.method
        if isinstance(method, (spec.Connection.Close, spec.Channel.Close)):
            return [method.NAME, method.reply_code, self.lab.clean(method.reply_text), method.class_id, method.method_id]
        return [method.NAME]

    def open(self, channel=True):
        """Goes as far as an open connection with channel 1."""
        self.send(b"AMQP\x00\x00\x09\x01")
        self.receive()
        response = f"\0{self.lab.address.username}\0{self.lab.address.password}".encode()
        capabilities = {"authentication_failure_close": True, "connection.blocked": True,
                        "consumer_cancel_notify": True}
        self.method(0, spec.Connection.StartOk({"capabilities": capabilities}, "PLAIN", response, "en_US"))
        tune = self.receive().method
        self.method(0, spec.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        self.method(0, spec.Connection.Open(self.lab.vhost))
        self.receive()
        if channel:
            self.method(1, spec.Channel.Open())
            self.receive()
        return self

    def close(self):
        self.socket.close()


@contextmanager
def raw(lab, opened=True):
    client = lab.raw()
    try:
        yield client.open() if opened else client
    finally:
        client.close()


def content_header(channel, size, class_id=60):
    """A content header without properties."""
    payload = struct.pack(">HHQH", class_id, 0, size, 0)
    return struct.pack(">BHI", 2, channel, len(payload)) + payload + b"\xce"


def body_frame(channel, body):
    return struct.pack(">BHI", 3, channel, len(body)) + body + b"\xce"


def observed(url, number, function):
    """What a check saw, in the first attempt for which the machine was not too busy."""
    for attempt in range(ATTEMPTS):
        lab = Lab(url, f"{number}-{attempt}")
        try:
            return function(lab)
        except Late as late:
            seen = {"fails": f"the machine was too busy {ATTEMPTS} times: {late}"}
        except Exception as error:  # noqa: BLE001: that a check cannot go on is what it observed
            return {"fails": f"{type(error).__name__}: {lab.clean(str(error))}"}
        finally:
            lab.close()
    return seen


def main(url):
    """Runs all checks one after another, and prints a line for each."""
    for number, (group, name, function) in enumerate(CHECKS):
        seen = observed(url, number, function)
        print(json.dumps({"group": group, "name": name, "observed": plain(seen)}), flush=True)
