//! `wabbit test --update`: what came is written into the scenario as what is expected. Comments, blanks and all that is
//! as it should be stay as they are.

use serde_json::{Map, Value as Json, json};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::{
    Contents, Got,
    body::Form,
    compare::compare,
    expect::{Expect, Line, Sent},
    view,
};

/// The text of a scenario with what came of its deliveries, one after the other, as what is expected. Of an expectation
/// that mentions something, that is written anew which differs; of one that mentions nothing, settlement and
/// publications.
///
/// Errors: the text is not what was parsed, or TOML has no word for what came.
pub fn update(text: &str, results: &[(&Expect, &Got)]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
    let deliveries = document.get_mut("delivery").ok_or("there is no delivery any more")?;
    for (at, (expect, got)) in results.iter().enumerate() {
        let delivery: Option<&mut dyn TableLike> = match &mut *deliveries {
            Item::ArrayOfTables(tables) => tables.get_mut(at).map(|table| table as &mut dyn TableLike),
            Item::Value(Value::Array(values)) => {
                values.get_mut(at).and_then(Value::as_inline_table_mut).map(|table| table as &mut dyn TableLike)
            }
            _ => None,
        };
        let delivery = delivery.ok_or_else(|| format!("there is no delivery {} any more", at + 1))?;
        accept(delivery, expect, got)?;
    }
    Ok(document.to_string())
}

/// Writes what came into one delivery.
fn accept(delivery: &mut dyn TableLike, expect: &Expect, got: &Got) -> Result<(), String> {
    let says_nothing = *expect == Expect::default();
    if !says_nothing && compare(expect, got).is_empty() {
        return Ok(());
    }
    if !delivery.contains_key("expect") {
        let inline = !delivery.iter().any(|(_, item)| item.is_table() || item.is_array_of_tables())
            && delivery.get_values().is_empty()
            && !delivery.is_empty();
        let made = if inline { Item::Value(InlineTable::new().into()) } else { Item::Table(Table::new()) };
        delivery.insert("expect", made);
    }
    let table = delivery.get_mut("expect").and_then(Item::as_table_like_mut).ok_or("`expect` is no table any more")?;
    match &got.result {
        Err(failure) => {
            table.remove("settlement");
            table.remove("publications");
            let json = json!({ "kind": failure.kind.as_str(), "contains": failure.error });
            if !(fits_failure(expect, got)) {
                set(table, "failure", &json)?;
            }
        }
        Ok(outcome) => {
            let failed = table.remove("failure").is_some();
            if expect.settlement.is_some() || says_nothing || failed {
                let only = Expect { settlement: expect.settlement.clone(), ..Expect::default() };
                if only.settlement.is_none() || !compare(&only, got).is_empty() {
                    set(table, "settlement", &view::settlement(outcome))?;
                }
            }
            if expect.publications.is_some() || says_nothing || failed {
                let wanted = expect.publications.as_deref().unwrap_or_default();
                let views = outcome.publications.iter().enumerate().map(|(at, publication)| {
                    let form = wanted.get(at).map_or_else(|| Form::of(&publication.body), |wanted| wanted.body.form);
                    let same = wanted.get(at).map(view::expected) == Some(view::publication(publication, form));
                    let fields = view::publication(publication, speakable(form, &publication.body));
                    (same, brief(fields))
                });
                tables(table, "publications", views.collect())?;
            }
        }
    }
    logs(table, expect, got)?;
    if let Some(sent) = &expect.http {
        let views = got.asked.iter().enumerate().map(|(at, asked)| {
            let wanted: Option<&Sent> = sent.get(at);
            let headers = wanted.map(|wanted| wanted.headers.clone()).unwrap_or_default();
            let form = match wanted {
                Some(wanted) => wanted.body.as_ref().map(|body| body.form),
                None => Some(Form::of(&asked.body)).filter(|_| !asked.body.is_empty()),
            };
            let form = form.map(|form| speakable(form, &asked.body));
            let only = Expect { http: wanted.map(|wanted| vec![wanted.clone()]), ..Expect::default() };
            let alone = Got { asked: vec![asked.clone()], ..got.clone() };
            let same = wanted.is_some() && compare(&only, &Got { result: quiet(), ..alone }).is_empty();
            let mut fields = view::asked(asked, &headers, form);
            if let Some(fields) = fields.as_object_mut()
                && headers.is_empty()
            {
                fields.remove("headers");
            }
            (same, fields)
        });
        tables(table, "http", views.collect())?;
    }
    if let Some(expected) = &expect.keyvalue {
        let none = Contents::new();
        contents(table, "keyvalue", got.keyvalue.as_ref().unwrap_or(&none), |name| {
            expected.get(name).map(|body| body.form)
        })?;
    }
    for (folder, expected) in expect.files.iter().flatten() {
        let none = Contents::new();
        let files = table.get_mut("files").and_then(Item::as_table_like_mut).ok_or("`files` is no table any more")?;
        contents(files, folder, got.files.get(folder).unwrap_or(&none), |name| {
            expected.get(name).map(|body| body.form)
        })?;
    }
    Ok(())
}

