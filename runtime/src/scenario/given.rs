//! `[given]`: the world of a scenario.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
    time::{Duration, SystemTime},
};

use hyper::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use toml::de::DeValue;
use url::Url;

use super::{
    CLOCK, Contents, STEP,
    body::{Body, Form, bodies, body, folders},
    parse::Files,
};
use crate::{
    manifest::{
        Manifest,
        read::Section,
        report::{Place, Problem},
        values::quoted,
    },
    sandbox::{Answer, AnswerError, Answered},
};

/// How far the clocks go with each look at most.
const STEP_MAX: Duration = Duration::from_secs(3_600);

/// All that a handler can ask of the world.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// Where the wall clock begins, since the Unix epoch. Default 2026-01-01.
    pub clock: Duration,
    /// By how much the clocks go forward with each look at one of them. Default 1 ms.
    pub step: Duration,
    /// Where randomness comes from. Default 1.
    pub seed: u64,
    /// In the place of values of the manifest's `config`, with the places where they stand.
    pub config: BTreeMap<String, (String, Option<Place>)>,
    /// The values of the manifest's secrets, likewise.
    pub secrets: BTreeMap<String, (String, Option<Place>)>,
    /// What is in the store; none where nothing is said of it.
    pub keyvalue: Option<Contents>,
    /// What is in the folders, by the paths that the handler sees.
    pub files: BTreeMap<String, Contents>,
    /// What HTTP requests are answered, in their order.
    pub http: Vec<Answer>,
    /// Where `keyvalue`, `files` and `http` stand.
    pub places: [Option<Place>; 3],
}

impl Default for Given {
    fn default() -> Self {
        Self {
            clock: since_epoch(CLOCK).unwrap_or_default(),
            step: STEP,
            seed: 1,
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            keyvalue: None,
            files: BTreeMap::new(),
            http: Vec::new(),
            places: [const { None }; 3],
        }
    }
}

impl Given {
    /// What does not fit a manifest: what it does not grant, and secrets of it that are not given.
    pub fn check(&self, manifest: &Manifest) -> Vec<Problem> {
        let grant = &manifest.grant;
        let mut problems = Vec::new();
        let name = quoted(&manifest.name);
        let mut stray = |text: String, place: &Option<Place>| problems.push(Problem::new(text).at(place.clone()));
        for (key, (_, place)) in &self.config {
            if !grant.config.as_ref().is_some_and(|config| config.contains_key(key)) {
                stray(format!("manifest {name} has no {} in `config`", quoted(key)), place);
            }
        }
        for (key, (_, place)) in &self.secrets {
            if !grant.secrets.contains_key(key) {
                stray(format!("manifest {name} has no secret {}", quoted(key)), place);
            }
        }
        let [keyvalue, files, http] = &self.places;
        if self.keyvalue.is_some() && grant.keyvalue.is_none() {
            stray(format!("manifest {name} grants no key-value store"), keyvalue);
        }
        for folder in self.files.keys() {
            if !grant.files.iter().any(|files| files.guest == *folder) {
                stray(format!("manifest {name} grants no folder {}", quoted(folder)), files);
            }
        }
        if !self.http.is_empty() && grant.http.is_empty() {
            stray(format!("manifest {name} grants no HTTP requests"), http);
        }
        for secret in grant.secrets.keys().filter(|secret| !self.secrets.contains_key(*secret)) {
            let problem = Problem::new(format!("the secret {} of manifest {name} is not given", quoted(secret)));
            problems.push(problem.hint(format!("add `{secret} = \"…\"` below `[given.secrets]`")));
        }
        problems
    }
}

pub(super) fn given(section: &mut Section<'_>, files: Files<'_>) -> Given {
    let default = Given::default();
    let step = section.duration("step", Duration::ZERO..=STEP_MAX).unwrap_or(default.step);
    let seed = section.integer("seed", 0..=usize::MAX).map(|seed| seed as u64).unwrap_or(default.seed);
    let folders = folders(section, "files", files).unwrap_or_default();
    let plain = |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if let Some(name) = folders.values().flat_map(BTreeMap::keys).find(|name| name.is_empty() || !plain(name)) {
        let problem = Problem::new(format!("{} is no file within a folder", quoted(name)));
        section.report("files", problem.hint("a path from the folder, such as `2026/report.txt`"));
    }
    Given {
        clock: clock(section, "clock").unwrap_or(default.clock),
        step,
        seed,
        config: values(section, "config"),
        secrets: values(section, "secrets"),
        keyvalue: bodies(section, "keyvalue", files).map(contents),
        files: folders.into_iter().map(|(folder, bodies)| (folder, contents(bodies))).collect(),
        http: section.sections("http", |section| answer(section, files)).into_iter().flatten().collect(),
        places: ["keyvalue", "files", "http"].map(|key| section.place(key)),
    }
}

