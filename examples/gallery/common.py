"""What the scripts of the gallery have in common: their flags, a deadline, and errors in a line or two."""

import argparse
import os
import sys
import time

try:
    import pika
    import pika.exceptions
except ImportError:
    sys.exit("error: the package `pika` is not installed\n"
             "hint: scripts/require-python installs it into target/python; then set PYTHONPATH=target/python")


def parser(description):
    """The flags that every script has. The broker is the one that `wabbit` would take."""
    default = os.environ.get("WABBIT_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f").split(",amqp")[0]
    flags = argparse.ArgumentParser(description=description.splitlines()[0])
    flags.add_argument("--url", default=default, help="the broker (default: WABBIT_AMQP_URL, or the local one)")
    flags.add_argument("--deadline", type=float, default=60, metavar="SECONDS",
                       help="when to give up (default: %(default)s)")
    return flags


def count(flags, default):
    """The flag that says how many messages there are."""
    flags.add_argument("--messages", type=int, default=default, metavar="N",
                       help="how many to publish (default: %(default)s)")
    return flags


def run(main, options):
    """Runs a client with a connection, and ends with 1 and a word where the broker says no."""
    try:
        with pika.BlockingConnection(pika.URLParameters(options.url)) as connection:
            main(connection, options)
    except pika.exceptions.UnroutableError:
        fail("a message was returned: no queue takes it", "does the worker run?")
    except pika.exceptions.AMQPConnectionError as error:
        fail(f"no connection to the broker: {str(error) or 'nobody answers there'}", "see --url")
    except pika.exceptions.AMQPError as error:
        fail(f"the broker refused: {error!r}")


def consume(channel, options):
    """Consumes until the deadline; what else ends a worker is its own affair."""
    channel.connection.call_later(options.deadline, channel.stop_consuming)
    print("consuming", file=sys.stderr, flush=True)
    channel.start_consuming()


def wait(connection, options, missing):
    """Receives until nothing is `missing`, which says what is; fails at the deadline."""
    end = time.monotonic() + options.deadline
    while what := missing():
        if time.monotonic() > end:
            fail(f"after {options.deadline:g} s: {what}")
        connection.process_data_events(time_limit=0.1)


def fail(message, hint=None):
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    sys.exit(1)
