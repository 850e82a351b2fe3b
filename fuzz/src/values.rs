//! Header values, made comparable: those that are not equal to themselves, and tables in another order.

use wabbit::delivery::{Properties, Table, Value};

/// The same properties, where what is not a number is equal to what is not a number.
pub fn comparable(mut properties: Properties) -> Properties {
    properties.headers.iter_mut().for_each(|(_, value)| numbered(value));
    properties
}

fn numbered(value: &mut Value) {
    match value {
        Value::F32(n) if n.is_nan() => *value = Value::text("NaN"),
        Value::F64(n) if n.is_nan() => *value = Value::text("NaN"),
        Value::Array(values) => values.iter_mut().for_each(numbered),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| numbered(value)),
        _ => {}
    }
}

/// Brings a table into the order that lapin keeps: by name, and of two with one name the last.
pub fn sorted(table: &mut Table) {
    table.reverse();
    table.sort_by(|(a, _), (b, _)| a.cmp(b));
    table.dedup_by(|(a, _), (b, _)| a == b);
    table.iter_mut().for_each(|(_, value)| inner(value));
}

fn inner(value: &mut Value) {
    match value {
        Value::Table(table) => sorted(table),
        Value::Array(values) => values.iter_mut().for_each(inner),
        _ => {}
    }
}
