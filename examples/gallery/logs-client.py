#!/usr/bin/env python3
"""Sends lines to all who read the log."""

import common


def main(connection, options):
    channel = connection.channel()
    channel.exchange_declare("logs", exchange_type="fanout")
    channel.confirm_delivery()
    for number in range(1, options.messages + 1):
        channel.basic_publish("logs", "", f"line {number}", mandatory=True)
    print(f"{options.messages} lines sent")


common.run(main, common.count(common.parser(__doc__), 3).parse_args())
