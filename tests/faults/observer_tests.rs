//! The observer on streams of frames that are made up: it accuses who is wrong, and nobody else.

use amq_protocol::frame::AMQPContentHeader;
use amq_protocol::protocol::basic::AMQPMethod;

use super::super::frames::{Splitter, written};
use super::*;

/// A host that consumes on channel 1 of connection 0 with a prefetch of 3, and publishes on channel 1 of connection 1.
struct Stage {
    observer: Observer,
}

const CONSUME: ConnectionId = 0;
const PUBLISH: ConnectionId = 1;

impl Stage {
    fn new() -> Stage {
        let mut stage = Stage { observer: Observer::default() };
        for connection in [CONSUME, PUBLISH] {
            stage.method(connection, Direction::Up, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
        }
        let qos = basic::Qos { prefetch_count: 3, global: false };
        stage.basic(CONSUME, Direction::Up, AMQPMethod::Qos(qos));
        let select = confirm::Select { nowait: false };
        stage.method(PUBLISH, Direction::Up, AMQPClass::Confirm(confirm::AMQPMethod::Select(select)));
        for (id, outputs) in [("a", Some(1)), ("b", Some(2)), ("c", None), ("d", Some(0))] {
            stage.observer.expect(id, outputs);
        }
        stage
    }

    fn frame(&mut self, connection: ConnectionId, direction: Direction, frame: &AMQPFrame) {
        let mut splitter = Splitter::default();
        splitter.feed(&written(frame));
        let frame = splitter.next().unwrap().unwrap();
        self.observer.frame(connection, direction, &frame);
    }

    fn method(&mut self, connection: ConnectionId, direction: Direction, method: AMQPClass) {
        self.frame(connection, direction, &AMQPFrame::Method(1, method));
    }

    fn basic(&mut self, connection: ConnectionId, direction: Direction, method: AMQPMethod) {
        self.method(connection, direction, AMQPClass::Basic(method));
    }

    fn content(&mut self, connection: ConnectionId, direction: Direction, id: &str, body: &str) {
        let header = AMQPContentHeader {
            class_id: 60,
            body_size: body.len() as u64,
            properties: basic::AMQPProperties::default().with_message_id(id.into()),
        };
        self.frame(connection, direction, &AMQPFrame::Header(1, header));
        // In two pieces.
        let (one, two) = body.as_bytes().split_at(body.len() / 2);
        for piece in [one, two] {
            self.frame(connection, direction, &AMQPFrame::Body(1, piece.to_vec()));
        }
    }

    fn deliver(&mut self, tag: u64, id: &str, redelivered: bool) -> &mut Stage {
        let deliver = basic::Deliver {
            consumer_tag: "c".into(),
            delivery_tag: tag,
            redelivered,
            exchange: "".into(),
            routing_key: "work".into(),
        };
        self.basic(CONSUME, Direction::Down, AMQPMethod::Deliver(deliver));
        self.content(CONSUME, Direction::Down, id, "{}");
        self
    }

    fn publish(&mut self, id: &str, body: &str) -> &mut Stage {
        let publish =
            basic::Publish { exchange: "".into(), routing_key: "out".into(), mandatory: true, immediate: false };
        self.basic(PUBLISH, Direction::Up, AMQPMethod::Publish(publish));
        self.content(PUBLISH, Direction::Up, id, body);
        self
    }

    fn returned(&mut self, id: &str, body: &str) -> &mut Stage {
        let returned = basic::Return {
            reply_code: 312,
            reply_text: "NO_ROUTE".into(),
            exchange: "".into(),
            routing_key: "out".into(),
        };
        self.basic(PUBLISH, Direction::Down, AMQPMethod::Return(returned));
        self.content(PUBLISH, Direction::Down, id, body);
        self
    }

    fn confirm(&mut self, tag: u64, multiple: bool) -> &mut Stage {
        self.basic(PUBLISH, Direction::Down, AMQPMethod::Ack(basic::Ack { delivery_tag: tag, multiple }));
        self
    }

    fn refuse(&mut self, tag: u64) -> &mut Stage {
        let nack = basic::Nack { delivery_tag: tag, multiple: false, requeue: true };
        self.basic(PUBLISH, Direction::Down, AMQPMethod::Nack(nack));
        self
    }

    fn ack(&mut self, tag: u64, multiple: bool) -> &mut Stage {
        self.basic(CONSUME, Direction::Up, AMQPMethod::Ack(basic::Ack { delivery_tag: tag, multiple }));
        self
    }

    fn nack(&mut self, tag: u64) -> &mut Stage {
        let nack = basic::Nack { delivery_tag: tag, multiple: false, requeue: true };
        self.basic(CONSUME, Direction::Up, AMQPMethod::Nack(nack));
        self
    }

    #[track_caller]
    fn expect(&mut self, rules: &[Rule]) {
        let violations = self.observer.take_violations();
        assert_eq!(violations.iter().map(|violation| violation.rule).collect::<Vec<_>>(), rules, "{violations:?}");
    }
}

#[test]
fn a_right_host_is_not_accused() {
    let mut stage = Stage::new();
    stage.deliver(1, "a", false).deliver(2, "b", false).deliver(3, "c", false);
    stage.publish("a", "a/0").publish("b", "b/0").publish("b", "b/1").publish("c", "{}");
    stage.confirm(3, true).ack(2, true).confirm(4, false).ack(3, false);
    stage.deliver(4, "d", false).ack(4, false);
    stage.expect(&[]);
    assert_eq!((stage.observer.unsettled(), stage.observer.seen("b").acks), (0, 1));
    // A message of somebody else.
    stage.deliver(5, "stranger", false).ack(5, false);
    stage.expect(&[]);
}

#[test]
fn an_ack_before_the_confirm_is_seen() {
    let mut stage = Stage::new();
    stage.deliver(1, "a", false).ack(1, false).publish("a", "a/0").expect(&[Rule::EarlyAck]);
    let mut stage = Stage::new();
    stage.deliver(1, "a", false).publish("a", "a/0").ack(1, false).expect(&[Rule::EarlyAck]);
    let mut stage = Stage::new();
    stage.deliver(1, "b", false).publish("b", "b/0").publish("b", "b/1");
    stage.confirm(1, false).ack(1, false).expect(&[Rule::EarlyAck]);
    // The same, out of order.
    let mut stage = Stage::new();
    stage.deliver(1, "b", false).publish("b", "b/0").publish("b", "b/1");
    stage.confirm(2, false).ack(1, false).expect(&[Rule::EarlyAck]);
}

#[test]
fn an_ack_of_many_that_covers_one_too_many_is_seen() {
    let mut stage = Stage::new();
    stage.deliver(1, "a", false).deliver(2, "d", false).ack(2, true).expect(&[Rule::EarlyAck]);
}

#[test]
fn what_was_returned_or_refused_needs_a_copy() {
    let mut stage = Stage::new();
    stage.deliver(1, "a", false).publish("a", "a/0").returned("a", "a/0").confirm(1, false);
    stage.ack(1, false).expect(&[Rule::EarlyAck]);
    let mut stage = Stage::new();
    stage.deliver(1, "a", false).publish("a", "a/0").refuse(1).ack(1, false).expect(&[Rule::EarlyAck]);
    for verdict in [true, false] {
        let mut stage = Stage::new();
        stage.deliver(1, "a", false).publish("a", "a/0").returned("a", "a/0").confirm(1, false);
        stage.publish("a", "{}");
        if verdict {
            stage.confirm(2, false).ack(1, false).expect(&[]);
        } else {
            stage.ack(1, false).expect(&[Rule::EarlyAck]);
        }
    }
    // A dead letter that is no output of it.
    let mut stage = Stage::new();
    stage.deliver(1, "c", false).publish("c", "c/0").confirm(1, false).ack(1, false).expect(&[Rule::EarlyAck]);
}

#[test]
fn what_was_published_before_a_delivery_does_not_count_for_it() {
    let mut stage = Stage::new();
    stage.deliver(1, "a", false).publish("a", "a/0").confirm(1, false).nack(1);
    stage.deliver(2, "a", true).ack(2, false).expect(&[Rule::EarlyAck]);
    stage.deliver(3, "a", true).publish("a", "a/0").confirm(2, false).ack(3, false).expect(&[]);
}

#[test]
fn what_has_no_verdict_any_more_was_not_confirmed() {
    let mut stage = Stage::new();
    stage.deliver(1, "a", false).publish("a", "a/0");
    stage.observer.closed(PUBLISH);
    stage.confirm(1, false).ack(1, false).expect(&[Rule::EarlyAck]);
}

#[test]
fn what_is_not_there_cannot_be_settled() {
    let mut stage = Stage::new();
    stage.deliver(1, "d", false).ack(1, false).ack(1, false).expect(&[Rule::StrayAck]);
    stage.nack(7).expect(&[Rule::StrayAck]);
}

#[test]
fn more_than_the_prefetch_is_seen() {
    let mut stage = Stage::new();
    stage.deliver(1, "d", false).deliver(2, "d", false).deliver(3, "d", false).expect(&[]);
    stage.deliver(4, "d", false).expect(&[Rule::Prefetch]);
    stage.ack(4, true);
    stage.deliver(5, "d", false).expect(&[]);
}

#[test]
fn a_delivery_comes_again_for_a_reason_alone() {
    let mut stage = Stage::new();
    stage.deliver(1, "d", false).ack(1, false).deliver(2, "d", true).expect(&[Rule::Duplicate]);
    // It may never have arrived.
    let mut stage = Stage::new();
    stage.deliver(1, "d", true).expect(&[]);
    // It went back, or its ack may have.
    let mut stage = Stage::new();
    stage.deliver(1, "d", false).nack(1).deliver(2, "d", true).expect(&[]);
    let mut stage = Stage::new();
    stage.deliver(1, "d", false).ack(1, false);
    stage.observer.closed(CONSUME);
    stage.method(CONSUME, Direction::Up, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
    let qos = basic::Qos { prefetch_count: 3, global: false };
    stage.basic(CONSUME, Direction::Up, AMQPMethod::Qos(qos));
    stage.deliver(1, "d", true).expect(&[]);
    // A copy for another try is no redelivery.
    stage.deliver(2, "d", false).expect(&[]);
}
