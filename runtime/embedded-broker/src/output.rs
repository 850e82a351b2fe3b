//! What goes to a client: as frames, or written to a buffer.

use std::sync::Arc;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, GenError, ProtocolVersion, WriteContext, gen_frame};
use amq_protocol::protocol::basic::{self, gen_properties};
use amq_protocol::protocol::{AMQPClass, BasicProperties, constants};
use amq_protocol::types::{AMQPValue, ChannelId, FieldTable, ShortString};

use crate::Name;
use crate::failure::short;
use crate::message::{Message, with_headers};

/// The class of messages.
const BASIC: u16 = 60;
/// What surrounds the payload of a frame, in bytes.
pub(crate) const FRAME_OVERHEAD: usize = 8;
/// What the frames of a content take besides its body and texts, roughly, in bytes.
const CONTENT_BYTES: usize = 128;
/// What the frame of a method is taken to have, in bytes.
const METHOD_BYTES: usize = 64;

/// One thing for a client.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// The protocol that the broker speaks, for a client that speaks another.
    ProtocolHeader,
    /// A method without content.
    Method(ChannelId, AMQPClass),
    /// A message.
    Content {
        /// The channel that it goes to.
        channel: ChannelId,
        /// What it is to the client.
        kind: ContentKind,
        /// The message itself.
        message: Arc<Message>,
        /// What its `x-delivery-count` header has to say.
        delivery_count: Option<u64>,
    },
}

/// What a message that goes to a client is to it.
#[derive(Clone, Debug)]
pub enum ContentKind {
    /// A consumer's.
    Deliver {
        /// The consumer.
        consumer_tag: Name,
        /// What it is to be acknowledged by.
        delivery_tag: u64,
        /// Whether it may have been delivered before.
        redelivered: bool,
    },
    /// The answer to `basic.get`.
    GetOk {
        /// What it is to be acknowledged by.
        delivery_tag: u64,
        /// Whether it may have been delivered before.
        redelivered: bool,
        /// How many more wait.
        message_count: u32,
    },
    /// It could not be routed.
    Return,
}

/// The reply code and text of a message that went to no queue.
const NO_ROUTE: (u16, &str) = (312, "NO_ROUTE");

impl Outgoing {
    /// How many bytes it comes to, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Outgoing::Content { message, .. } => {
                CONTENT_BYTES + message.body.len() + message.exchange.len() + message.routing_key.len()
            }
            Outgoing::ProtocolHeader | Outgoing::Method(..) => METHOD_BYTES,
        }
    }

    /// The frames that it consists of. `frame_max` is what was negotiated, in bytes.
    #[must_use]
    pub fn into_frames(self, frame_max: u32) -> Vec<AMQPFrame> {
        match self {
            Outgoing::ProtocolHeader => vec![AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1())],
            Outgoing::Method(channel, method) => vec![AMQPFrame::Method(channel, method)],
            Outgoing::Content { channel, kind, message, delivery_count } => {
                let header = AMQPContentHeader {
                    class_id: BASIC,
                    body_size: message.body.len() as u64,
                    properties: properties(&message, delivery_count).unwrap_or_else(|| message.properties.clone()),
                };
                let mut frames = vec![
                    AMQPFrame::Method(channel, AMQPClass::Basic(kind.method(&message))),
                    AMQPFrame::Header(channel, header),
                ];
                let chunks = message.body.chunks(body_chunk(frame_max));
                frames.extend(chunks.map(|chunk| AMQPFrame::Body(channel, chunk.to_vec())));
                frames
            }
        }
    }

    /// Writes its frames to the end of a buffer.
    ///
    /// # Errors
    /// A method that the codec cannot write; none that the broker makes is one.
    pub fn encode(&self, frame_max: u32, out: &mut Vec<u8>) -> Result<(), GenError> {
        match self {
            Outgoing::ProtocolHeader => {
                generate(out, gen_frame(&AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1())))
            }
            Outgoing::Method(channel, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => {
                frame(out, constants::FRAME_METHOD, *channel, |out| {
                    out.extend_from_slice(&[0, 60, 0, 80]);
                    out.extend_from_slice(&ack.delivery_tag.to_be_bytes());
                    out.push(u8::from(ack.multiple));
                    Ok(())
                })
            }
            Outgoing::Method(channel, method) => generate(out, gen_frame(&AMQPFrame::Method(*channel, method.clone()))),
            Outgoing::Content { channel, kind, message, delivery_count } => {
                encode_content(*channel, kind, message, *delivery_count, frame_max, out)
            }
        }
    }
}

