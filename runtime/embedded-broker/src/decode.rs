//! Bytes of a client to frames, without trust in any of them.

use amq_protocol::frame::AMQPFrame;
use amq_protocol::frame::parsing::{parse_content_header, parse_protocol_header};
use amq_protocol::protocol::{constants, parse_class};

use crate::failure::{Code, Failure};
use crate::output::FRAME_OVERHEAD;

/// The bytes of the protocol header.
const PROTOCOL_HEADER_BYTES: usize = 8;
/// `basic.qos`, by class and method.
const QOS: (u16, u16) = (60, 10);
/// The bytes before the payload of a frame.
const PREFIX_BYTES: usize = 7;

/// The next frame of what has come so far, and how many bytes it has. Nothing where it is not complete.
///
/// # Errors
/// What came is no frame, or one that is larger than `frame_max` bytes or deeper nested than `nesting_max`.
pub fn decode(bytes: &[u8], frame_max: u32, nesting_max: usize) -> Result<Option<(AMQPFrame, usize)>, Failure> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    if kind == b'A' {
        let Some(header) = bytes.get(1..PROTOCOL_HEADER_BYTES) else { return Ok(None) };
        let (_, version) = parse_protocol_header(header).map_err(|_| frame_error("no protocol header"))?;
        return Ok(Some((AMQPFrame::ProtocolHeader(version), PROTOCOL_HEADER_BYTES)));
    }
    let Some(&[_, c1, c0, s3, s2, s1, s0]) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let channel = u16::from_be_bytes([c1, c0]);
    let size = usize::try_from(u32::from_be_bytes([s3, s2, s1, s0])).unwrap_or(usize::MAX);
    let most = usize::try_from(frame_max).unwrap_or(usize::MAX).saturating_sub(FRAME_OVERHEAD);
    if size > most {
        let text = format!("type {kind}, channel {channel}: frame of {size} payload bytes, of which {most} may be");
        return Err(frame_error(text));
    }
    let Some(payload) = bytes.get(PREFIX_BYTES..PREFIX_BYTES + size) else { return Ok(None) };
    let Some(end) = bytes.get(PREFIX_BYTES + size) else { return Ok(None) };
    if *end != constants::FRAME_END {
        return Err(frame_error(format!("invalid frame end octet - {end}")));
    }
    let frame = match kind {
        constants::FRAME_METHOD | constants::FRAME_HEADER => {
            if is_deeper(payload, nesting_max) {
                return Err(Failure::new(Code::SyntaxError, "tables are nested too deeply"));
            }
            let ids = match payload {
                [c1, c0, m1, m0, ..] if kind == constants::FRAME_METHOD => {
                    (u16::from_be_bytes([*c1, *c0]), u16::from_be_bytes([*m1, *m0]))
                }
                _ => (0, 0),
            };
            let malformed = || Failure { method: ids, ..frame_error("a method or header that cannot be read") };
            // The codec does not tell the size.
            if let (QOS, Some(&[s3, s2, s1, s0])) = (ids, payload.get(4..).and_then(|rest| rest.first_chunk::<4>())) {
                let size = u32::from_be_bytes([s3, s2, s1, s0]);
                if size != 0 {
                    let text = format!("prefetch_size!=0 ({size})");
                    return Err(Failure { method: ids, ..Failure::new(Code::NotImplemented, text) });
                }
            }
            if kind == constants::FRAME_METHOD {
                match parse_class(payload) {
                    Ok(([], method)) => AMQPFrame::Method(channel, method),
                    _ => return Err(malformed()),
                }
            } else {
                match parse_content_header(payload) {
                    Ok(([], header)) => AMQPFrame::Header(channel, header),
                    _ => return Err(malformed()),
                }
            }
        }
        constants::FRAME_BODY => AMQPFrame::Body(channel, payload.to_vec()),
        constants::FRAME_HEARTBEAT if channel == 0 => AMQPFrame::Heartbeat,
        constants::FRAME_HEARTBEAT => AMQPFrame::InvalidHeartbeat(channel),
        _ => return Err(frame_error(format!("type {kind}, unknown frame type"))),
    };
    Ok(Some((frame, PREFIX_BYTES + size + 1)))
}

fn frame_error(text: impl Into<String>) -> Failure {
    Failure::new(Code::FrameError, text)
}

/// Whether tables and arrays may be nested deeper than `most`. The codec recurses into them, so that a frame of nothing
/// but beginnings would overflow its stack. What looks like the beginning of a table counts, wherever it stands, so the
/// answer may be yes for a frame that has many such bytes in texts; it is never no for one that is too deep.
pub(crate) fn is_deeper(payload: &[u8], most: usize) -> bool {
    let mut ends: Vec<usize> = Vec::new();
    for (at, window) in payload.windows(5).enumerate() {
        let &[b'A' | b'F', b3, b2, b1, b0] = window else { continue };
        let length = usize::try_from(u32::from_be_bytes([b3, b2, b1, b0])).unwrap_or(usize::MAX);
        let Some(end) = at.checked_add(5).and_then(|at| at.checked_add(length)) else { continue };
        if end > payload.len() {
            continue;
        }
        ends.retain(|end| *end > at);
        ends.push(end);
        if ends.len() > most {
            return true;
        }
    }
    false
}
