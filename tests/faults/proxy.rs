//! Stands between host and broker, forwards frame by frame, shows each to the observer, and makes one fault when it is
//! armed for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::frames::{Direction, Frame, Kind, Splitter};
use super::observer::{ConnectionId, Observer};

/// How long a connection drips once it has begun to.
const DRIP: Duration = Duration::from_millis(300);
/// The pause between two bytes of it.
const DRIP_PAUSE: Duration = Duration::from_millis(1);
/// How long one direction is held.
const DELAY: Duration = Duration::from_millis(400);

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Both ends see its end.
    Cut,
    /// Both ends see it reset.
    Reset,
    /// Nothing comes through any more, and it stays open.
    HalfOpen,
    /// One direction stands still for a moment.
    Delay,
    /// One direction moves byte by byte for a moment.
    Drip,
}

impl Action {
    /// Whether the connection is gone after it.
    pub fn ends(self) -> bool {
        matches!(self, Action::Cut | Action::Reset | Action::HalfOpen)
    }
}

/// At which byte of a frame it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Nothing of the frame is forwarded before.
    First,
    /// Half of it is.
    Middle,
    /// All of it is.
    Last,
}

/// A fault, and the frame at which it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armed {
    /// What happens.
    pub action: Action,
    /// In which direction the frame goes.
    pub direction: Direction,
    /// What frame it is.
    pub kind: Kind,
    /// At which byte of it.
    pub at: At,
    /// How many such frames come, over all connections, up to that one; from 1.
    pub nth: u32,
}

/// What every task of the proxy shares.
struct Shared {
    broker: u16,
    observer: Mutex<Observer>,
    armed: Mutex<Option<Armed>>,
    fired: watch::Sender<Option<Instant>>,
    connections: AtomicU64,
    /// Counts up each time that all connections are to end.
    generation: watch::Sender<u64>,
}

/// A proxy that listens; it ends when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    accepting: AbortHandle,
}

impl Proxy {
    /// Listens on a port of its own, and connects everybody to the broker's.
    pub async fn start(broker: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            broker,
            observer: Mutex::default(),
            armed: Mutex::default(),
            fired: watch::Sender::new(None),
            connections: AtomicU64::new(0),
            generation: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Proxy { shared, port, accepting }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was seen. Not to be held across an `await`.
    pub fn observer(&self) -> MutexGuard<'_, Observer> {
        locked(&self.shared.observer)
    }

    /// Makes a fault at the frame that it names, once.
    pub fn arm(&self, armed: Armed) {
        self.shared.fired.send_replace(None);
        *locked(&self.shared.armed) = Some(armed);
    }

    /// Makes no fault any more, and says when it was made, if it was.
    pub fn disarm(&self) -> Option<Instant> {
        *locked(&self.shared.armed) = None;
        *self.shared.fired.borrow()
    }

    /// When the fault was made that was armed last.
    pub fn fired(&self) -> Option<Instant> {
        *self.shared.fired.borrow()
    }

