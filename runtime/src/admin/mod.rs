//! The admin address: health, workers, metrics. For people, probes and Prometheus; nothing here changes anything.

mod guard;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State as Extract},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::app::{Host, State};

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, host: Arc<Host>) {
    let on_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let guard = move |request: Request, next: Next| async move {
        match guard::check(on_loopback, request.headers()) {
            Ok(()) => next.run(request).await,
            Err(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
        }
    };
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/workers", get(workers))
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
    let loaded = host.loaded();
    let running = loaded.workers.iter().map(|worker| Row {
        name: worker.name.to_string(),
        state: RowState::Runs(worker.state()),
        plugin: Some(worker.manifest.plugin.clone()),
        digest: Some(worker.version.digest.clone()),
        queues: worker.manifest.queues.iter().map(|queue| queue.name.clone()).collect(),
        counts: worker.metrics.settled().map(|(outcome, count)| (outcome.to_owned(), count.into())).collect(),
        in_flight: worker.metrics.in_flight.get(),
        last_error: worker.metrics.last_error(),
    });
    let refused = loaded.refused.iter().map(|refused| Row {
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
    });
    Json(running.chain(refused).collect::<Vec<_>>()).into_response()
}

async fn metrics(Extract(host): Extract<Arc<Host>>) -> Response {
    match host.metrics.text() {
        Ok(text) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
