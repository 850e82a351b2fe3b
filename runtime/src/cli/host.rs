//! What commands ask of a host that runs, by its admin address.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{AUTHORIZATION, HOST},
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::TcpStream, time::timeout};

use super::{Failed, executor, settings};
use crate::app::{self, settings::Overrides};

/// The bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// For an answer, in which all that changed may be compiled.
const ANSWER_TIME: Duration = Duration::from_secs(10 * 60);

/// Flags that say which host is asked.
#[derive(Args)]
pub(super) struct HostArgs {
    /// The settings; `wabbit.toml` is read where there is one
    #[arg(long, value_name = "FILE", env = "WABBIT_CONFIG")]
    config: Option<PathBuf>,
    /// A named environment of the settings
    #[arg(long, value_name = "NAME", env = "WABBIT_ENVIRONMENT")]
    environment: Option<String>,
    /// The host's admin address [default: 127.0.0.1:9290]
    #[arg(long, value_name = "ADDRESS", env = "WABBIT_ADMIN")]
    admin: Option<String>,
}

impl HostArgs {
    /// Asks, and waits for the answer.
    pub(super) fn ask<T: DeserializeOwned>(self, method: Method, path: &str) -> Result<T, Failed> {
        let Self { config, environment, admin } = self;
        ask(&Overrides { config, environment, admin, ..Overrides::default() }, method, path)
    }
}

/// Asks the host of these settings, and waits for the answer.
pub(super) fn ask<T: DeserializeOwned>(overrides: &Overrides, method: Method, path: &str) -> Result<T, Failed> {
    let settings = settings(overrides)?;
    let Some(address) = settings.admin else {
        return Err(Failed::Configuration("error: the admin address is off\nhint: choose another with --admin".into()));
    };
    let token = settings.admin_token.as_ref().map(|source| app::secret(source, &settings.project())).transpose();
    let token = token.map_err(|problem| Failed::Configuration(format!("error: `admin-token` {problem}")))?;
    let mut request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(anyhow::Error::from)?;
    let (status, body) = executor()?.block_on(async {
        let asked = timeout(ANSWER_TIME, send(address, request)).await;
        asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {}", humantime::format_duration(ANSWER_TIME))))
    })?;
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body);
        return Err(anyhow::anyhow!("the host at {address} answers: {}", text.trim_end()).into());
    }
    let answer = serde_json::from_slice(&body).with_context(|| format!("{address} is no wabbit of this version"))?;
    Ok(answer)
}

async fn send(address: SocketAddr, request: Request<Empty<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await;
    let stream =
        stream.with_context(|| format!("no host answers at {address}; hint: choose its admin address with --admin"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
    connection.abort();
    Ok((status, body.to_bytes()))
}
