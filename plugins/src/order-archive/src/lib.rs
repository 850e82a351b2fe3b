//! Keeps the reports of order-report as files, one for each order.

use std::{fs, path::Path};

use wabbit_sdk::{Delivery, Error, Outcome};

/// By that name the manifest grants a folder.
const FOLDER: &str = "/reports";

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    archive(Path::new(FOLDER), &delivery)
}

fn archive(folder: &Path, delivery: &Delivery) -> Result<Outcome, Error> {
    let id = delivery.properties.message_id.as_deref().unwrap_or_default();
    // A shop may name its orders as it likes, but not the files.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Error::dead_letter(format!("the message id `{id}` is no name for a file")));
    }
    // Whoever looks finds the whole report or none, and a second time makes no difference.
    let half = folder.join(format!(".{id}"));
    fs::write(&half, &delivery.body)?;
    fs::rename(&half, folder.join(format!("{id}.txt")))?;
    println!("kept the report on order {id}");
    Ok(Outcome::ack())
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use wabbit_sdk::Properties;

    use super::*;

    fn report(id: Option<&str>, text: &str) -> Delivery {
        let properties = Properties { message_id: id.map(str::to_owned), ..Properties::default() };
        Delivery::of(text).with_properties(properties)
    }

    #[test]
    fn a_report_becomes_a_file() {
        let folder = env::temp_dir().join(format!("order-archive-{}", process::id()));
        fs::create_dir(&folder).unwrap();
        for text in ["Order A-17", "Order A-17, again"] {
            assert_eq!(archive(&folder, &report(Some("A-17"), text)), Ok(Outcome::ack()));
            assert_eq!(fs::read_to_string(folder.join("A-17.txt")).unwrap(), text);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_report_without_a_name_for_it_is_dead_lettered() {
        for id in [None, Some(""), Some("../A-17"), Some("A/17"), Some("A-17\n")] {
            let expected = format!("the message id `{}` is no name for a file", id.unwrap_or_default());
            assert_eq!(handle(report(id, "Order A-17")), Err(Error::dead_letter(expected)));
        }
    }
}
