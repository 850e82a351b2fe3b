// amqplib: what it does at a broker, and sees there. `amqplib.js URL` prints a line for each, the same at every broker.

"use strict";

const amqp = require("amqplib");

const COUNT = 50;

async function main(url) {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange("js", "headers", { durable: false, autoDelete: true });
  const { queue } = await channel.assertQueue("", { exclusive: true });
  await channel.bindQueue(queue, "js", "", { "x-match": "all", kind: "a" });
  await channel.prefetch(5);
  const got = [];
  const all = new Promise((resolve) => {
    channel.consume(queue, (message) => {
      got.push([message.content.toString(), message.properties.headers.number]);
      channel.ack(message);
      if (got.length === COUNT) resolve();
    });
  });
  const returned = new Promise((resolve) => channel.on("return", (message) => resolve(message.fields)));
  for (let number = 0; number < COUNT; number += 1) {
    channel.publish("js", "", Buffer.from(String(number)), { headers: { kind: "a", number }, persistent: true });
  }
  channel.publish("js", "", Buffer.from("lost"), { headers: { kind: "b" }, mandatory: true });
  await channel.waitForConfirms();
  await all;
  console.log("in order", got.every(([body, number], index) => body === String(index) && number === index));
  const { replyCode, replyText } = await returned;
  console.log("returned", replyCode, replyText);

  // Direct reply-to, with the server on the same connection.
  await channel.assertQueue("js-server", { exclusive: true });
  await channel.consume("js-server", (message) => {
    const { replyTo, correlationId } = message.properties;
    channel.sendToQueue(replyTo, Buffer.from(message.content.toString().toUpperCase()), { correlationId });
    channel.ack(message);
  });
  const asking = await connection.createChannel();
  const answer = new Promise((resolve) => asking.consume("amq.rabbitmq.reply-to", resolve, { noAck: true }));
  asking.sendToQueue("js-server", Buffer.from("hello"), { replyTo: "amq.rabbitmq.reply-to", correlationId: "9" });
  const { content, properties } = await answer;
  console.log("answered", content.toString(), properties.correlationId);

  const refused = await connection.createChannel();
  refused.on("error", () => {});
  await refused.checkQueue("js-nobody").catch((error) => console.log("refused", error.code));
  await connection.close();
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