fn encode_content(
    channel: ChannelId,
    kind: &ContentKind,
    message: &Message,
    delivery_count: Option<u64>,
    frame_max: u32,
    out: &mut Vec<u8>,
) -> Result<(), GenError> {
    frame(out, constants::FRAME_METHOD, channel, |out| {
        kind.encode(message, out);
        Ok(())
    })?;
    frame(out, constants::FRAME_HEADER, channel, |out| {
        out.extend_from_slice(&[0, 60, 0, 0]);
        out.extend_from_slice(&(message.body.len() as u64).to_be_bytes());
        match properties(message, delivery_count) {
            Some(properties) => generate(out, gen_properties(&properties)),
            None => generate(out, gen_properties(&message.properties)),
        }
    })?;
    for chunk in message.body.chunks(body_chunk(frame_max)) {
        frame(out, constants::FRAME_BODY, channel, |out| {
            out.extend_from_slice(chunk);
            Ok(())
        })?;
    }
    Ok(())
}

impl ContentKind {
    fn method(&self, message: &Message) -> basic::AMQPMethod {
        let (exchange, routing_key) = (short(&*message.exchange), short(&*message.routing_key));
        match self {
            ContentKind::Deliver { consumer_tag, delivery_tag, redelivered } => {
                basic::AMQPMethod::Deliver(basic::Deliver {
                    consumer_tag: short(&**consumer_tag),
                    delivery_tag: *delivery_tag,
                    redelivered: *redelivered,
                    exchange,
                    routing_key,
                })
            }
            ContentKind::GetOk { delivery_tag, redelivered, message_count } => basic::AMQPMethod::GetOk(basic::GetOk {
                delivery_tag: *delivery_tag,
                redelivered: *redelivered,
                exchange,
                routing_key,
                message_count: *message_count,
            }),
            ContentKind::Return => basic::AMQPMethod::Return(basic::Return {
                reply_code: NO_ROUTE.0,
                reply_text: short(NO_ROUTE.1),
                exchange,
                routing_key,
            }),
        }
    }

    /// The same without making the method first: this is where a busy broker spends its time.
    fn encode(&self, message: &Message, out: &mut Vec<u8>) {
        match self {
            ContentKind::Deliver { consumer_tag, delivery_tag, redelivered } => {
                out.extend_from_slice(&[0, 60, 0, 60]);
                text(out, consumer_tag);
                out.extend_from_slice(&delivery_tag.to_be_bytes());
                out.push(u8::from(*redelivered));
                text(out, &message.exchange);
                text(out, &message.routing_key);
            }
            ContentKind::GetOk { delivery_tag, redelivered, message_count } => {
                out.extend_from_slice(&[0, 60, 0, 71]);
                out.extend_from_slice(&delivery_tag.to_be_bytes());
                out.push(u8::from(*redelivered));
                text(out, &message.exchange);
                text(out, &message.routing_key);
                out.extend_from_slice(&message_count.to_be_bytes());
            }
            ContentKind::Return => {
                out.extend_from_slice(&[0, 60, 0, 50]);
                out.extend_from_slice(&NO_ROUTE.0.to_be_bytes());
                text(out, NO_ROUTE.1);
                text(out, &message.exchange);
                text(out, &message.routing_key);
            }
        }
    }
}

/// Names come from short strings, so that one byte counts them.
fn text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend(bytes.iter().take(usize::from(length)));
}

/// One frame, whose payload `payload` writes.
fn frame(
    out: &mut Vec<u8>,
    kind: u8,
    channel: ChannelId,
    payload: impl FnOnce(&mut Vec<u8>) -> Result<(), GenError>,
) -> Result<(), GenError> {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    payload(out)?;
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    out.push(constants::FRAME_END);
    Ok(())
}

/// Lets the codec write to the end of a buffer.
fn generate(
    out: &mut Vec<u8>,
    write: impl FnOnce(WriteContext<Vec<u8>>) -> Result<WriteContext<Vec<u8>>, GenError>,
) -> Result<(), GenError> {
    *out = write(WriteContext::from(std::mem::take(out)))?.into_inner().0;
    Ok(())
}

/// How many bytes of a body one frame takes.
fn body_chunk(frame_max: u32) -> usize {
    let bytes = usize::try_from(frame_max).unwrap_or(usize::MAX);
    bytes.saturating_sub(FRAME_OVERHEAD).max(1)
}

/// The properties of a delivery, where they are not the message's own.
fn properties(message: &Message, delivery_count: Option<u64>) -> Option<BasicProperties> {
    let count = i64::try_from(delivery_count?).unwrap_or(i64::MAX);
    let mut headers: FieldTable = message.properties.headers().clone().unwrap_or_default();
    headers.insert(ShortString::from("x-delivery-count"), AMQPValue::LongLongInt(count));
    Some(with_headers(&message.properties, Some(headers), true))
}
