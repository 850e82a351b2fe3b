//! The broker behind a TCP port.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::broker::{Broker, ConnectionId, Stats};
use crate::decode::decode;
use crate::failure::Failure;
use crate::limits::Settings;

/// How much is read from a socket at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// How much is written to a socket at once, in bytes; a single message may be more.
const WRITE_BYTES: usize = 256 * 1024;
/// How long to wait after a connection could not be accepted, for example for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// An empty frame that says only that the broker is there.
const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0xCE];

/// Why a server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen: {0}")]
    Listen(#[source] io::Error),
}

/// A broker behind a TCP port. When this is dropped, its connections are cut; [`Server::stop`] closes them in order.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    timing: JoinHandle<()>,
}

impl Server {
    /// Listens on this address, with the vhost `/` and the user `guest`. Port 0 is a free one.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(address: impl ToSocketAddrs, limits: crate::Limits) -> Result<Server, ServerError> {
        Server::bind_with(address, Settings::from(limits)).await
    }

    /// Listens on this address, with these settings.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind_with(address: impl ToSocketAddrs, mut settings: Settings) -> Result<Server, ServerError> {
        let listener = TcpListener::bind(address).await.map_err(ServerError::Listen)?;
        let address = listener.local_addr().map_err(ServerError::Listen)?;
        if settings.began == Duration::ZERO {
            settings.began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        }
        let inner = Inner { broker: Broker::with(settings), sockets: BTreeMap::new() };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), began: Instant::now(), timer: Notify::new() });
        let (stop, stopping) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, shared.clone(), stopping));
        let timing = tokio::spawn(keep_time(shared.clone()));
        Ok(Server { shared, address, stop, accepting, timing })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What the broker has now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.lock().broker.stats()
    }

    /// How many messages wait in a queue; none where it does not exist.
    #[must_use]
    pub fn queue_length(&self, vhost: &str, queue: &str) -> Option<usize> {
        self.shared.lock().broker.queue_length(vhost, queue)
    }

    /// Closes all connections with 320, waits for their clients to answer, for as long as
    /// [`Limits::closing_max`](crate::Limits::closing_max), and ends.
    pub async fn stop(mut self) {
        self.shared.run(|inner| inner.broker.shut_down());
        let _ = self.stop.send(true);
        let grace = self.shared.lock().broker.limits().closing_max;
        // When the time is over, dropping the server cuts what is left.
        let _ = timeout(grace, &mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.timing.abort();
    }
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    began: Instant,
    /// Told when the next deadline may be nearer.
    timer: Notify,
}

#[derive(Debug)]
struct Inner {
    broker: Broker,
    sockets: BTreeMap<ConnectionId, Arc<Socket>>,
}

/// What the tasks of a connection tell each other.
#[derive(Debug, Default)]
struct Socket {
    /// Told when there is something to be written.
    output: Notify,
    /// Told when there may be room to read again.
    room: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in the broker would be a bug; the others go on with what there is.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the broker, and wakes whom it concerns.
    fn run<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let before = inner.broker.next_deadline();
        inner.broker.tick(self.began.elapsed());
        let result = act(&mut inner);
        for ready in inner.broker.take_ready() {
            if let Some(socket) = inner.sockets.get(&ready) {
                socket.output.notify_one();
            }
        }
        if inner.broker.next_deadline() != before {
            self.timer.notify_one();
        }
        result
    }
}

/// Lets the broker's time pass.
async fn keep_time(shared: Arc<Shared>) {
    loop {
        let deadline = shared.lock().broker.next_deadline();
        match deadline {
            Some(deadline) => {
                tokio::select! {
                    () = sleep_until(shared.began + deadline) => shared.run(|_| ()),
                    () = shared.timer.notified() => {}
                }
            }
            None => shared.timer.notified().await,
        }
    }
}

/// Accepts connections until it is to stop, and then waits for them to end.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(stream, peer, shared.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = stopping.changed() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection from its first byte to its last.
async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    // Without it, answers would wait for more to be sent along; where it cannot be had, they do.
    let _ = stream.set_nodelay(true);
    let Ok(id) = shared.lock().broker.connect(peer.ip().to_canonical().is_loopback()) else { return };
    let socket = Arc::new(Socket::default());
    shared.lock().sockets.insert(id, socket.clone());
    // Also when the task is aborted in the middle.
    let _guard = Guard { shared: shared.clone(), id };
    let (reading, writing) = stream.into_split();
    tokio::select! {
        () = read(reading, id, &shared, &socket) => {}
        () = write(writing, id, &shared, &socket) => {}
    }
}

