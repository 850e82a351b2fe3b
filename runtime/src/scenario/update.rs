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
        let (delivery, inline): (Option<&mut dyn TableLike>, bool) = match &mut *deliveries {
            Item::ArrayOfTables(tables) => (tables.get_mut(at).map(|table| table as &mut dyn TableLike), false),
            Item::Value(Value::Array(values)) => {
                let table = values.get_mut(at).and_then(Value::as_inline_table_mut);
                (table.map(|table| table as &mut dyn TableLike), true)
            }
            _ => (None, false),
        };
        let delivery = delivery.ok_or_else(|| format!("there is no delivery {} any more", at + 1))?;
        accept(delivery, inline, expect, got)?;
    }
    Ok(document.to_string())
}

/// Writes what came into one delivery, which is an inline table or not.
fn accept(delivery: &mut dyn TableLike, inline: bool, expect: &Expect, got: &Got) -> Result<(), String> {
    let says_nothing = *expect == Expect::default();
    if !says_nothing && compare(expect, got).is_empty() {
        return Ok(());
    }
    if !delivery.contains_key("expect") {
        let made = if inline { Item::Value(InlineTable::new().into()) } else { Item::Table(Table::new()) };
        delivery.insert("expect", made);
    }
    let expectation = delivery.get_mut("expect").ok_or("there is no `expect` any more")?;
    let inline = expectation.as_table().is_none_or(Table::is_dotted);
    let table = expectation.as_table_like_mut().ok_or("`expect` is no table any more")?;
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
                tables(table, inline, "publications", views.collect())?;
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
        tables(table, inline, "http", views.collect())?;
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
    if let Some(Item::Value(old)) = table.get_mut(key) {
        *new.decor_mut() = old.decor().clone();
        *old = new;
        return Ok(());
    }
    table.insert(key, Item::Value(new));
    Ok(())
}

