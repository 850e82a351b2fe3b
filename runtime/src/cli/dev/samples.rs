//! Samples: deliveries as JSON beside the sources of a handler, sent to its worker.

use std::{
    future::poll_fn,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use tokio::time::timeout;

use super::rows::{Row, Rows};
use crate::{
    amqp::{Publisher, Session},
    app::settings::Settings,
    delivery::json::parse_delivery,
    outcome::{Checked, Publication, check_carriable},
    project::sources_of,
    settle::Verdict,
};

/// The sample in a folder of sources.
const SAMPLE: &str = "sample.json";
/// A worker that takes deliveries.
const CONSUMING: &str = "consuming";

pub(super) struct Samples {
    sources: PathBuf,
    /// What is to be sent at the start, and to whom where that is said.
    first: Option<(PathBuf, Option<String>)>,
    /// The last that was sent.
    last: Option<(String, PathBuf)>,
}

impl Samples {
    pub(super) fn new(sources: &Path, file: Option<PathBuf>, worker: Option<String>) -> Self {
        Self { sources: sources.to_owned(), first: file.map(|file| (file, worker)), last: None }
    }

    /// The one for the start, once its worker consumes; said once. Errors: it has no worker.
    pub(super) fn first(&mut self, rows: &Rows) -> Result<Option<(Row, PathBuf)>, String> {
        let Some((file, name)) = &self.first else { return Ok(None) };
        // Until all are read, the only worker may be just the first.
        if rows.all().is_empty() || rows.all().iter().any(|row| ["starting", "waiting"].contains(&&*row.state)) {
            return Ok(None);
        }
        let row = match name {
            Some(name) => rows.named(name).ok_or_else(|| format!("there is no worker `{name}`")),
            None => self.beside(file, rows),
        };
        match row {
            Ok(row) if row.state != CONSUMING => Ok(None),
            Ok(row) => {
                let found = (row.clone(), file.clone());
                self.first = None;
                Ok(Some(found))
            }
            Err(reason) => {
                self.first = None;
                Err(reason)
            }
        }
    }

    /// The worker whose sources the file lies beside, or the only one.
    fn beside<'r>(&self, file: &Path, rows: &'r Rows) -> Result<&'r Row, String> {
        let folder = file.canonicalize().ok();
        let is_beside = |row: &&Row| {
            let sources = row.plugin.as_deref().and_then(|plugin| sources_of(&self.sources, plugin));
            let sources = sources.and_then(|sources| sources.canonicalize().ok());
            sources.zip(folder.as_ref()).is_some_and(|(sources, file)| file.starts_with(sources))
        };
        match rows.all() {
            [row] => Ok(row),
            rows => rows.iter().find(is_beside).ok_or_else(|| {
                let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
                format!("which worker is `{}` for? hint: --to one of {}", file.display(), names.join(", "))
            }),
        }
    }

    /// The sample of a worker. Errors: there is none.
    pub(super) fn of(&self, worker: &Row) -> Result<PathBuf, String> {
        if let Some((_, file)) = self.last.as_ref().filter(|(name, _)| *name == worker.name) {
            return Ok(file.clone());
        }
        let folder = worker.plugin.as_deref().and_then(|plugin| sources_of(&self.sources, plugin));
        let folder = folder.ok_or_else(|| format!("`{}` has no sources here, and so no sample", worker.name))?;
        let file = folder.join(SAMPLE);
        if file.is_file() {
            return Ok(file);
        }
        Err(format!("there is no `{}`; hint: it is a delivery as JSON, as `wabbit invoke` takes it", file.display()))
    }

    /// The last one again, or the only worker's. Errors: there is none.
    pub(super) fn again(&self, rows: &Rows) -> Result<(Row, PathBuf), String> {
        let last = self.last.as_ref().and_then(|(name, file)| Some((rows.named(name)?.clone(), file.clone())));
        match (last, rows.all()) {
            (Some(last), _) => Ok(last),
            (None, [row]) => Ok((row.clone(), self.of(row)?)),
            (None, _) => Err("nothing was sent yet; hint: press the number of a worker".into()),
        }
    }

    /// It is this one that is sent again.
    pub(super) fn sends(&mut self, worker: &Row, file: &Path) {
        self.last = Some((worker.name.clone(), file.to_owned()));
    }
}

/// Sends a sample to a worker, and waits until the broker has taken it. Gives where it went.
pub(super) async fn send(settings: &Settings, worker: &Row, file: &Path) -> anyhow::Result<String> {
    let queue = worker.queues.first().map_or("", String::as_str);
    let text = std::fs::read(file)?;
    let delivery = parse_delivery(&text, queue).map_err(|error| anyhow::anyhow!("it is not a delivery: {error}"))?;
    let (exchange, routing_key) = match delivery.exchange.as_str() {
        "" if queue.is_empty() => bail!("its queue has no name; hint: name an `exchange` in the sample"),
        "" => (String::new(), queue.to_owned()),
        _ => (delivery.exchange, delivery.routing_key),
    };
    let to = match exchange.as_str() {
        "" => format!("queue `{routing_key}`"),
        _ => format!("exchange `{exchange}` with routing key `{routing_key}`"),
    };
    let publication = Publication { exchange, routing_key, body: delivery.body, properties: delivery.properties };
    check_carriable(&publication, settings.host.max_body).map_err(|failure| anyhow::anyhow!(failure.error))?;
    let session = Arc::new(Session::connect_to_any(&settings.amqp).await?);
    let sent = publish(&session, settings, publication).await;
    session.close().await;
    match sent? {
        Verdict::Confirmed => Ok(to),
        Verdict::Returned => bail!("no queue is bound to {to}"),
        Verdict::Nacked | Verdict::Forbidden => bail!("the broker refused it"),
        Verdict::Lost => bail!("the connection was lost"),
    }
}

async fn publish(session: &Arc<Session>, settings: &Settings, publication: Publication) -> anyhow::Result<Verdict> {
    let mut publisher = Publisher::open(Arc::clone(session)).await?;
    publisher.probe(&publication.exchange).await?;
    publisher.send(Checked { publication, mandatory: true, charged: true, reply: false }, ());
    let mut verdicts = Vec::new();
    let verdict = poll_fn(|cx| publisher.poll_verdicts(cx, &mut verdicts));
    timeout(settings.amqp.publish_timeout, verdict).await.context("no confirm in time")??;
    publisher.close().await?;
    Ok(verdicts.first().map_or(Verdict::Lost, |(_, verdict)| *verdict))
}
