//! The exchanges, queues and bindings of a manifest.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Spanned, de::DeValue};

use super::arguments::arguments;
use crate::{
    delivery::{Table, Value},
    manifest::{
        Binding, Declare, Exchange, ExchangeKind, Queue,
        read::Section,
        report::{Place, Problem},
        values::{declared_name, name, quoted, short_string},
    },
};

/// Each queue is consumed on a channel of its own, and brokers allow about two thousand on a connection.
const QUEUES_MAX: usize = 1000;
const QUEUE_TYPE: &str = "x-queue-type";
const KINDS: &[(&str, ExchangeKind)] = &[
    ("direct", ExchangeKind::Direct),
    ("fanout", ExchangeKind::Fanout),
    ("topic", ExchangeKind::Topic),
    ("headers", ExchangeKind::Headers),
];

/// The exchanges that the file declares.
type Kinds<'e> = BTreeMap<&'e str, ExchangeKind>;

pub(super) fn exchanges(top: &mut Section<'_>, declare: Declare) -> Vec<Exchange> {
    let mut seen = BTreeSet::new();
    top.sections("exchange", |section| exchange(section, declare, &mut seen))
}

/// The queues of a manifest.
pub(super) struct Queues {
    /// Each with the place of its name.
    pub(super) consumed: Vec<(Queue, Option<Place>)>,
    /// Declared, and left to others.
    pub(super) others: Vec<Queue>,
}

pub(super) fn queues(top: &mut Section<'_>, declare: Declare, exchanges: &[Exchange]) -> Queues {
    let kinds = exchanges.iter().map(|exchange| (exchange.name.as_str(), exchange.kind)).collect();
    let mut seen = BTreeSet::new();
    let queues = top.sections("queue", |section| {
        let queue = queue(section, declare, &kinds, &mut seen);
        (section.flag("consume").unwrap_or(true), queue, section.place("name"))
    });
    let empty = |value: &Spanned<DeValue<'_>>| value.get_ref().as_array().is_some_and(|array| array.is_empty());
    if top.value("queue").is_none_or(empty) {
        let problem = Problem::new("a worker needs a `[[queue]]`");
        top.report("queue", problem.hint("add `[[queue]]` with `name = \"…\"`"));
    } else if !queues.is_empty() && !queues.iter().any(|(consumed, ..)| *consumed) {
        let problem = Problem::new("a worker needs a queue that it consumes");
        top.report("queue", problem.hint("leave `consume = false` out of one `[[queue]]`"));
    }
    if queues.len() > QUEUES_MAX {
        top.report("queue", Problem::new(format!("more than {QUEUES_MAX} queues")));
    }
    let mut all = Queues { consumed: Vec::new(), others: Vec::new() };
    for (consumed, queue, place) in queues {
        if consumed {
            all.consumed.push((queue, place));
        } else {
            all.others.push(queue);
        }
    }
    all
}

fn exchange(section: &mut Section<'_>, declare: Declare, seen: &mut BTreeSet<String>) -> Exchange {
    section.require("name", "name = \"…\"");
    section.require("type", "type = \"direct\"");
    let name = section.checked("name", |text| match text {
        "" => Err(Problem::new("the default exchange cannot be declared").hint("leave this `[[exchange]]` out")),
        _ => own_name(text, declare),
    });
    let name = name.unwrap_or_default();
    first_of_its_name(section, "exchange", &name, seen);
    Exchange {
        name,
        kind: section.one_of("type", KINDS).unwrap_or(ExchangeKind::Direct),
        durable: section.flag("durable").unwrap_or(true),
        auto_delete: section.flag("auto-delete").unwrap_or(false),
        internal: section.flag("internal").unwrap_or(false),
        arguments: arguments(section),
    }
}

