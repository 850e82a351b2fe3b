#!/usr/bin/env python3
"""Sends lines by facility and severity."""

import common

KEYS = ["kern.critical", "kern.info", "cron.critical", "cron.info"]


def main(connection, options):
    channel = connection.channel()
    channel.exchange_declare("topic_logs", exchange_type="topic")
    channel.confirm_delivery()
    for number in range(options.messages):
        key = KEYS[number % len(KEYS)]
        channel.basic_publish("topic_logs", key, f"line {number + 1}", mandatory=True)
    print(f"{options.messages} lines sent")


common.run(main, common.count(common.parser(__doc__), 8).parse_args())
