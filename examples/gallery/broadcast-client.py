#!/usr/bin/env python3
"""Tells scores to whoever listens, be that nobody."""

import common


def main(connection, options):
    channel = connection.channel()
    channel.exchange_declare("score_updates", exchange_type="fanout", auto_delete=True)
    channel.confirm_delivery()
    for goals in range(options.messages):
        channel.basic_publish("score_updates", "", f"{options.match} {goals}:0")
    print(f"{options.messages} scores told")


flags = common.count(common.parser(__doc__), 5)
flags.add_argument("--match", default="Rabbits - Hares", help="who plays (default: %(default)s)")
common.run(main, flags.parse_args())
