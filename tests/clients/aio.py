"""aio-pika: what it does at a broker, and sees there. `aio.py URL` prints a line for each, the same at every broker."""

import asyncio
import sys

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message

COUNT = 100


async def main(url):
    connection = await aio_pika.connect_robust(url)
    async with connection:
        channel = await connection.channel(on_return_raises=True)
        await channel.set_qos(10)
        exchange = await channel.declare_exchange("aio", ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue("aio", durable=True)
        await queue.bind(exchange, "a.*")
        await ordered(exchange, queue)
        await answered(channel, queue)
        try:
            await exchange.publish(Message(b"lost"), routing_key="nobody")
        except aio_pika.exceptions.PublishError as error:
            print("returned", error.message.delivery.reply_code, error.message.delivery.reply_text)
        try:
            await (await connection.channel()).declare_queue("aio", durable=False)
        except aio_pika.exceptions.ChannelPreconditionFailed as error:
            print("refused", str(error).split(" for ")[0])
        print("deleted", (await queue.delete(if_unused=False, if_empty=False)).message_count)
        await exchange.delete()


async def ordered(exchange, queue):
    for number in range(COUNT):
        message = Message(str(number).encode(), headers={"number": number}, delivery_mode=DeliveryMode.PERSISTENT)
        await exchange.publish(message, routing_key="a.b")
    got = []
    async with queue.iterator() as messages:
        async for message in messages:
            async with message.process():
                got.append((int(message.body), message.headers["number"]))
            if len(got) == COUNT:
                break
    print("in order", got == [(number, number) for number in range(COUNT)])


async def answered(channel, queue):
    answers = await channel.declare_queue(exclusive=True)
    request = Message(b"hello", reply_to=answers.name, correlation_id="7")
    await channel.default_exchange.publish(request, routing_key=queue.name)
    asked = await queue.get(timeout=10)
    await asked.ack()
    answer = Message(asked.body.upper(), correlation_id=asked.correlation_id)
    await channel.default_exchange.publish(answer, routing_key=asked.reply_to)
    answer = await answers.get(timeout=10)
    await answer.nack(requeue=True)
    again = await answers.get(timeout=10)
    await again.ack()
    print("answered", again.body.decode(), again.correlation_id, again.redelivered)


asyncio.run(main(sys.argv[1]))