/// The bytes of bodies.
pub(super) fn contents(bodies: BTreeMap<String, Body>) -> Contents {
    bodies.into_iter().map(|(name, body)| (name, body.bytes)).collect()
}

/// A point in time: `"2026-01-01T00:00:00Z"`, with quotes or without.
pub(super) fn clock(section: &mut Section<'_>, key: &'static str) -> Option<Duration> {
    let value = section.value(key)?;
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        _ => String::new(),
    };
    let since = since_epoch(&text);
    if since.is_none() {
        let problem = Problem::new(format!("`{key}` must be a time in UTC from 1970 on"));
        section.report_at(value, problem.hint("write it as `\"2026-01-01T00:00:00Z\"`"));
    }
    since
}

fn since_epoch(text: &str) -> Option<Duration> {
    humantime::parse_rfc3339_weak(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

/// Texts by names that the user chose.
fn values(section: &mut Section<'_>, key: &'static str) -> BTreeMap<String, (String, Option<Place>)> {
    let read = |name: &str, text: &str| Ok((name.to_owned(), text.to_owned()));
    // Where a name stands is not worth more: all of the table is on a few lines.
    let place = section.place(key);
    let texts = section.texts(key, read).unwrap_or_default();
    texts.into_iter().map(|(name, text)| (name, (text, place.clone()))).collect()
}

/// `url`, and what comes of a request to it.
fn answer(section: &mut Section<'_>, files: Files<'_>) -> Option<Answer> {
    let (method, url) = request(section)?;
    const ERRORS: &[(&str, AnswerError)] = &[
        ("connection-refused", AnswerError::ConnectionRefused),
        ("connection-timeout", AnswerError::ConnectionTimeout),
        ("dns", AnswerError::Dns),
        ("response-timeout", AnswerError::ResponseTimeout),
        ("certificate", AnswerError::Certificate),
    ];
    let error = section.one_of("error", ERRORS);
    let status = section.integer("status", 100..=599).and_then(|status| u16::try_from(status).ok());
    let mut headers = headers(section);
    let body = body(section, files);
    if let Some(error) = error {
        let others = ["status", "headers", "text", "json", "base64", "file"];
        if let Some(key) = others.into_iter().find(|key| section.has(key)) {
            let problem = Problem::new(format!("`{key}` has no meaning with an `error`"));
            section.report(key, problem.hint("a request that fails has no response"));
        }
        return Some(Answer { method, url, answered: Answered::Error(error) });
    }
    let is_json = body.as_ref().is_some_and(|body| body.form == Form::Json);
    if is_json && !headers.contains_key("content-type") {
        headers.insert("content-type", HeaderValue::from_static("application/json"));
    }
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    let body = body.map(|body| body.bytes).unwrap_or_default();
    Some(Answer { method, url, answered: Answered::Response { status, headers, body } })
}

/// `method`, which is GET by default, and `url`.
pub(super) fn request(section: &mut Section<'_>) -> Option<(Method, String)> {
    section.require("url", "url = \"https://…\"");
    let method = section.checked("method", |text| {
        Method::from_bytes(text.as_bytes()).map_err(|_| Problem::new(format!("{} is no HTTP method", quoted(text))))
    });
    let url = section.checked("url", |text| {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or_else(|| Problem::new(format!("{} is no address of an HTTP request", quoted(text))))?;
        // As a request has it: the origin, then path and query.
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(format!("{}://{}{port}{}{query}", url.scheme(), url.host_str().unwrap_or_default(), url.path()))
    });
    url.map(|url| (method.unwrap_or(Method::GET), url))
}

/// `headers = { NAME = "VALUE" }`.
pub(super) fn headers(section: &mut Section<'_>) -> HeaderMap {
    let read = |name: &str, text: &str| {
        let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(text).ok());
        header.ok_or_else(|| Problem::new(format!("{} is no HTTP header", quoted(name))))
    };
    section.texts("headers", read).unwrap_or_default().into_iter().collect()
}
