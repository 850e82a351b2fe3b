//! Messages that have handlers do harm.

use fastrand::Rng;

use super::corpus::Verdict::{self, Fails, Harmless};
use super::corpus::{Attack, Case, case};

/// The most bytes of a body of noise.
const NOISE_BYTES_MAX: usize = 4096;

type Act = (&'static str, &'static str, &'static str, Verdict);

/// Row, what it does, the message's body, the verdict. See [`body`] for what stands in braces.
const ACTS: &[Act] = &[
    ("endless-loop", "computes without end", "loop", Fails("time-limit", "the limit of")),
    ("deep-recursion", "calls itself without end", "recurse", Fails("trap", "stack")),
    ("sleep-in-a-host-call", "waits for an hour in the host's clock", "sleep", Fails("time-limit", "the limit of")),
    ("sleep-in-a-host-call", "", "poll-many {1..2000}", Fails("time-limit", "the limit of")),
    ("host-call-storm", "calls the host without end", "call-storm", Fails("time-limit", "the limit of")),
    ("host-call-storm", "", "poll-storm", Fails("time-limit", "the limit of")),
    ("log-storm", "logs without end", "log-storm", Fails("time-limit", "the limit of")),
    (
        "random-storm",
        "asks for random bytes without end",
        "random-storm",
        Fails("random-limit", "the limit of 16.0 MiB"),
    ),
    ("random-at-once", "asks for 2⁶⁴ random bytes", "random-at-once", Fails("random-limit", "the limit of 16.0 MiB")),
    ("a-million-handles", "opens handles and closes none", "handles", Fails("handle-limit", "the limit of 10000")),
    ("memory-growth", "takes memory without end", "memory {17..64}", Fails("memory-limit", "the limit of 16.0 MiB")),
    ("memory-growth", "", "memory-by-bits", Fails("memory-limit", "the limit of 16.0 MiB")),
    ("memory-growth", "", "memory-at-once {17..2000}", Fails("memory-limit", "the limit of 16.0 MiB")),
    ("memory-within-the-limit", "takes what it may, again and again", "memory {1..10}", Harmless),
    ("large-result", "answers with up to 1 GB", "result {5..7}", Fails("output-limit", "the limit of 4.0 MiB")),
    ("large-result", "", "results {5..7}", Fails("output-limit", "the limit of 4.0 MiB")),
    ("large-result", "", "result {17..1024}", Fails("memory-limit", "the limit of 16.0 MiB")),
    ("many-publications", "answers with up to 10,000,000 publications", "publications {101..5000}", MANY),
    ("many-publications", "", "publications 10000000", Fails("memory-limit", "the limit of 16.0 MiB")),
    (
        "many-headers",
        "answers with a publication of 20,000 headers",
        "headers-many @out",
        Fails("output-limit", "20000 headers, the limit is 1000"),
    ),
    ("trap", "traps", "trap", Fails("trap", "unreachable")),
    ("trap", "", "panic {0..3000}", Fails("trap", "")),
    ("exit", "ends the program instead of answering", "exit {0..255}", Fails("exit", "exit(")),
    ("long-error", "answers with a long error of terminal escapes", "error {0..2000000}", Fails("handler-error", "")),
    ("long-error", "", "dead-letter {0..2000000}", Fails("dead-lettered", "")),
    ("log-flood", "floods the log with terminal escapes and forged lines", "log-flood {0..1000}", Harmless),
    ("log-flood", "", "log-line {1..8}", Harmless),
    ("log-flood", "", "log-terminal", Harmless),
    ("not-granted-publication", "publishes where it may not", "publish @victim", NOT_GRANTED),
    ("not-granted-publication", "", "publish @good", NOT_GRANTED),
    ("not-granted-publication", "", "publish @hostile.dead", NOT_GRANTED),
    ("not-granted-publication", "", "publish-exchange amq.topic", NOT_GRANTED),
    ("not-granted-publication", "", "publish-exchange wabbit.wait", NOT_GRANTED),
    ("not-granted-publication", "", "publish amq.rabbitmq.reply-to.forged", NOT_GRANTED),
    ("not-granted-publication", "", "publish-twice @out", NOT_GRANTED),
    ("not-granted-publication", "", "publish-copies @out", Fails("publication-refused", "")),
    ("not-granted-publication", "", "publish-blind-copies @out", Fails("publication-refused", "")),
    ("forged-reply-to", "answers to a reply-to that somebody made up", "reply", NOT_GRANTED),
    ("forged-user", "publishes in another's name", "publish-user @out", Fails("publication-refused", "user")),
    ("forged-headers", "publishes headers that only the host may write", "publish-forged @out", Harmless),
    ("forged-headers", "", "headers", Harmless),
    ("not-for-amqp", "publishes what AMQP cannot carry", "header-large @out", Fails("publication-refused", "")),
    ("not-for-amqp", "", "header-name @out", Fails("publication-refused", "")),
    ("not-for-amqp", "", "routing-key", Fails("publication-refused", "")),
    ("not-for-amqp", "", "exchange", Fails("publication-refused", "")),
    ("not-for-amqp", "", "property @out", Fails("publication-refused", "")),
    ("not-for-amqp", "", "nul", Fails("publication-refused", "")),
    (
        "no-sense",
        "answers with headers that make no sense",
        "header-twice @out",
        Fails("malformed-outcome", "header `n`"),
    ),
    ("no-sense", "", "header-json @out", Fails("malformed-outcome", "header `n`")),
    ("no-sense", "", "header-json-infinite @out", Fails("malformed-outcome", "header `n`")),
    (
        "nested-header",
        "answers with a header a million lists deep",
        "header-nested @out",
        Fails("malformed-outcome", "header `n`"),
    ),
    ("state", "looks for what the last delivery left in memory", "state", Harmless),
    ("files", "reaches for files: `..`, absolute paths, devices, links", "read-files", Harmless),
    ("files", "", "list-folders", Harmless),
    ("files", "", "look-at-files", Harmless),
    ("files", "", "write-files", Harmless),
    ("files", "", "make-folders", Harmless),
    ("files", "", "make-links", Harmless),
    ("files", "", "rename-files", Harmless),
    ("files", "", "remove-files", Harmless),
    ("files", "", "preopens", Harmless),
    ("files", "", "read-file {noise}", Harmless),
    ("not-granted-secret", "reads the host's variables and arguments", "secret", Harmless),
    ("not-granted-secret", "", "environment", Harmless),
    ("not-granted-secret", "", "arguments", Harmless),
    ("not-granted-secret", "", "stdin", Harmless),
    ("not-granted-secret", "", "terminal", Harmless),
    ("network", "connects, listens, asks for names", "connect {broker}", Harmless),
    ("network", "", "listen", Harmless),
    ("network", "", "udp", Harmless),
    ("network", "", "resolve", Harmless),
    ("not-granted-http", "sends HTTP requests where it may not", "http-elsewhere", Harmless),
    ("not-granted-http", "", "http-to {broker}", Harmless),
    ("http-storm", "sends HTTP requests without end", "http-storm", Fails("request-limit", "the limit of 50")),
    ("not-granted-store", "opens stores that others have", "stores", Harmless),
    ("not-granted-value", "reads values by names that are not granted", "values", Harmless),
    ("spawn", "starts a process", "spawn", Harmless),
    ("noise", "gets a body of noise", "{noise}", Harmless),
    ("work", "computes for up to 10 ms, as it may", "spin {0..10}", Harmless),
    ("large-body", "gets a message above the limit", "{large}", Fails("body-too-large", "")),
];
const MANY: Verdict = Fails("output-limit", "the limit is 100");
const NOT_GRANTED: Verdict = Fails("publication-refused", "is not granted");

/// To a command. It says what it does itself.
const COMMANDS: &[Act] = &[
    (
        "command-flood",
        "writes 200 MB as its outcome",
        r#"{"flood":200000000}"#,
        Fails("output-limit", "the limit of 4.0 MiB"),
    ),
    ("command-loop", "computes without end, as a command", r#"{"endless":true}"#, Fails("time-limit", "the limit of")),
    ("command-memory", "takes memory without end, as a command", r#"{"memory":64}"#, Fails("memory-limit", "16.0 MiB")),
    ("command-trap", "traps, as a command", r#"{"abort":true}"#, Fails("trap", "")),
    (
        "command-nonsense",
        "writes what is no outcome",
        r#"{"stdout":"{\"settlement\":\"ack\",\"settlement\":[[[[[[[["}"#,
        Fails("malformed-outcome", ""),
    ),
    (
        "command-not-granted",
        "publishes where it may not, as a command",
        r#"{"stdout":"{\"settlement\":\"ack\",\"publications\":[{\"exchange\":\"amq.topic\"}]}"}"#,
        Fails("publication-refused", "is not granted"),
    ),
];

pub fn cases() -> Vec<Case> {
    let acts = ACTS.iter().map(|&(name, what, body, verdict)| case(name, what, Attack::Act(body), verdict));
    let commands = COMMANDS.iter().map(|&(name, what, body, verdict)| case(name, what, Attack::Command(body), verdict));
    acts.chain(commands).collect()
}

/// The body of a message: `{1..9}` becomes a number, `{noise}` any bytes, `{large}` a body above the limit.
pub fn body(template: &str, rng: &mut Rng) -> Vec<u8> {
    let Some((before, rest)) = template.split_once('{').filter(|_| !template.starts_with("{\"")) else {
        return template.into();
    };
    let (hole, after) = rest.split_once('}').unwrap();
    let filled = match hole {
        "noise" => (0..rng.usize(..NOISE_BYTES_MAX)).map(|_| rng.u8(..)).collect(),
        "large" => vec![b'x'; super::arena::BODY_BYTES_MAX + 1 + rng.usize(..1000)],
        range => {
            let (least, most) = range.split_once("..").unwrap();
            rng.u64(least.parse::<u64>().unwrap()..=most.parse().unwrap()).to_string().into_bytes()
        }
    };
    [before.as_bytes(), &filled, after.as_bytes()].concat()
}