/// Takes a connection from the broker when its task ends.
struct Guard {
    shared: Arc<Shared>,
    id: ConnectionId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.run(|inner| {
            inner.sockets.remove(&self.id);
            inner.broker.disconnect(self.id);
        });
    }
}

/// Reads until the client is gone or too slow. What ends the connection in order is written by [`write`], which ends
/// after it.
async fn read(mut stream: OwnedReadHalf, id: ConnectionId, shared: &Shared, socket: &Socket) {
    let limits = shared.lock().broker.limits().clone();
    let mut bytes = BytesMut::with_capacity(READ_BYTES);
    let opened_by = Instant::now() + limits.handshake_max;
    let mut closing_since = None;
    loop {
        let (reads, open, blocked, closing, heartbeat) = {
            let broker = &shared.lock().broker;
            (broker.reads(id), broker.is_open(id), broker.is_blocked(id), broker.is_closing(id), broker.heartbeat(id))
        };
        if !reads {
            // A client that is blocked may be silent for as long as it is.
            let patience = if blocked { None } else { heartbeat.map(|interval| interval * 2) };
            let room = socket.room.notified();
            match patience {
                Some(patience) => {
                    if timeout(patience, room).await.is_err() {
                        return;
                    }
                }
                None => room.await,
            }
            if !bytes.is_empty() {
                take_frames(&mut bytes, id, shared, limits.nesting_max);
            }
            continue;
        }
        let deadline = if closing {
            Some(*closing_since.get_or_insert_with(Instant::now) + limits.closing_max)
        } else if open {
            heartbeat.map(|interval| Instant::now() + interval * 2)
        } else {
            Some(opened_by)
        };
        bytes.reserve(READ_BYTES);
        let reading = stream.read_buf(&mut bytes);
        let read = match deadline {
            Some(deadline) => match tokio::time::timeout_at(deadline, reading).await {
                Ok(read) => read,
                Err(_) => return,
            },
            None => reading.await,
        };
        if !matches!(read, Ok(1..)) {
            return;
        }
        take_frames(&mut bytes, id, shared, limits.nesting_max);
    }
}

/// Gives the broker all whole frames, unless it has enough.
fn take_frames(bytes: &mut BytesMut, id: ConnectionId, shared: &Shared, nesting_max: usize) {
    shared.run(|inner| {
        let frame_max = inner.broker.limits().frame_bytes_max;
        while inner.broker.reads(id) {
            match decode(bytes, frame_max, nesting_max) {
                Ok(Some((frame, length))) => {
                    bytes.advance(length);
                    inner.broker.receive(id, frame);
                }
                Ok(None) => break,
                Err(failure) => {
                    nonsense(inner, id, &failure);
                    bytes.clear();
                    break;
                }
            }
        }
    });
}

fn nonsense(inner: &mut Inner, id: ConnectionId, failure: &Failure) {
    inner.broker.receive_nonsense(id, failure);
}

/// Writes what the broker has for a connection, and heartbeats where it has nothing. Returns when the connection is at
/// its end.
async fn write(mut stream: OwnedWriteHalf, id: ConnectionId, shared: &Shared, socket: &Socket) {
    let mut bytes = Vec::new();
    loop {
        // Room for one may be something to write for others, too.
        let (output, frame_max, heartbeat) = shared.run(|inner| {
            let output = inner.broker.take_output(id);
            (output, inner.broker.frame_max(id), inner.broker.heartbeat(id))
        });
        if output.items.is_empty() && !output.ends {
            socket.room.notify_one();
            let wait = socket.output.notified();
            match heartbeat {
                Some(interval) => {
                    if timeout(interval / 2, wait).await.is_err() && stream.write_all(&HEARTBEAT).await.is_err() {
                        return;
                    }
                }
                None => wait.await,
            }
            // What is on its way by now goes along in the same write.
            tokio::task::yield_now().await;
            continue;
        }
        for item in output.items {
            if item.encode(frame_max, &mut bytes).is_err() {
                return;
            }
            drop(item);
            if bytes.len() >= WRITE_BYTES {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
                bytes.clear();
            }
        }
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        bytes.clear();
        bytes.shrink_to(WRITE_BYTES);
        if output.ends {
            // The client has the rest then, and sees the end.
            let _ = stream.shutdown().await;
            return;
        }
    }
}
