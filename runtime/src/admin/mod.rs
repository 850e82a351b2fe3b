//! The admin address: health, workers, metrics, and reloads. For people, probes and Prometheus.

mod guard;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Request, State as Extract},
    http::{Method, StatusCode, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    app::{Ask, Host, State},
    sandbox::Secret,
};

/// Serves until it is dropped. Whoever changes something has to say the `token`, where there is one.
pub async fn serve(listener: TcpListener, host: Arc<Host>, token: Option<Secret>) {
    let on_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let guard = move |request: Request, next: Next| {
        let token = token.clone();
        async move {
            let changes = request.method() != Method::GET && request.method() != Method::HEAD;
            let checked = guard::check(on_loopback, request.headers()).and_then(|()| match changes {
                true => guard::check_change(on_loopback, token.as_ref().map(Secret::expose), request.headers()),
                false => Ok(()),
            });
            match checked {
                Ok(()) => next.run(request).await,
                Err(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
            }
        }
    };
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/workers", get(workers))
        .route("/workers/{name}/history", get(history))
        .route("/plan", get(plan))
        .route("/reload", post(reload))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn(guard))
        .with_state(host);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("the admin address ended: {error}");
    }
}

async fn ready(Extract(host): Extract<Arc<Host>>) -> Response {
    match host.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response(),
    }
}

/// A row of `/workers`.
#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    state: RowState,
    plugin: Option<String>,
    digest: Option<String>,
    queues: Vec<String>,
    /// Settled deliveries by outcome.
    counts: serde_json::Map<String, serde_json::Value>,
    in_flight: i64,
    last_error: Option<String>,
    /// Deliveries that the version had while it is watched, and how many it failed.
    probation: Option<Probation>,
    /// Why the last version was not taken, or not for long.
    refused: Option<String>,
}

#[derive(Serialize)]
struct Probation {
    handled: u32,
    failed: u32,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RowState {
    Runs(State),
    /// A manifest that was left out.
    Refused {
        state: &'static str,
        reason: String,
    },
}

async fn workers(Extract(host): Extract<Arc<Host>>) -> Response {
    let present = host.present();
    let running = present.workers.iter().map(|worker| (worker, worker.version())).map(|(worker, version)| Row {
        name: worker.name.to_string(),
        state: RowState::Runs(worker.state()),
        plugin: Some(version.manifest.plugin.clone()),
        digest: Some(version.digest.clone()),
        queues: worker.manifest.queues.iter().map(|queue| queue.name.clone()).collect(),
        counts: worker.metrics.settled().map(|(outcome, count)| (outcome.to_owned(), count.into())).collect(),
        in_flight: worker.metrics.in_flight.get(),
        last_error: worker.metrics.last_error(),
        probation: version.on_probation().map(|(handled, failed)| Probation { handled, failed }),
        refused: present.refusal(worker),
    });
    let refused = present.refused.iter().map(|refused| Row {
        name: refused.name.clone(),
        state: RowState::Refused {
            state: "refused",
            reason: refused.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; "),
        },
        plugin: None,
        digest: None,
        queues: Vec::new(),
        counts: serde_json::Map::new(),
        in_flight: 0,
        last_error: None,
        probation: None,
        refused: None,
    });
    Json(running.chain(refused).collect::<Vec<_>>()).into_response()
}

async fn history(Extract(host): Extract<Arc<Host>>, Path(name): Path<String>) -> Response {
    match host.histories.of(&name) {
        Some(entries) => Json(entries).into_response(),
        None => (StatusCode::NOT_FOUND, format!("there is no worker `{}`\n", name.escape_debug())).into_response(),
    }
}

async fn plan(Extract(host): Extract<Arc<Host>>) -> Response {
    ask(&host, Ask::Plan).await
}

async fn reload(Extract(host): Extract<Arc<Host>>) -> Response {
    ask(&host, Ask::Reload).await
}

async fn ask<T: Serialize>(host: &Host, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Response {
    let (sender, answer) = oneshot::channel();
    let asked = host.asks.send(ask(sender)).await;
    match (asked, answer.await) {
        (Ok(()), Ok(answer)) => Json(answer).into_response(),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the host is stopping, cannot read its folders, or has too many who wait for this already\n",
        )
            .into_response(),
    }
}

async fn metrics(Extract(host): Extract<Arc<Host>>) -> Response {
    match host.metrics.text() {
        Ok(text) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
