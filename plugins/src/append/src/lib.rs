//! Adds what comes to a file that is named after the worker, a line each.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

use wabbit_sdk::{Delivery, Error, Outcome, context};

/// By that name the manifest grants a folder.
const FOLDER: &str = "/logs";

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let file: PathBuf = Path::new(FOLDER).join(context::worker()).with_extension("log");
    append(&file, &line(&delivery)?)?;
    Ok(Outcome::ack())
}

/// The body, and before it the routing key where the exchange went by one.
fn line(delivery: &Delivery) -> Result<String, Error> {
    let text = delivery.text()?;
    if delivery.routing_key.is_empty() {
        return Ok(format!("{text}\n"));
    }
    Ok(format!("{}: {text}\n", delivery.routing_key))
}

/// In one piece, so that nobody finds half a line.
fn append(file: &Path, line: &str) -> Result<(), Error> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn the_routing_key_stands_before_the_body() {
        assert_eq!(line(&Delivery::of("a line")).as_deref(), Ok("a line\n"));
        assert_eq!(line(&Delivery::of("no space").with_routing_key("error")).as_deref(), Ok("error: no space\n"));
    }

    #[test]
    fn lines_are_added_in_their_order() {
        let file = env::temp_dir().join(format!("append-{}.log", process::id()));
        for line in ["one\n", "two\n"] {
            append(&file, line).unwrap();
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntwo\n");
        fs::remove_file(&file).unwrap();
    }
}
