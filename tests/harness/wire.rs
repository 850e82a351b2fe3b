//! A wire between a host and its broker that a test can cut, or on which it can hold up what passes.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the wire does at the moment.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Counts the cuts; a connection does not outlive one.
    cuts: u32,
    /// Whether a new connection is taken.
    up: bool,
    /// Whether what the host says passes, and whether what the broker says does.
    asks: bool,
    answers: bool,
}

/// A wire. Dropping it cuts it for good.
pub struct Wire {
    /// The broker's URL, by way of this wire.
    pub url: String,
    state: watch::Sender<State>,
    _connections: JoinSet<()>,
}

impl Wire {
    /// A wire to the broker that a URL names, on which everything passes.
    pub async fn to(url: &str) -> Wire {
        let (credentials, rest) = url.split_once('@').expect("a URL with a user");
        let (broker, vhost) = rest.split_once('/').expect("a URL with a vhost");
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let url = format!("{credentials}@{}/{vhost}", listener.local_addr().unwrap());
        let (state, watching) = watch::channel(State { cuts: 0, up: true, asks: true, answers: true });
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, broker.to_owned(), watching));
        Wire { url, state, _connections: connections }
    }

    /// Ends every connection. New ones are taken at once.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Ends every connection, and those that are tried from now on, until [`Wire::mend`].
    pub fn take_down(&self) {
        self.state.send_modify(|state| (state.cuts, state.up) = (state.cuts + 1, false));
    }

    /// Keeps every connection, and takes new ones, but nothing passes, until [`Wire::mend`].
    pub fn hang(&self) {
        self.state.send_modify(|state| (state.asks, state.answers) = (false, false));
    }

    /// Keeps every connection, but nothing of what the broker says passes, until [`Wire::mend`].
    pub fn hold_answers(&self) {
        self.state.send_modify(|state| state.answers = false);
    }

    /// Lets everything pass again, beginning with what was held up.
    pub fn mend(&self) {
        self.state.send_modify(|state| (state.up, state.asks, state.answers) = (true, true, true));
    }
}

async fn accept(listener: TcpListener, broker: String, watching: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (host, _) = listener.accept().await.unwrap();
        while connections.try_join_next().is_some() {}
        if watching.borrow().up {
            connections.spawn(connect(host, broker.clone(), watching.clone()));
        }
    }
}

/// Carries a connection until one end closes it, or it is cut.
async fn connect(host: TcpStream, broker: String, watching: watch::Receiver<State>) {
    let cuts = watching.borrow().cuts;
    let Ok(broker) = TcpStream::connect(broker).await else { return };
    let ((host_says, to_host), (broker_says, to_broker)) = (host.into_split(), broker.into_split());
    let mut cut = watching.clone();
    tokio::select! {
        () = carry(host_says, to_broker, watching.clone(), |state| state.asks) => {}
        () = carry(broker_says, to_host, watching, |state| state.answers) => {}
        _ = cut.wait_for(|state| state.cuts != cuts) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut watching: watch::Receiver<State>,
    passes: fn(&State) -> bool,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if watching.wait_for(passes).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
