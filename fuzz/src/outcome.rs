//! The JSON that a command writes: what is taken has one meaning, fits its schema, and is sent as it was meant.

use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value as Json;
use wabbit::amqp::{properties, to_properties};
use wabbit::outcome::{Outcome, Publication, check_carriable, json, strip_reserved};

use crate::values::{comparable, sorted};

/// The largest body that a publication may have here, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

struct Schema(Schemas, SchemaIndex);

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut compiler = Compiler::new();
    for (name, text) in [
        ("outcome.schema.json", include_str!("../../sdk/wit/outcome.schema.json")),
        ("delivery.schema.json", include_str!("../../sdk/wit/delivery.schema.json")),
    ] {
        compiler.add_resource(&format!("file:///{name}"), serde_json::from_str(text).unwrap()).unwrap();
    }
    let mut schemas = Schemas::new();
    let index = compiler.compile("file:///outcome.schema.json", &mut schemas).unwrap();
    Schema(schemas, index)
});

/// Any bytes as a command's outcome.
pub fn outcome(data: &[u8]) {
    let mut outcome = match json::parse(data) {
        Ok(outcome) => outcome,
        Err(problem) => return assert!(!problem.is_empty()),
    };
    // The host's own headers are not shown again.
    outcome.publications.iter_mut().for_each(|publication| strip_reserved(&mut publication.properties.headers));

    let written = json::of(&outcome).unwrap();
    fits_schema(&written);
    let again = json::parse(written.to_string().as_bytes()).unwrap_or_else(|problem| panic!("{problem}: {written}"));
    assert_eq!(same(&again), same(&outcome), "{written}");
    assert_eq!(json::of(&again).unwrap(), written);

    for publication in &outcome.publications {
        if check_carriable(publication, BODY_BYTES_MAX).is_ok() {
            let mut expected = publication.properties.clone();
            sorted(&mut expected.headers);
            let sent = properties(&to_properties(publication.properties.clone()));
            assert_eq!(comparable(sent), comparable(expected));
        }
    }
}

fn fits_schema(written: &Json) {
    let Schema(schemas, index) = &*SCHEMA;
    let problem = schemas.validate(written, *index).err().map(|problem| problem.to_string());
    assert_eq!(problem, None, "{written}");
}

/// The same, with its headers in order: JSON has none.
fn same(outcome: &Outcome) -> Outcome {
    let same = |publication: &Publication| {
        let mut properties = comparable(publication.properties.clone());
        sorted(&mut properties.headers);
        Publication { properties, ..publication.clone() }
    };
    Outcome { settlement: outcome.settlement.clone(), publications: outcome.publications.iter().map(same).collect() }
}
