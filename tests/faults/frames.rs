//! The frames of AMQP 0-9-1: cut out of a stream of bytes, named, and read where somebody has to know what is in them.

use amq_protocol::frame::{AMQPFrame, parse_frame};

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the host to the broker.
    Up,
    /// From the broker to the host.
    Down,
}

/// The kinds of frame that a fault can choose, as they are written in a case.
const NAMES: &[(&str, Kind)] = &[
    ("connection.start", Kind::Method(10, 10)),
    ("connection.start-ok", Kind::Method(10, 11)),
    ("connection.tune", Kind::Method(10, 30)),
    ("connection.tune-ok", Kind::Method(10, 31)),
    ("connection.open", Kind::Method(10, 40)),
    ("connection.open-ok", Kind::Method(10, 41)),
    ("channel.open", Kind::Method(20, 10)),
    ("channel.open-ok", Kind::Method(20, 11)),
    ("exchange.declare", Kind::Method(40, 10)),
    ("exchange.declare-ok", Kind::Method(40, 11)),
    ("queue.declare", Kind::Method(50, 10)),
    ("queue.declare-ok", Kind::Method(50, 11)),
    ("queue.bind", Kind::Method(50, 20)),
    ("queue.bind-ok", Kind::Method(50, 21)),
    ("basic.qos", Kind::Method(60, 10)),
    ("basic.qos-ok", Kind::Method(60, 11)),
    ("basic.consume", Kind::Method(60, 20)),
    ("basic.consume-ok", Kind::Method(60, 21)),
    ("basic.publish", Kind::Method(60, 40)),
    ("basic.return", Kind::Method(60, 50)),
    ("basic.deliver", Kind::Method(60, 60)),
    ("basic.ack", Kind::Method(60, 80)),
    ("basic.nack", Kind::Method(60, 120)),
    ("confirm.select", Kind::Method(85, 10)),
    ("confirm.select-ok", Kind::Method(85, 11)),
    ("header", Kind::Header),
    ("body", Kind::Body),
    ("heartbeat", Kind::Heartbeat),
];

/// What sort of frame it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The eight bytes with which a connection begins.
    Protocol,
    /// A method, by class and number.
    Method(u16, u16),
    /// A content header.
    Header,
    /// A piece of a body.
    Body,
    /// A heartbeat.
    Heartbeat,
}

impl Kind {
    /// The kind that is written so, such as `basic.publish`.
    pub fn named(name: &str) -> Option<Kind> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

/// One frame, with all its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// As they stood on the wire, from the type to the end mark.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// What is in it. Nothing where the library cannot read it: a text that is not UTF-8.
    pub fn read(&self) -> Option<AMQPFrame> {
        parse_frame(self.bytes.as_slice()).ok().map(|(_, frame)| frame)
    }
}

/// Cuts a stream of bytes, in whatever pieces it arrives, into frames.
#[derive(Debug, Default)]
pub struct Splitter {
    waiting: Vec<u8>,
    begun: bool,
}

const HEAD: usize = 7;
const END: u8 = 0xCE;
const PROTOCOL: &[u8] = b"AMQP";
const PROTOCOL_BYTES: usize = 8;

impl Splitter {
    /// Takes bytes in.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next frame that is complete. An error is a stream that is no AMQP.
    pub fn next(&mut self) -> Result<Option<Frame>, String> {
        let begins = PROTOCOL.get(..self.waiting.len().min(PROTOCOL.len())).unwrap_or_default();
        if !self.begun && !self.waiting.is_empty() && self.waiting.starts_with(begins) {
            if self.waiting.len() < PROTOCOL_BYTES {
                return Ok(None);
            }
            self.begun = true;
            return Ok(Some(Frame { kind: Kind::Protocol, bytes: self.waiting.drain(..PROTOCOL_BYTES).collect() }));
        }
        let Some(head) = self.waiting.get(..HEAD) else { return Ok(None) };
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let Some(bytes) = self.waiting.get(..HEAD + size + 1) else { return Ok(None) };
        if bytes.last() != Some(&END) {
            return Err(format!("a frame of {size} bytes does not end as it should"));
        }
        let kind = match (bytes[0], bytes.get(HEAD..HEAD + 4)) {
            (1, Some(id)) if size >= 4 => {
                Kind::Method(u16::from_be_bytes([id[0], id[1]]), u16::from_be_bytes([id[2], id[3]]))
            }
            (2, _) => Kind::Header,
            (3, _) => Kind::Body,
            (8, _) => Kind::Heartbeat,
            (other, _) => return Err(format!("a frame of type {other} with {size} bytes")),
        };
        self.begun = true;
        Ok(Some(Frame { kind, bytes: self.waiting.drain(..HEAD + size + 1).collect() }))
    }
}

/// The bytes of a frame, for tests.
#[cfg(test)]
pub fn written(frame: &AMQPFrame) -> Vec<u8> {
    let writer = amq_protocol::frame::gen_frame(frame);
    writer(Vec::new().into()).unwrap().into_inner().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::protocol::{AMQPClass, basic};

    fn publish() -> AMQPFrame {
        let publish =
            basic::Publish { exchange: "".into(), routing_key: "out".into(), mandatory: true, immediate: false };
        AMQPFrame::Method(3, AMQPClass::Basic(basic::AMQPMethod::Publish(publish)))
    }

    /// All frames of a stream that arrives in pieces of that size.
    fn split(stream: &[u8], piece: usize) -> Result<Vec<Frame>, String> {
        let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
        for bytes in stream.chunks(piece) {
            splitter.feed(bytes);
            while let Some(frame) = splitter.next()? {
                frames.push(frame);
            }
        }
        assert!(splitter.waiting.is_empty());
        Ok(frames)
    }

    #[test]
    fn a_stream_is_cut_the_same_in_all_pieces() {
        let parts = [
            b"AMQP\x00\x00\x09\x01".to_vec(),
            written(&publish()),
            written(&AMQPFrame::Body(3, b"\xce hay \xce".to_vec())),
            written(&AMQPFrame::Heartbeat),
        ];
        let kinds = [Kind::Protocol, Kind::named("basic.publish").unwrap(), Kind::Body, Kind::Heartbeat];
        let stream = parts.concat();
        for piece in 1..=stream.len() {
            let frames = split(&stream, piece).unwrap();
            assert_eq!(frames.iter().map(|frame| frame.kind).collect::<Vec<_>>(), kinds);
            assert_eq!(frames.iter().map(|frame| frame.bytes.clone()).collect::<Vec<_>>(), parts);
        }
        assert_eq!(split(&stream, 5).unwrap()[1].read(), Some(publish()));
        // What the broker sends has no protocol header.
        assert_eq!(split(&parts[1], 2).unwrap()[0].kind, kinds[1]);
    }

    #[test]
    fn what_is_no_amqp_is_an_error() {
        for stream in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x01\x00\x01\x00\x00\x00\x04\x00\x0a\x00\x0a\x00"] {
            let mut splitter = Splitter::default();
            splitter.feed(stream);
            splitter.feed(&[0; 1 << 16]);
            let result = splitter.next();
            assert!(result.is_err() || result == Ok(None), "{result:?}");
        }
        let mut broken = written(&publish());
        *broken.last_mut().unwrap() = 0;
        assert!(split(&broken, 7).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_still_a_frame() {
        let mut bytes = written(&publish());
        let at = bytes.windows(3).position(|text| text == b"out").unwrap();
        bytes[at] = 0xFF;
        let frame = split(&bytes, 4).unwrap().remove(0);
        assert_eq!((frame.kind, frame.read()), (Kind::Method(60, 40), None));
    }
}
