#!/usr/bin/env python3
"""Sends tasks, with a dot for each second that they take."""

import pika

import common


def main(connection, options):
    channel = connection.channel()
    channel.queue_declare("task_queue", durable=True)
    channel.confirm_delivery()
    for task in options.tasks:
        channel.basic_publish("", "task_queue", task, pika.BasicProperties(delivery_mode=2), mandatory=True)
    print(f"{len(options.tasks)} sent")


flags = common.parser(__doc__)
flags.add_argument("tasks", nargs="*", default=["a first task.", "a second task..", "a third task..."], metavar="TASK",
                   help="a task, such as `sweep...`")
common.run(main, flags.parse_args())
