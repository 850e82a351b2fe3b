"""The script that users have: pika, a prefetch of 100, one ack a message.

Takes the broker's URL, a queue, and the numbers of the messages that begin and end the window; prints the window's
microseconds, its messages and its microseconds of CPU.
"""

import sys
import time

import pika

url, queue, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.basic_qos(prefetch_count=100)
done = 0
begun = None


def handle(channel, method, properties, body):
    global done, begun
    channel.basic_ack(method.delivery_tag)
    done += 1
    if done == first:
        begun = (time.monotonic(), time.process_time())
    elif done == last:
        channel.stop_consuming()


channel.basic_consume(queue, handle)
channel.start_consuming()
took, computed = time.monotonic() - begun[0], time.process_time() - begun[1]
print(int(took * 1e6), last - first, int(computed * 1e6))
connection.close()
