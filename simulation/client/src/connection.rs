//! A connection, and the client's side of what comes over it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{AMQPClass, AMQPError, connection},
    types::{FieldTable, LongString, ShortString},
    uri::AMQPUri,
};
use futures_util::{Stream, stream};
use tokio::sync::{mpsc, oneshot};
use wabbit_embedded_broker::{ConnectionId, Outgoing};

use crate::{
    Channel, Error, ErrorKind, Result, World,
    channel::{Handle, Side},
    runtime::Runtime,
    tcp::OwnedTLSConfig,
    world::tell,
};

/// The largest frame that a client takes.
const FRAME_MAX: u32 = 131_072;

/// What a client says of itself.
#[derive(Clone, Debug, Default)]
pub struct ConnectionProperties {
    name: String,
}

impl ConnectionProperties {
    /// Sets what the connection is called.
    #[must_use]
    pub fn with_connection_name(mut self, name: LongString) -> Self {
        self.name = name.to_string();
        self
    }

    /// Not looked at.
    #[must_use]
    pub fn with_client_property(self, _: ShortString, _: LongString) -> Self {
        self
    }
}

/// What happens to a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// It is lost.
    Error(Error),
    /// The broker takes no publications, for this reason.
    ConnectionBlocked(String),
    /// It does again.
    ConnectionUnblocked,
}

/// A connection; it is closed by [`Connection::close`] alone.
pub struct Connection {
    world: World,
    id: u64,
}

/// What a connection is like at a moment.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionStatus {
    connected: bool,
    blocked: bool,
}

impl ConnectionStatus {
    /// Whether it is open.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// Whether the broker takes no publications.
    #[must_use]
    pub fn blocked(&self) -> bool {
        self.blocked
    }
}

impl Connection {
    /// Connects in the world that the thread is in, whatever the address.
    ///
    /// # Errors
    /// There is no world, its broker is down, or the connection is lost before it is open.
    pub async fn connect_uri_with_config(
        _: AMQPUri,
        properties: ConnectionProperties,
        _: OwnedTLSConfig,
        _: Runtime,
    ) -> Result<Self> {
        let world = World::current().ok_or_else(Error::refused)?;
        let (opened, opening) = oneshot::channel();
        let id = {
            let mut state = world.state();
            let id = state.connect(&properties.name)?;
            if let Some(link) = state.links.get_mut(&id) {
                link.opening = Some(opened);
            }
            id
        };
        world.wake();
        opening.await.unwrap_or_else(|_| Err(Error::lost()))?;
        Ok(Self { world, id })
    }

    /// What it is like now.
    #[must_use]
    pub fn status(&self) -> ConnectionStatus {
        let state = self.world.state();
        let link = state.links.get(&self.id);
        ConnectionStatus {
            connected: link.is_some_and(|link| link.open),
            blocked: link.is_some_and(|link| link.blocked),
        }
    }

    /// What happens to it from now on.
    pub fn events_listener(&self) -> impl Stream<Item = Event> + Send + 'static {
        let (sender, events) = mpsc::unbounded_channel();
        if let Some(link) = self.world.state().links.get_mut(&self.id) {
            link.listeners.push(sender);
        }
        stream::unfold(events, async |mut events| events.recv().await.map(|event| (event, events)))
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// The connection is closed, or lost meanwhile.
    pub async fn create_channel(&self) -> Result<Channel> {
        let (number, opening) = {
            let mut state = self.world.state();
            let link = state.links.get_mut(&self.id).ok_or_else(|| closed("create_channel"))?;
            link.open_channel()?
        };
        self.world.wake();
        let handle = Handle::new(self.world.clone(), self.id, number);
        opening.await.unwrap_or_else(|_| Err(Error::lost()))?;
        Ok(Channel::new(Arc::new(handle)))
    }

    /// Closes it in order.
    ///
    /// # Errors
    /// It is closed already, or lost meanwhile.
    pub async fn close(&self, reply_code: u16, reply_text: ShortString) -> Result<()> {
        let closing = {
            let mut state = self.world.state();
            let link = state.links.get_mut(&self.id).ok_or_else(|| closed("close"))?;
            let (sender, closing) = oneshot::channel();
            link.closing = Some(sender);
            let close = connection::Close { reply_code, reply_text, class_id: 0, method_id: 0 };
            link.send(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)));
            closing
        };
        self.world.wake();
        closing.await.unwrap_or_else(|_| Err(Error::lost()))
    }
}

fn closed(what: &'static str) -> Error {
    ErrorKind::InvalidConnectionState(what).into()
}

/// Both ends of a connection: what is on its way, and what the client knows.
pub(crate) struct Link {
    pub(crate) broker: ConnectionId,
    /// Whether faults happen to it.
    pub(crate) host: bool,
    /// Whether it is blocked when publishers are.
    pub(crate) publishes: bool,
    /// To the broker.
    pub(crate) up: VecDeque<AMQPFrame>,
    /// To the client.
    pub(crate) down: VecDeque<Outgoing>,
    /// Whether the broker ends it after what is on its way.
    pub(crate) ends: bool,
    pub(crate) open: bool,
    blocked: bool,
    opening: Option<oneshot::Sender<Result<()>>>,
    closing: Option<oneshot::Sender<Result<()>>>,
    listeners: Vec<mpsc::UnboundedSender<Event>>,
    pub(crate) channels: BTreeMap<u16, Side>,
    /// Why the broker closed it.
    error: Option<Error>,
    last_channel: u16,
}

