"""Prints what an AMQP broker does, one line of JSON for each check: run.py URL. It leaves queues behind."""

import sys

import lab
import connections  # noqa: F401
import exchanges  # noqa: F401
import queues  # noqa: F401
import publishing  # noqa: F401
import consuming  # noqa: F401
import settling  # noqa: F401
import deadletters  # noqa: F401
import quorum  # noqa: F401

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: run.py URL")
    lab.main(sys.argv[1])