/// A result that nothing is said against.
fn quiet() -> Result<crate::outcome::Outcome, crate::outcome::Failure> {
    Ok(crate::outcome::Outcome { settlement: crate::outcome::Settlement::Ack, publications: Vec::new() })
}

fn fits_failure(expect: &Expect, got: &Got) -> bool {
    let only = Expect { failure: expect.failure.clone(), ..Expect::default() };
    only.failure.is_some() && compare(&only, got).is_empty()
}

fn logs(table: &mut dyn TableLike, expect: &Expect, got: &Got) -> Result<(), String> {
    if let Some(lines) = &expect.log {
        let only = Expect { log: Some(lines.clone()), ..Expect::default() };
        if !compare(&only, &Got { result: quiet(), ..got.clone() }).is_empty() {
            // What was a part of a line, and still is one, stays such.
            let lines = got.log.iter().enumerate().map(|(at, logged)| match lines.get(at) {
                Some(Line { text, part: true, stream }) if logged.text.contains(text.as_str()) => {
                    let stream = stream.map(|_| logged.stream);
                    let mut fields = Map::from_iter([("contains".to_owned(), json!(text))]);
                    fields.extend(stream.map(|stream| ("stream".to_owned(), json!(stream))));
                    Json::Object(fields)
                }
                Some(Line { stream: Some(_), .. }) => json!({ "stream": logged.stream, "text": logged.text }),
                _ => json!(logged.text),
            });
            set(table, "log", &lines.collect())?;
        }
    }
    let gone = |part: &String| !got.log.iter().any(|line| line.text.contains(part.as_str()));
    if expect.log_contains.iter().any(gone) {
        let kept: Vec<_> = expect.log_contains.iter().filter(|part| !gone(part)).cloned().collect();
        if kept.is_empty() {
            table.remove("log_contains");
        } else {
            set(table, "log_contains", &json!(kept))?;
        }
    }
    Ok(())
}

/// A form that TOML has words for: it has none for null.
fn speakable(form: Form, bytes: &[u8]) -> Form {
    let (shown, value) = form.show(bytes);
    if shown == Form::Json && to_toml(&value).is_none() { Form::Text } else { form }
}

/// A publication without what is so anyway.
fn brief(mut publication: Json) -> Json {
    if let Some(fields) = publication.as_object_mut() {
        if let Some(properties) = fields.get_mut("properties").and_then(Json::as_object_mut) {
            properties.retain(|_, value| *value != Json::Bool(false));
        }
        fields.retain(|name, value| match value {
            Json::Object(fields) => name == "json" || !fields.is_empty(),
            Json::String(text) => !text.is_empty(),
            _ => true,
        });
    }
    publication
}

/// Sets a key, and leaves what stands around the value.
fn set(table: &mut dyn TableLike, key: &str, value: &Json) -> Result<(), String> {
    let mut new = to_toml(value).ok_or_else(|| format!("TOML has no word for what came: {value}"))?;
    if let Some(Item::Value(old)) = table.get(key) {
        *new.decor_mut() = old.decor().clone();
    }
    table.insert(key, Item::Value(new));
    Ok(())
}

