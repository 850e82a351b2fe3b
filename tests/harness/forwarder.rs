//! A small TCP forwarder between the host and a broker, for what can happen to a connection on its way.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::places;

/// What a forwarder does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Sockets stay open, and nothing comes through.
    Stall,
}

/// A port on 127.0.0.1 that leads to another one.
pub struct Forwarder {
    port: u16,
    to: u16,
    mode: watch::Sender<Mode>,
    /// Accepts, and owns all connections; gone while nobody listens.
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Forwarder {
    /// Forwards to a port on 127.0.0.1.
    pub async fn to(port: u16) -> Forwarder {
        let mut forwarder = Forwarder::closed(port);
        forwarder.open().await;
        forwarder
    }

    /// One that nobody listens on yet.
    pub fn closed(to: u16) -> Forwarder {
        Forwarder { port: places::ports(), to, mode: watch::Sender::new(Mode::Forward), task: None }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same URL, with this forwarder in between.
    pub fn url(&self, url: &str) -> String {
        let (before, after) = (format!("127.0.0.1:{}", self.to), format!("127.0.0.1:{}", self.port));
        assert!(url.contains(&before), "{url} does not lead to {before}");
        url.replace(&before, &after)
    }

    /// Listens.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
        let (to, mode) = (self.to, self.mode.subscribe());
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(carry(near, to, mode.clone()));
                while connections.try_join_next().is_some() {}
            }
        }));
    }

    /// Ends all connections, and refuses new ones.
    pub async fn close(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// From now on nothing comes through, neither on the connections that are there nor on new ones. All stay open.
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    /// New connections are forwarded again; those that were stalled stay so for ever.
    pub fn go_on(&self) {
        self.mode.send_replace(Mode::Forward);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn stalling(mode: &mut watch::Receiver<Mode>) {
    let _ = mode.wait_for(|mode| *mode == Mode::Stall).await;
}

async fn carry(mut near: TcpStream, to: u16, mut mode: watch::Receiver<Mode>) {
    let stalled = *mode.borrow_and_update() == Mode::Stall;
    let far = if stalled { None } else { TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.ok() };
    match far {
        Some(mut far) => tokio::select! {
            biased;
            () = stalling(&mut mode) => {
                // Both stay open until the forwarder is closed.
                std::future::pending::<()>().await;
                drop((near, far));
            }
            _ = copy_bidirectional(&mut near, &mut far) => {}
        },
        None if stalled => {
            std::future::pending::<()>().await;
            drop(near);
        }
        None => {}
    }
}
