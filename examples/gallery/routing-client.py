#!/usr/bin/env python3
"""Sends lines of three severities."""

import common

SEVERITIES = ["info", "warning", "error"]


def main(connection, options):
    channel = connection.channel()
    channel.exchange_declare("direct_logs", exchange_type="direct")
    channel.confirm_delivery()
    for number in range(options.messages):
        severity = SEVERITIES[number % len(SEVERITIES)]
        channel.basic_publish("direct_logs", severity, f"line {number + 1}", mandatory=True)
    print(f"{options.messages} lines sent")


common.run(main, common.count(common.parser(__doc__), 6).parse_args())