/// Sets an array of tables, entry by entry: those that are the same stay as they are.
fn tables(table: &mut dyn TableLike, key: &str, entries: Vec<(bool, Json)>) -> Result<(), String> {
    if entries.is_empty() {
        if !table.get(key).is_some_and(|item| item.as_array().is_some_and(Array::is_empty)) {
            table.insert(key, Item::Value(Array::new().into()));
        }
        return Ok(());
    }
    if let Some(Item::ArrayOfTables(old)) = table.get_mut(key) {
        while old.len() > entries.len() {
            old.remove(old.len() - 1);
        }
        for (at, (same, fields)) in entries.iter().enumerate() {
            match old.get_mut(at) {
                Some(_) if *same => {}
                Some(entry) => merge(entry, fields)?,
                None => old.push(filled(fields)?),
            }
        }
        return Ok(());
    }
    // The delivery's own tables tell how the file is written.
    let block = !table.get_values().is_empty() || table.is_empty() || table.iter().any(|(_, item)| item.is_table());
    let inline = matches!(table.get(key), Some(Item::Value(Value::Array(old))) if !old.is_empty()) || !block;
    if !inline {
        let mut new = ArrayOfTables::new();
        for (_, fields) in &entries {
            new.push(filled(fields)?);
        }
        table.insert(key, Item::ArrayOfTables(new));
        return Ok(());
    }
    let mut old = match table.remove(key) {
        Some(Item::Value(Value::Array(old))) => old,
        _ => Array::new(),
    };
    while old.len() > entries.len() {
        old.remove(old.len() - 1);
    }
    for (at, (same, fields)) in entries.iter().enumerate() {
        if *same && at < old.len() {
            continue;
        }
        let new = to_toml(fields).ok_or_else(|| format!("TOML has no word for what came: {fields}"))?;
        if at < old.len() { _ = old.replace(at, new) } else { old.push(new) }
    }
    table.insert(key, Item::Value(old.into()));
    Ok(())
}

/// The keys of a table that differ are written anew, those that are gone are taken out.
fn merge(table: &mut Table, fields: &Json) -> Result<(), String> {
    let none = Map::new();
    let fields = fields.as_object().unwrap_or(&none);
    let gone: Vec<String> =
        table.iter().map(|(name, _)| name.to_owned()).filter(|name| !fields.contains_key(name)).collect();
    for name in gone {
        table.remove(&name);
    }
    for (name, value) in fields {
        if table.get(name).and_then(of_item).as_ref() == Some(value) {
            continue;
        }
        match (table.get_mut(name), value) {
            (Some(Item::Table(inner)), Json::Object(_)) => merge(inner, value)?,
            _ => set(table, name, value)?,
        }
    }
    Ok(())
}

fn filled(fields: &Json) -> Result<Table, String> {
    let mut table = Table::new();
    for (name, value) in fields.as_object().into_iter().flatten() {
        set(&mut table, name, value)?;
    }
    Ok(table)
}

/// Sets contents, name by name.
fn contents(
    table: &mut dyn TableLike,
    key: &str,
    got: &Contents,
    form: impl Fn(&str) -> Option<Form>,
) -> Result<(), String> {
    let inner = table.get_mut(key).and_then(Item::as_table_like_mut);
    let inner = inner.ok_or_else(|| format!("`{key}` is no table any more"))?;
    let gone: Vec<String> =
        inner.iter().map(|(name, _)| name.to_owned()).filter(|name| !got.contains_key(name)).collect();
    for name in gone {
        inner.remove(&name);
    }
    for (name, bytes) in got {
        let form = speakable(form(name).unwrap_or_else(|| Form::of(bytes)), bytes);
        let value = view::content(form.show(bytes));
        if inner.get(name).and_then(of_item).as_ref() != Some(&value) {
            set(inner, name, &value)?;
        }
    }
    Ok(())
}

/// A value in TOML; none where it has no word for it.
fn to_toml(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(flag) => (*flag).into(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(float)) if !number.is_u64() => float.into(),
            _ => return None,
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(values) => Value::Array(values.iter().map(to_toml).collect::<Option<Array>>()?),
        Json::Object(fields) => {
            let mut table = InlineTable::new();
            for (name, value) in fields {
                table.insert(name, to_toml(value)?);
            }
            table.into()
        }
    })
}

/// What a value in the file says.
fn of_item(item: &Item) -> Option<Json> {
    match item {
        Item::Value(value) => of_value(value),
        Item::Table(table) => table.iter().map(|(name, item)| Some((name.to_owned(), of_item(item)?))).collect(),
        Item::ArrayOfTables(tables) => {
            let table = |table: &Table| of_item(&Item::Table(table.clone()));
            tables.iter().map(table).collect::<Option<Vec<_>>>().map(Json::Array)
        }
        Item::None => None,
    }
}

fn of_value(value: &Value) -> Option<Json> {
    Some(match value {
        Value::String(text) => json!(text.value()),
        Value::Integer(number) => json!(number.value()),
        Value::Float(number) => json!(number.value()),
        Value::Boolean(flag) => json!(flag.value()),
        Value::Datetime(_) => return None,
        Value::Array(values) => Json::Array(values.iter().map(of_value).collect::<Option<_>>()?),
        Value::InlineTable(table) => {
            let fields = table.iter().map(|(name, value)| Some((name.to_owned(), of_value(value)?)));
            Json::Object(fields.collect::<Option<_>>()?)
        }
    })
}