/// Sets an array of tables, entry by entry: those that are the same stay as they are.
fn tables(table: &mut dyn TableLike, inline: bool, key: &str, entries: Vec<(bool, Json)>) -> Result<(), String> {
    if entries.is_empty() {
        if !table.get(key).is_some_and(|item| item.as_array().is_some_and(Array::is_empty)) {
            table.remove(key);
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
    let inline = inline || table.get(key).and_then(Item::as_array).is_some_and(|old| !old.is_empty());
    if !inline {
        let mut new = ArrayOfTables::new();
        for (_, fields) in &entries {
            new.push(filled(fields)?);
        }
        table.remove(key);
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
fn merge(table: &mut dyn TableLike, fields: &Json) -> Result<(), String> {
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
            // One that has the same keys keeps their order.
            (Some(Item::Value(Value::InlineTable(inner))), Json::Object(fields))
                if inner.len() == fields.len() && fields.keys().all(|name| inner.contains_key(name)) =>
            {
                merge(inner, value)?;
            }
            _ => set(table, name, value)?,
        }
    }
    Ok(())
}

fn filled(fields: &Json) -> Result<Table, String> {
    const LAST: [&str; 4] = ["text", "json", "base64", "properties"];
    let mut fields: Vec<_> = fields.as_object().into_iter().flatten().collect();
    // What a message is sent by before what is in it.
    fields.sort_by_key(|(name, _)| LAST.iter().position(|last| last == name).map_or(0, |at| at + 1));
    let mut table = Table::new();
    for (name, value) in fields {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::Properties,
        outcome::{Failure, FailureKind, Outcome, Publication, Settlement},
        sandbox::{Asked, Logged},
        scenario::parse,
    };

    fn publication(key: &str, body: &str) -> Publication {
        let properties = Properties { delivery_mode: Some(1), ..Properties::default() };
        Publication { exchange: String::new(), routing_key: key.into(), body: body.into(), properties }
    }

    fn got(publications: Vec<Publication>) -> Got {
        Got {
            result: Ok(Outcome { settlement: Settlement::Ack, publications }),
            log: vec![Logged { stream: "stderr", text: "said".into() }],
            asked: vec![Asked {
                method: hyper::Method::POST,
                url: "http://a/b".into(),
                headers: [(hyper::header::ACCEPT, "x".parse().unwrap())].into_iter().collect(),
                body: b"{\"q\":1}".to_vec(),
            }],
            keyvalue: Some([("k".to_owned(), b"2".to_vec()), ("new".to_owned(), b"{\"a\":1}".to_vec())].into()),
            files: [("/f".to_owned(), [("x".to_owned(), vec![0xff])].into())].into(),
        }
    }

    /// What becomes of a scenario; it then says what came, so that a second time nothing changes.
    #[track_caller]
    fn check(text: &str, got: &Got, expected: &str) {
        let accept = |text: &str| {
            let scenario = parse(text, &|_| Err("no files".into())).unwrap_or_else(|problems| panic!("{problems:?}"));
            update(text, &[(&scenario.steps[0].expect, got)]).unwrap()
        };
        let once = accept(text);
        assert_eq!(once, expected);
        assert_eq!(accept(&once), once);
        let scenario =
            parse(&once, &|_| Err("no files".into())).unwrap_or_else(|problems| panic!("{problems:?}\n{once}"));
        assert_eq!(compare(&scenario.steps[0].expect, got), [], "{once}");
    }

    #[test]
    fn publications_are_written_as_the_file_is() {
        let two = got(vec![publication("a", "x"), publication("b", "{\"z\":null}")]);
        check(
            "[[delivery]]\n",
            &two,
            "[[delivery]]\n\n[delivery.expect]\nsettlement = \"ack\"\n\n[[delivery.expect.publications]]\nrouting_key = \"a\"\n\
             text = \"x\"\n\n[[delivery.expect.publications]]\nrouting_key = \"b\"\ntext = '{\"z\":null}'\n",
        );
        check(
            "delivery = [{ expect = { publications = [] } }]\n",
            &two,
            "delivery = [{ expect = { publications = [{ routing_key = \"a\", text = \"x\" }, { routing_key = \"b\", \
             text = '{\"z\":null}' }] } }]\n",
        );
        // One that is as it should be stays as it is, one that is too many goes.
        check(
            "[[delivery]]\n[[delivery.expect.publications]]\nrouting_key=\"a\" # one\ntext='x'\n\
             [[delivery.expect.publications]]\nrouting_key=\"c\" # two\ntext = \"{}\"\n[[delivery.expect.publications]]\n",
            &two,
            "[[delivery]]\n[[delivery.expect.publications]]\nrouting_key=\"a\" # one\ntext='x'\n\
             [[delivery.expect.publications]]\nrouting_key=\"b\" # two\ntext = '{\"z\":null}'\n",
        );
        // Of a value with the same keys that is changed which differs.
        check(
            "[[delivery]]\n[[delivery.expect.publications]]\nrouting_key = \"a\"\njson = { z = 1, b = { c = [2] }, a = 3 }\n",
            &got(vec![publication("a", "{\"a\":3,\"z\":1,\"b\":{\"c\":[4]}}")]),
            "[[delivery]]\n[[delivery.expect.publications]]\nrouting_key = \"a\"\njson = { z = 1, b = { c = [4] }, a = 3 }\n",
        );
        check(
            "[[delivery]]\n[[delivery.expect.publications]]\nrouting_key = \"a\"\n",
            &got(Vec::new()),
            "[[delivery]]\n\n[delivery.expect]\npublications = []\n",
        );
    }

    #[test]
    fn what_is_mentioned_is_written_anew() {
        check(
            "[[delivery]]\nexpect.keyvalue = { k = \"1\", gone = \"\" } # all\n",
            &got(Vec::new()),
            "[[delivery]]\nexpect.keyvalue = { k = \"2\", new = { json = { a = 1 } } } # all\n",
        );
        check(
            "[[delivery]]\nexpect.files.\"/f\" = { x = \"\" }\n",
            &got(Vec::new()),
            "[[delivery]]\nexpect.files.\"/f\" = { x = { base64 = \"/w==\" } }\n",
        );
        check(
            "[[delivery]]\nexpect.log = [{ contains = \"ai\", stream = \"stdout\" }, \"x\"]\n",
            &got(Vec::new()),
            "[[delivery]]\nexpect.log = [{ contains = \"ai\", stream = \"stderr\" }]\n",
        );
        check(
            "[[delivery]]\nexpect.log_contains = [\"x\", \"aid\"]\n",
            &got(Vec::new()),
            "[[delivery]]\nexpect.log_contains = [\"aid\"]\n",
        );
        check(
            "[[delivery]]\n[[delivery.expect.http]]\nurl = \"http://a/\"\nheaders = { accept = \"y\" }\n",
            &got(Vec::new()),
            "[[delivery]]\n[[delivery.expect.http]]\nurl = \"http://a/b\"\nheaders = { accept = \"x\" }\nmethod = \"POST\"\n",
        );
        check(
            "[[delivery]]\nexpect.http = []\n",
            &got(Vec::new()),
            "[[delivery]]\nexpect.http = [{ json = { q = 1 }, method = \"POST\", url = \"http://a/b\" }]\n",
        );
    }

    #[test]
    fn a_failure_takes_the_place_of_an_outcome_and_the_other_way_round() {
        let failed = Got { result: Err(Failure::new(FailureKind::Trap, "no")), ..got(Vec::new()) };
        check(
            "[[delivery]]\n[delivery.expect]\nsettlement = \"ack\"\npublications = []\nlog = [\"said\"]\n",
            &failed,
            "[[delivery]]\n[delivery.expect]\nlog = [\"said\"]\nfailure = { contains = \"no\", kind = \"trap\" }\n",
        );
        check(
            "[[delivery]]\nexpect.failure = \"trap\" # x\n",
            &failed,
            "[[delivery]]\nexpect.failure = \"trap\" # x\n",
        );
        check(
            "[[delivery]]\nexpect.failure = \"trap\"\n",
            &got(Vec::new()),
            "[[delivery]]\nexpect.settlement = \"ack\"\nexpect.publications = []\n",
        );
    }
}
