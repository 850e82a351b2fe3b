//! The native loop: lapin as well as it can be used. Acks and confirms are pipelined, and acks are cumulative.
//!
//! It is built as cargo builds a release by default, the host as it is released; link-time optimisation of the native
//! loop takes its CPU from about 6 to 4.6 µs a message, and the ratio of the first row down by about 0.03.

use std::collections::VecDeque;
use std::env;
use std::pin::Pin;
use std::process::{self, Child, Command, Stdio};
use std::time::Instant;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::process::computed;
use crate::rates::window;
use crate::{OUT, PREFETCH, QUEUE};

/// It acks so many at once, as the host does: fewer where the prefetch is so small that the broker would wait for them.
const ACK_EACH: usize = 100;

/// Starts one in a process of its own, for so many messages.
pub fn start(url: &str, relay: bool, messages: usize) -> Child {
    start_with(url, relay, messages, PREFETCH)
}

/// The same with another prefetch.
pub fn start_with(url: &str, relay: bool, messages: usize, prefetch: u16) -> Child {
    let what = if relay { "relay" } else { "ack" };
    Command::new(env::current_exe().unwrap())
        .args(["native", url, what, &messages.to_string(), &prefetch.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Handles most of so many messages. Prints the window's time, count and CPU time.
pub async fn run(url: &str, relay: bool, messages: usize, prefetch: u16) {
    let peer = Peer::connect(url).await;
    let publishing = Peer::connect(url).await;
    let publish = publishing.new_channel().await;
    publish.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let channel = peer.new_channel().await;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
    let mut consumer = channel
        .basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .unwrap();
    let (from, to) = window(messages);
    let ack_each = usize::from(prefetch / 4).clamp(1, ACK_EACH);
    let (mut done, mut unsent) = (0, 0);
    let mut start = None;
    let mut confirming: VecDeque<Pin<Box<dyn Future<Output = u64>>>> = VecDeque::new();
    while done < to {
        let last = tokio::select! {
            delivery = consumer.next() => {
                let delivery: Delivery = delivery.unwrap().unwrap();
                if !relay {
                    delivery.delivery_tag
                } else {
                    let (publish, tag) = (publish.clone(), delivery.delivery_tag);
                    let mut sending: Pin<Box<dyn Future<Output = u64>>> = Box::pin(async move {
                        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                        let confirm = publish.basic_publish("".into(), OUT.into(), options, &delivery.data, persistent());
                        assert!(confirm.await.unwrap().await.unwrap().is_ack());
                        tag
                    });
                    // The first poll queues the frames.
                    match (&mut sending).now_or_never() {
                        Some(tag) => confirming.push_back(Box::pin(std::future::ready(tag))),
                        None => confirming.push_back(sending),
                    }
                    continue;
                }
            }
            tag = async { confirming.front_mut().unwrap().await }, if !confirming.is_empty() => {
                confirming.pop_front();
                tag
            }
        };
        done += 1;
        unsent += 1;
        if unsent == ack_each {
            unsent = 0;
            let channel = channel.clone();
            let mut ack =
                Box::pin(async move { channel.basic_ack(last, BasicAckOptions { multiple: true }).await.unwrap() });
            // Polled here, so that acks leave in order; written while this goes on.
            if (&mut ack).now_or_never().is_none() {
                tokio::spawn(ack);
            }
        }
        if start.is_none() && done >= from {
            start = Some((Instant::now(), done, computed(process::id())));
        }
    }
    let start = start.unwrap();
    let end = (Instant::now(), done, computed(process::id()));
    println!("{} {} {}", (end.0 - start.0).as_micros(), end.1 - start.1, (end.2 - start.2).as_micros());
}
