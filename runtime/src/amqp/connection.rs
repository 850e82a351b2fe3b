//! One epoch: a connection for consuming and one for publishing.
//!
//! Two, because a broker that is short of memory or disk blocks all that a publishing connection writes, and acks must
//! not wait behind that.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt as _};
use lapin::{
    Channel, Connection, ConnectionProperties, Event,
    options::ConfirmSelectOptions,
    tcp::OwnedTLSConfig,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio_util::sync::CancellationToken;

use super::error::{Reason, Trouble, within};
use crate::{
    app::settings::{self, BrokerUrl},
    clock,
};

/// How long a call to the broker may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to close in order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The two connections of one epoch.
pub struct Session {
    epoch: u64,
    amqp: settings::Amqp,
    url: BrokerUrl,
    consume: Connection,
    publish: Arc<Connection>,
    /// Whether each worker consumes on a connection of its own.
    apart: bool,
    lost: CancellationToken,
    cause: Mutex<Option<Trouble>>,
}

impl Session {
    /// Connects both to one address, in the time that one connection may take. Errors name the address and what the
    /// broker said, and never the password. With `apart`, each worker gets a connection of its own from
    /// [`Session::for_worker`], so that a message that lapin cannot read ends that one alone.
    pub async fn connect(amqp: &settings::Amqp, url: &BrokerUrl, epoch: u64, apart: bool) -> Result<Self, Trouble> {
        let until = clock::now() + amqp.connect_timeout;
        let consume = connect(amqp, url, "consume", until).await?;
        let publish = match connect(amqp, url, "publish", until).await {
            Ok(publish) => Arc::new(publish),
            Err(trouble) => {
                close(&consume).await;
                return Err(trouble);
            }
        };
        let (amqp, url, lost) = (amqp.clone(), url.clone(), CancellationToken::new());
        Ok(Self { epoch, amqp, url, consume, publish, apart, lost, cause: Mutex::default() })
    }

    /// Connects to the first address that takes it. The error names every address with what it failed with.
    pub async fn connect_to_any(amqp: &settings::Amqp) -> Result<Self, Trouble> {
        let mut causes = Vec::new();
        for url in amqp.urls.iter() {
            match Self::connect(amqp, url, 1, false).await {
                Ok(session) => return Ok(session),
                Err(trouble) => causes.push(trouble.message),
            }
        }
        Err(Trouble::new(Reason::Connection, causes.join("; ")))
    }

    /// The session that a worker works with: this one, or one with a consuming connection of its own that is lost with
    /// this one. Whoever got one of its own follows it with [`Session::watch_consuming`] and ends it with
    /// [`Session::close_consuming`].
    pub async fn for_worker(self: &Arc<Self>, worker: &str) -> Result<Arc<Self>, Trouble> {
        if !self.apart {
            return Ok(Arc::clone(self));
        }
        let until = clock::now() + self.amqp.connect_timeout;
        let consume = connect(&self.amqp, &self.url, &format!("consume for {worker}"), until).await?;
        Ok(Arc::new(Self {
            epoch: self.epoch,
            amqp: self.amqp.clone(),
            url: self.url.clone(),
            consume,
            publish: Arc::clone(&self.publish),
            apart: false,
            lost: self.lost.child_token(),
            cause: Mutex::default(),
        }))
    }

    /// Counts up with each session of this process, from 1.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Cancelled once either connection is lost.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Why it was lost.
    pub fn cause(&self) -> Option<Trouble> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the broker has blocked publishing for want of memory or disk.
    pub fn blocked(&self) -> bool {
        self.publish.status().blocked()
    }

    /// Watches both connections until one is lost, then gives up the session.
    pub(super) async fn watch(&self) {
        let cause = tokio::select! {
            biased;
            cause = lost(&self.consume) => cause,
            cause = lost(&self.publish) => cause,
        };
        self.give_up(cause);
    }

    /// Watches the consuming connection alone until it is lost, then gives up the session.
    pub async fn watch_consuming(&self) {
        self.give_up(lost(&self.consume).await);
    }

    fn give_up(&self, cause: Trouble) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
        self.lost.cancel();
    }

    /// Closes the consuming connection alone.
    pub async fn close_consuming(&self) {
        self.lost.cancel();
        close(&self.consume).await;
    }

    /// Closes both connections; what is unsettled goes back to its queues.
    pub async fn close(&self) {
        self.lost.cancel();
        tokio::join!(close(&self.publish), close(&self.consume));
    }

    /// A channel for consuming and for what is exclusive to the consuming connection.
    pub(super) async fn consume_channel(&self) -> Result<Channel, Trouble> {
        within(CALL_TIMEOUT, self.consume.create_channel()).await
    }

    /// A channel that confirms.
    pub(super) async fn publish_channel(&self) -> Result<Channel, Trouble> {
        let channel = within(CALL_TIMEOUT, self.publish.create_channel()).await?;
        within(CALL_TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }
}

/// How often a connection is looked at in case an event went by.
const LOOK: Duration = Duration::from_secs(1);

async fn lost(connection: &Connection) -> Trouble {
    let mut events = std::pin::pin!(connection.events_listener());
    let mut cause = None;
    loop {
        match tokio::time::timeout(LOOK, next_event(&mut events)).await {
            Ok(Event::Error(error)) => cause = Some(Trouble::from(error)),
            Ok(Event::ConnectionBlocked(reason)) => {
                tracing::warn!("the broker blocks publishers: {reason}; publications wait");
            }
            Ok(Event::ConnectionUnblocked) => tracing::info!("the broker takes publications again"),
            Ok(_) | Err(_) => {}
        }
        if !connection.status().connected() {
            return cause.unwrap_or_else(|| Trouble::new(Reason::Connection, "the connection was closed"));
        }
    }
}

async fn next_event(events: &mut (impl Stream<Item = Event> + Unpin)) -> Event {
    match events.next().await {
        Some(event) => event,
        None => std::future::pending().await,
    }
}

async fn connect(amqp: &settings::Amqp, url: &BrokerUrl, purpose: &str, until: Instant) -> Result<Connection, Trouble> {
    let refused = |message: String| Trouble::new(Reason::Connection, message);
    // Field by field: lapin's own reading of an address with an IPv6 host is another one.
    let uri = AMQPUri {
        scheme: if url.tls() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: url.user().to_owned(), password: url.password().to_owned() },
            host: url.host().to_owned(),
            port: url.port(),
        },
        vhost: url.vhost().to_owned(),
        query: AMQPQueryString {
            heartbeat: Some(u16::try_from(amqp.heartbeat.as_secs()).unwrap_or(u16::MAX)),
            ..AMQPQueryString::default()
        },
    };
    let cert_chain = match &amqp.ca {
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|error| refused(format!("cannot read the CA file `{}`: {error}", path.display())))?,
        ),
        None => None,
    };
    let name = format!("wabbit {} ({purpose})", env!("CARGO_PKG_VERSION"));
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "wabbit".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let tls = OwnedTLSConfig { cert_chain, ..OwnedTLSConfig::default() };
    let runtime = lapin::runtime::default_runtime()?;
    let left = until.saturating_duration_since(clock::now());
    within(left, Connection::connect_uri_with_config(uri, properties, tls, runtime))
        .await
        .map_err(|trouble| explain(trouble, amqp, url))
}

/// Adds what a person can do about it.
fn explain(trouble: Trouble, amqp: &settings::Amqp, url: &BrokerUrl) -> Trouble {
    let late = format!("no answer within {}", humantime::format_duration(amqp.connect_timeout));
    let message = if trouble.reason == Reason::TimedOut { &late } else { &trouble.message };
    let hint = if message.contains("ACCESS_REFUSED") {
        "; hint: check the user and the password"
    } else if message.contains("NOT_ALLOWED") {
        "; hint: check the vhost, which is the URL's path (`%2f` is the default one), and the user's permissions"
    } else if url.tls() && message.to_lowercase().contains("certificate") {
        "; hint: give the CA that signed the broker's certificate as `ca` in `[amqp]`"
    } else {
        ""
    };
    Trouble::new(trouble.reason, format!("cannot connect to {url}: {message}{hint}"))
}

async fn close(connection: &Connection) {
    if connection.status().connected() {
        let closing = connection.close(200, "stopping".into());
        if let Ok(Err(error)) = tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            tracing::debug!("closing a connection: {error}");
        }
    }
}
