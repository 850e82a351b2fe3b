//! A WASI command that does what the delivery's text says, as JSON: writes to its outputs, and exits.

use std::{
    collections::BTreeMap,
    env,
    fs::OpenOptions,
    io::{Read, Write, stderr, stdin, stdout},
    process::exit,
};

use serde::Deserialize;
use serde_json::{Value, json};

/// In this order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    #[serde(default)]
    stderr: String,
    /// As it is.
    #[serde(default)]
    stdout: String,
    /// That many bytes of `x`.
    #[serde(default)]
    flood: usize,
    /// Publishes what came on standard input.
    #[serde(default)]
    tell: bool,
    /// Publishes its arguments and its environment.
    #[serde(default)]
    surroundings: bool,
    /// Appends that many bytes to a file, and says on stderr what came of it.
    file: Option<(String, usize)>,
    /// Takes and touches that many MiB.
    #[serde(default)]
    memory: usize,
    /// Never ends.
    #[serde(default)]
    endless: bool,
    /// Ends without an exit code.
    #[serde(default)]
    abort: bool,
    #[serde(default)]
    exit: i32,
}

fn main() {
    let mut input = String::new();
    stdin().read_to_string(&mut input).unwrap();
    let delivery: Value = serde_json::from_str(&input).unwrap();
    let action: Action = serde_json::from_str(delivery["text"].as_str().unwrap()).unwrap();
    stderr().write_all(action.stderr.as_bytes()).unwrap();
    stdout().write_all(action.stdout.as_bytes()).unwrap();
    for _ in 0..action.flood.div_ceil(1 << 20) {
        stdout().write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    if action.tell {
        let publication = json!({ "routing_key": "told", "text": input });
        println!("{}", json!({ "settlement": "ack", "publications": [publication] }));
    }
    if action.surroundings {
        let (args, env): (Vec<_>, BTreeMap<_, _>) = (env::args().collect(), env::vars().collect());
        let publication = json!({ "routing_key": "told", "text": json!({ "args": args, "env": env }).to_string() });
        println!("{}", json!({ "settlement": "ack", "publications": [publication] }));
    }
    if let Some((path, length)) = action.file {
        let file = OpenOptions::new().append(true).create(true).open(path);
        eprintln!(
            "{:?}",
            file.and_then(|mut file| file.write_all(&vec![b'x'; length])).map_err(|error| error.to_string())
        );
    }
    let kept: Vec<_> = (0..action.memory).map(|_| vec![1_u8; 1 << 20]).collect();
    if action.endless {
        loop {
            std::hint::spin_loop();
        }
    }
    if action.abort {
        std::process::abort();
    }
    drop(kept);
    stdout().flush().unwrap();
    exit(action.exit);
}