impl Link {
    pub(crate) fn new(broker: ConnectionId, host: bool, publishes: bool) -> Self {
        Self {
            broker,
            host,
            publishes,
            up: VecDeque::new(),
            down: VecDeque::new(),
            ends: false,
            open: false,
            blocked: false,
            opening: None,
            closing: None,
            listeners: Vec::new(),
            channels: BTreeMap::new(),
            error: None,
            last_channel: 0,
        }
    }

    pub(crate) fn send(&mut self, channel: u16, method: AMQPClass) {
        self.up.push_back(AMQPFrame::Method(channel, method));
    }

    fn open_channel(&mut self) -> Result<(u16, oneshot::Receiver<Result<crate::channel::Answer>>)> {
        if !self.open {
            return Err(closed("create_channel"));
        }
        // A number is used once: what is still on its way for an old one finds nobody.
        self.last_channel += 1;
        let number = self.last_channel;
        let mut side = Side::default();
        let opening = side.call();
        self.channels.insert(number, side);
        let open = amq_protocol::protocol::channel::Open {};
        self.send(number, AMQPClass::Channel(amq_protocol::protocol::channel::AMQPMethod::Open(open)));
        Ok((number, opening))
    }

    /// Whether the broker has ended it, and all that it said has come.
    pub(crate) fn is_over(&self) -> bool {
        self.ends && self.down.is_empty()
    }

    /// Something has come.
    pub(crate) fn receive(&mut self, item: Outgoing) {
        match item {
            Outgoing::ProtocolHeader => {}
            Outgoing::Method(0, AMQPClass::Connection(method)) => self.method(method),
            Outgoing::Method(channel, method) => {
                let Some(side) = self.channels.get_mut(&channel) else { return };
                if let Some(answer) = side.method(method) {
                    self.send(channel, answer);
                }
                self.forget(channel);
            }
            Outgoing::Content { channel, ref kind, ref message, .. } => {
                let Some(side) = self.channels.get_mut(&channel) else { return };
                // As it would be on the wire.
                let properties = item.clone().into_frames(FRAME_MAX).into_iter().find_map(|frame| match frame {
                    AMQPFrame::Header(_, header) => Some(header.properties),
                    _ => None,
                });
                side.content(kind, message, &properties.unwrap_or_default());
            }
        }
    }

    /// Forgets a channel that is closed on both sides.
    fn forget(&mut self, channel: u16) {
        if self.channels.get(&channel).is_some_and(Side::is_gone) {
            self.channels.remove(&channel);
        }
    }

    fn method(&mut self, method: connection::AMQPMethod) {
        use connection::AMQPMethod as M;
        let mut say = |method| self.up.push_back(AMQPFrame::Method(0, AMQPClass::Connection(method)));
        match method {
            M::Start(_) => say(M::StartOk(connection::StartOk {
                client_properties: capabilities(),
                mechanism: "PLAIN".into(),
                response: "\0guest\0guest".into(),
                locale: "en_US".into(),
            })),
            M::Tune(tune) => {
                let frame_max = tune.frame_max.min(FRAME_MAX);
                // Heartbeats are for sockets.
                say(M::TuneOk(connection::TuneOk { channel_max: tune.channel_max, frame_max, heartbeat: 0 }));
                say(M::Open(connection::Open { virtual_host: "/".into() }));
            }
            M::OpenOk(_) => {
                self.open = true;
                if let Some(opening) = self.opening.take() {
                    // Whoever waited may have given up.
                    _ = opening.send(Ok(()));
                }
            }
            M::Close(close) => {
                say(M::CloseOk(connection::CloseOk {}));
                let error = AMQPError::from_id(close.reply_code, close.reply_text);
                self.error = error.map(|error| ErrorKind::ProtocolError(error).into());
            }
            M::CloseOk(_) => {
                self.open = false;
                if let Some(closing) = self.closing.take() {
                    _ = closing.send(Ok(()));
                }
            }
            M::Blocked(blocked) => {
                self.blocked = true;
                tell(&mut self.listeners, &Event::ConnectionBlocked(blocked.reason.to_string()));
            }
            M::Unblocked(_) => {
                self.blocked = false;
                tell(&mut self.listeners, &Event::ConnectionUnblocked);
            }
            _ => {}
        }
    }

    /// It is gone.
    pub(crate) fn lost(&mut self, error: &Error) {
        let error = self.error.take().unwrap_or_else(|| error.clone());
        self.open = false;
        for side in self.channels.values_mut() {
            side.fail(&error);
        }
        for waiting in [self.opening.take(), self.closing.take()].into_iter().flatten() {
            _ = waiting.send(Err(error.clone()));
        }
        tell(&mut self.listeners, &Event::Error(error));
    }
}

/// What lapin says that it can do.
fn capabilities() -> FieldTable {
    use amq_protocol::types::AMQPValue as V;
    let mut all = FieldTable::default();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ] {
        all.insert(name.into(), V::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), V::FieldTable(all));
    properties
}
