//! The shop of the orders example, and those who wait for its mail and reports: what `orders.py` beside it is in Python.
//!
//! It publishes orders to the exchange `order`, as any shop would that knows nothing of wabbit, and listens on queues of
//! its own for what the two handlers make of them. It ends well when every order was both notified and reported.
//!
//! ```text
//! cargo run --example orders [URL [ORDERS]]
//! ```

use std::{collections::BTreeSet, env, time::Duration};

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind,
    message::Delivery,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

const PRODUCTS: [&str; 5] = ["hay", "carrots", "a hutch", "a brush", "willow sticks"];
const SHOWN: usize = 3;
/// How long it waits for mails and reports.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".into());
    let count: usize = arguments.next().map_or(Ok(100), |count| count.parse()).context("ORDERS is a number")?;
    // Tells the orders of this run from all others, so that several may run side by side.
    let run = format!("{:06x}", fastrand::u32(..1 << 24));

    let connection = Connection::connect(&url, ConnectionProperties::default()).await.context("no connection")?;
    let channel = connection.create_channel().await?;
    let mut mails = listen(&channel, "mail", "order.notify").await?;
    let mut reports = listen(&channel, "reports", "order.report").await?;

    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = ExchangeDeclareOptions::default();
    channel.exchange_declare("order".into(), ExchangeKind::Direct, options, FieldTable::default()).await?;
    let (mut emails, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for number in 1..=count {
        let email = format!("customer-{number}.{run}@example.com");
        let product = PRODUCTS.iter().cycle().nth(number).copied();
        let id = format!("{run}-{number}");
        publish(&channel, "order.notify", &json!({ "user_email": email })).await?;
        let order = json!({ "id": id, "user_email": email, "product": product, "quantity": number % 4 + 1 });
        publish(&channel, "order.report", &order).await?;
        emails.insert(email);
        ids.insert(id);
    }
    println!("published {count} orders, each to be notified and to be reported\n");

    let end = Instant::now() + DEADLINE;
    receive(&mut mails, "mails", emails, to, end).await?;
    receive(&mut reports, "reports", ids, order_id, end).await?;
    println!("every one of the {count} orders was notified and reported");
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Binds a queue of our own, gone when we are, and consumes it.
async fn listen(channel: &Channel, exchange: &str, routing_key: &str) -> lapin::Result<Consumer> {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Direct, durable, FieldTable::default()).await?;
    let ours = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), ours, FieldTable::default()).await?.name().clone();
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.clone(), exchange.into(), routing_key.into(), options, none).await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    channel.basic_consume(queue, "".into(), options, FieldTable::default()).await
}

/// Publishes an order, and waits for its confirm. One that no queue takes is an error instead of being lost in silence.
async fn publish(channel: &Channel, routing_key: &str, order: &Value) -> anyhow::Result<()> {
    let properties = BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let body = order.to_string();
    let confirm =
        channel.basic_publish("order".into(), routing_key.into(), options, body.as_bytes(), properties).await?;
    match confirm.await? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => {
            bail!("an order was returned: is the host running, with the manifests of this project?")
        }
        other => bail!("the broker refused an order: {other:?}"),
    }
}

/// Receives until there is a message for each of these, and shows the first few.
async fn receive(
    consumer: &mut Consumer,
    what: &str,
    mut missing: BTreeSet<String>,
    key: impl Fn(&Delivery) -> Option<String>,
    end: Instant,
) -> anyhow::Result<()> {
    let count = missing.len();
    while !missing.is_empty() {
        let Ok(delivery) = timeout_at(end, consumer.next()).await else {
            bail!("after {DEADLINE:?}: {} of {count} {what} are missing", missing.len());
        };
        let delivery = delivery.context("the broker ended the consumer")??;
        if key(&delivery).is_some_and(|key| missing.remove(&key)) && count - missing.len() <= SHOWN {
            let text = String::from_utf8_lossy(&delivery.data);
            println!("  {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    println!("  … {count} {what}\n");
    Ok(())
}

/// Whom a mail is to.
fn to(mail: &Delivery) -> Option<String> {
    let mail: Value = serde_json::from_slice(&mail.data).ok()?;
    mail.get("to")?.as_str().map(str::to_owned)
}

/// Which order a report is on.
fn order_id(report: &Delivery) -> Option<String> {
    report.properties.message_id().as_ref().map(ToString::to_string)
}
