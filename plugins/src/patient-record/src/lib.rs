//! Keeps the record of each patient as a file.

use std::{fs, path::Path};

use serde::Deserialize;
use wabbit_sdk::{Delivery, Error, Outcome, context};

/// By that name the manifest grants a folder.
const FOLDER: &str = "/patients";

#[derive(Deserialize)]
struct Patient {
    id: u64,
    name: String,
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    keep(Path::new(FOLDER), &delivery)
}

fn keep(folder: &Path, delivery: &Delivery) -> Result<Outcome, Error> {
    let patient: Patient = delivery.json()?;
    // Whoever looks finds the whole record or none, and a second time makes no difference.
    let half = folder.join(format!(".{}", patient.id));
    fs::write(&half, &delivery.body)?;
    fs::rename(&half, folder.join(format!("{}.json", patient.id)))?;
    println!("{} has the record of {}", context::worker(), patient.name);
    Ok(Outcome::ack())
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn a_record_becomes_a_file_once() {
        let folder = env::temp_dir().join(format!("patient-record-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let record = r#"{"id":17,"name":"Ada"}"#;
        for _ in 0..2 {
            assert_eq!(keep(&folder, &Delivery::of(record)), Ok(Outcome::ack()));
        }
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["17.json"]);
        assert_eq!(fs::read_to_string(folder.join("17.json")).unwrap(), record);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_no_record_is_dead_lettered() {
        let reason = "the body is not the JSON expected: missing field `name` at line 1 column 9";
        assert_eq!(handle(Delivery::of(r#"{"id":17}"#)), Err(Error::dead_letter(reason)));
    }
}
