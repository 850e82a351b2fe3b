//! `arguments` tables: from TOML's types to AMQP's.

use toml::{
    Spanned,
    de::{DeFloat, DeInteger, DeValue},
    value::{Datetime, Offset},
};

use crate::{
    delivery::{Table, Value, table_encoded_len},
    manifest::{read::Section, report::Problem, values::quoted},
};

/// What fits into the smallest frame that a broker is likely to agree to, with room for the rest of the method.
const TABLE_BYTES_MAX: usize = 60_000;
const NAME_BYTES_MAX: usize = 255;

/// The section's `arguments`; empty where there are none.
pub(super) fn arguments(section: &mut Section<'_>) -> Table {
    let Some(value) = section.value("arguments") else { return Table::new() };
    if !value.get_ref().is_table() {
        section.report("arguments", Problem::new("`arguments` must be a table, not a single value"));
        return Table::new();
    }
    let table = match field(section, value) {
        Some(Value::Table(table)) => table,
        _ => return Table::new(),
    };
    if table_encoded_len(&table) > TABLE_BYTES_MAX {
        section.report("arguments", Problem::new(format!("more than {TABLE_BYTES_MAX} bytes of arguments")));
    }
    table
}

/// The value; none if something in it was wrong, which is then noted.
fn field(section: &Section<'_>, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let field = match value.get_ref() {
        DeValue::String(text) => Ok(Value::text(text.as_ref())),
        DeValue::Integer(number) => integer(number),
        DeValue::Float(number) => float(number),
        DeValue::Boolean(flag) => Ok(Value::Bool(*flag)),
        DeValue::Datetime(time) => seconds(time).map(Value::Timestamp),
        DeValue::Array(values) => {
            let fields: Vec<_> = values.iter().map(|value| field(section, value)).collect();
            return fields.into_iter().collect::<Option<_>>().map(Value::Array);
        }
        DeValue::Table(entries) => {
            let fields: Vec<_> = entries
                .iter()
                .map(|(name, value)| {
                    if name.get_ref().len() > NAME_BYTES_MAX {
                        let message = format!("{} is longer than {NAME_BYTES_MAX} bytes", quoted(name.get_ref()));
                        section.report_at(value, Problem::new(message));
                    }
                    field(section, value).map(|field| (name.get_ref().to_string(), field))
                })
                .collect();
            return fields.into_iter().collect::<Option<_>>().map(Value::Table);
        }
    };
    field.map_err(|problem| section.report_at(value, problem)).ok()
}

/// 32 bits wide where that is enough: some arguments are refused by brokers in any other width.
fn integer(number: &DeInteger<'_>) -> Result<Value, Problem> {
    let number = i64::from_str_radix(number.as_str(), number.radix());
    match number {
        Ok(number) => Ok(i32::try_from(number).map_or(Value::I64(number), Value::I32)),
        Err(_) => Err(Problem::new("an integer of more than 64 bits")),
    }
}

fn float(number: &DeFloat<'_>) -> Result<Value, Problem> {
    match number.as_str().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::F64(number)),
        // RabbitMQ cannot read these and closes the connection.
        _ => Err(Problem::new("AMQP has no number for this: it must be finite")),
    }
}

/// Seconds since the Unix epoch.
fn seconds(time: &Datetime) -> Result<u64, Problem> {
    let (Some(date), Some(clock), Some(offset)) = (time.date, time.time, time.offset) else {
        let problem = Problem::new("a timestamp needs a date, a time and a time zone");
        return Err(problem.hint("write it as `2030-01-31T12:00:00Z`"));
    };
    let offset_minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let minutes = i64::from(clock.hour) * 60 + i64::from(clock.minute) - offset_minutes;
    let days = days_since_epoch(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let seconds = days * 86_400 + minutes * 60 + i64::from(clock.second.unwrap_or(0));
    u64::try_from(seconds).map_err(|_| Problem::new("AMQP has no timestamps before 1970"))
}

/// Days from 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap day is the last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_before_month = (153 * month + 2) / 5;
    // 719,469 days lie between 0000-03-01, counted as day 1, and the epoch.
    365 * year + leap_days + days_before_month + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(seconds(&text.parse().unwrap()).ok(), expected, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("1970-01-02T00:00:01Z", Some(86_401));
        check("2000-02-29T12:00:00Z", Some(951_825_600));
        check("2000-03-01T00:00:00Z", Some(951_868_800));
        check("2024-12-31T23:59:59Z", Some(1_735_689_599));
        check("2030-01-31T12:00:00+02:00", Some(1_896_084_000));
        check("2030-01-31T12:00:00", None);
        check("2030-01-31", None);
        check("12:00:00", None);
        check("1969-12-31T23:59:59Z", None);
    }
}