    /// Ends every connection, also those that stand still.
    pub fn cut_all(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((host, _)) = accepted else { continue };
                connections.spawn(connect(host, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// How a connection of the proxy ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// An end has closed it, or it is cut.
    Closed,
    Reset,
    /// It stays until [`Proxy::cut_all`].
    Stalled,
}

async fn connect(host: TcpStream, shared: Arc<Shared>) {
    let mut generation = shared.generation.subscribe();
    let all_cut = async move {
        let _ = generation.changed().await;
    };
    // While the broker is down a host finds nobody here either.
    let Ok(broker) = TcpStream::connect(("127.0.0.1", shared.broker)).await else { return };
    let id = shared.connections.fetch_add(1, Ordering::Relaxed);
    let (host_reads, host_writes) = quick(host);
    let (broker_reads, broker_writes) = quick(broker);
    let side = |direction, reads, writes| Side {
        id,
        direction,
        shared: Arc::clone(&shared),
        reads,
        writes,
        splitter: Splitter::default(),
        waiting: Vec::new(),
        dripping: None,
    };
    let mut up = side(Direction::Up, host_reads, broker_writes);
    let mut down = side(Direction::Down, broker_reads, host_writes);
    tokio::pin!(all_cut);
    let end = tokio::select! {
        end = up.run() => end,
        end = down.run() => end,
        () = &mut all_cut => End::Closed,
    };
    locked(&shared.observer).closed(id);
    match end {
        End::Closed => {}
        End::Reset => {
            for half in [&up.writes, &down.writes] {
                let _ = half.as_ref().set_zero_linger();
            }
        }
        End::Stalled => all_cut.await,
    }
}

fn quick(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let _ = stream.set_nodelay(true);
    stream.into_split()
}

/// One direction of a connection.
struct Side {
    id: ConnectionId,
    direction: Direction,
    shared: Arc<Shared>,
    reads: OwnedReadHalf,
    writes: OwnedWriteHalf,
    splitter: Splitter,
    /// Shown to the observer, and not yet written.
    waiting: Vec<u8>,
    dripping: Option<Instant>,
}

impl Side {
    async fn run(&mut self) -> End {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match self.reads.read(&mut buffer).await {
                Ok(0) | Err(_) => return End::Closed,
                Ok(count) => count,
            };
            self.splitter.feed(buffer.get(..count).unwrap_or_default());
            loop {
                match self.splitter.next() {
                    Ok(Some(frame)) => match self.forward(frame).await {
                        Ok(None) => {}
                        Ok(Some(end)) => return end,
                        Err(_) => return End::Closed,
                    },
                    Ok(None) => break,
                    Err(error) => panic!("{:?} on connection {}: {error}", self.direction, self.id),
                }
            }
            if self.flush().await.is_err() {
                return End::Closed;
            }
        }
    }

    /// Takes one frame on, and makes the fault if it is due.
    async fn forward(&mut self, frame: Frame) -> std::io::Result<Option<End>> {
        let Some(armed) = self.due(frame.kind) else {
            locked(&self.shared.observer).frame(self.id, self.direction, &frame);
            self.waiting.extend(frame.bytes);
            return Ok(None);
        };
        self.flush().await?;
        let before = match armed.at {
            At::First => 0,
            At::Middle => frame.bytes.len() / 2,
            At::Last => frame.bytes.len(),
        };
        if armed.at == At::Last || !armed.action.ends() {
            locked(&self.shared.observer).frame(self.id, self.direction, &frame);
        }
        let (first, rest) = frame.bytes.split_at(before);
        self.writes.write_all(first).await?;
        self.shared.fired.send_replace(Some(Instant::now()));
        match armed.action {
            Action::Cut => return Ok(Some(End::Closed)),
            Action::Reset => return Ok(Some(End::Reset)),
            Action::HalfOpen => return Ok(Some(End::Stalled)),
            Action::Delay => tokio::time::sleep(DELAY).await,
            Action::Drip => self.dripping = Some(Instant::now() + DRIP),
        }
        self.waiting.extend_from_slice(rest);
        Ok(None)
    }

    /// The fault that is armed, if this is its frame.
    fn due(&self, kind: Kind) -> Option<Armed> {
        let mut place = locked(&self.shared.armed);
        let armed = place.as_mut().filter(|armed| armed.kind == kind && armed.direction == self.direction)?;
        armed.nth = armed.nth.saturating_sub(1);
        if armed.nth == 0 { place.take() } else { None }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut written = 0;
        while let (Some(until), Some(byte)) = (self.dripping, waiting.get(written..written + 1)) {
            if Instant::now() > until {
                self.dripping = None;
                break;
            }
            self.writes.write_all(byte).await?;
            written += 1;
            tokio::time::sleep(DRIP_PAUSE).await;
        }
        self.writes.write_all(waiting.get(written..).unwrap_or_default()).await
    }
}