fn queue(section: &mut Section<'_>, declare: Declare, kinds: &Kinds<'_>, seen: &mut BTreeSet<String>) -> Queue {
    section.require("name", "name = \"…\"");
    let name = section.checked("name", |text| own_name(text, declare));
    let server_named = name.as_deref() == Some("");
    if server_named && declare != Declare::Create {
        let problem = Problem::new("a queue that the server names exists only once it is declared");
        section.report("name", problem.hint("give it a name, or leave `declare` out"));
    }
    let name = name.unwrap_or_default();
    first_of_its_name(section, "queue", &name, seen);
    if server_named && section.has("consume") {
        let problem = Problem::new("a queue that the server names is there for this worker alone");
        section.report("consume", problem.hint("leave `consume` out, or give the queue a name"));
    }

    let durable = section.flag("durable").unwrap_or(!server_named);
    let exclusive = section.flag("exclusive").unwrap_or(server_named);
    let auto_delete = section.flag("auto-delete").unwrap_or(server_named);
    let asked_quorum = section.flag("quorum");
    let mut arguments = arguments(section);
    let quorum = queue_type(section, asked_quorum, &mut arguments);
    if quorum && (server_named || !durable || exclusive || auto_delete) {
        let problem = Problem::new("a quorum queue has a name and is durable, not exclusive and not auto-delete");
        section.report(if section.has("quorum") { "quorum" } else { "arguments" }, problem);
    }
    let bind = section.sections("bind", |section| binding(section, kinds));
    Queue { name, durable, exclusive, auto_delete, quorum, arguments, bind }
}

/// A name that the broker is asked to create must not be one of its own; one that is only looked up may be.
fn own_name(text: &str, declare: Declare) -> Result<String, Problem> {
    if declare == Declare::Create { declared_name(text) } else { name(text) }
}

fn first_of_its_name(section: &Section<'_>, kind: &str, name: &str, seen: &mut BTreeSet<String>) {
    if !name.is_empty() && !seen.insert(name.to_owned()) {
        section.report("name", Problem::new(format!("{kind} {} is in this file twice", quoted(name))));
    }
}

/// Brings `quorum` and the argument that it stands for into line. Whether the queue is a quorum queue.
fn queue_type(section: &Section<'_>, asked: Option<bool>, arguments: &mut Table) -> bool {
    let given = arguments.iter().find(|(name, _)| name == QUEUE_TYPE).map(|(_, value)| value);
    let quorum = Value::text("quorum");
    match (given, asked) {
        (None, asked) => {
            if asked == Some(true) {
                arguments.push((QUEUE_TYPE.to_owned(), quorum));
            }
            asked == Some(true)
        }
        (Some(given), _) if *given == Value::text("stream") => {
            section.report("arguments", Problem::new("streams are not supported"));
            false
        }
        (Some(given), Some(asked)) if asked != (*given == quorum) => {
            let problem = Problem::new(format!("`quorum = {asked}` contradicts `{QUEUE_TYPE}`"));
            section.report("quorum", problem.hint("leave one of them out"));
            false
        }
        (Some(given), _) => *given == quorum,
    }
}

fn binding(section: &mut Section<'_>, kinds: &Kinds<'_>) -> Binding {
    section.require("exchange", "exchange = \"…\"");
    let exchange = section.checked("exchange", |text| match text {
        "" => Err(Problem::new("the default exchange takes no bindings")
            .hint("it routes to every queue by its name: leave this binding out")),
        _ => name(text),
    });
    let exchange = exchange.unwrap_or_default();
    let routing_key = section.checked("routing-key", short_string);
    let arguments = arguments(section);

    let kind = kind_of(&exchange, kinds);
    let keyed = section.has("routing-key");
    let with_arguments = section.has("arguments");
    let (enough, missing) = match kind {
        Some(ExchangeKind::Fanout) => (true, ""),
        Some(ExchangeKind::Headers) => (with_arguments, "add `arguments = { \"x-match\" = \"all\", … }`"),
        Some(_) => (keyed, "add `routing-key = \"…\"`"),
        None => (keyed || with_arguments, "add `routing-key = \"…\"`, left empty for a fanout exchange"),
    };
    if !enough && section.has("exchange") {
        let kind = kind.map_or(String::new(), |kind| format!("{} ", kind.as_str()));
        let problem = Problem::new(format!("a binding to the {kind}exchange {} needs more", quoted(&exchange)));
        section.report("exchange", problem.hint(missing));
    }
    Binding { exchange, routing_key: routing_key.unwrap_or_default(), arguments }
}

/// How an exchange routes, if this file declares it or every broker has it.
fn kind_of(name: &str, kinds: &Kinds<'_>) -> Option<ExchangeKind> {
    let declared = kinds.get(name).copied();
    declared.or(match name {
        "amq.direct" => Some(ExchangeKind::Direct),
        "amq.fanout" => Some(ExchangeKind::Fanout),
        "amq.topic" | "amq.rabbitmq.trace" => Some(ExchangeKind::Topic),
        "amq.headers" | "amq.match" => Some(ExchangeKind::Headers),
        _ => None,
    })
}
