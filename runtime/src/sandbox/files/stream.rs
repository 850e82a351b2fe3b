//! What a handler writes to a file, as a stream.

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use wasmtime_wasi::{
    async_trait,
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use super::usage::Usage;

/// How much is written in one go, in bytes.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Writes of one call that are on their way at once, each through a stream of its own: what they hold is in memory.
const WRITES_MAX: usize = 64;

/// Places for the writes of one call.
#[derive(Clone)]
pub(super) struct Writes(Arc<Semaphore>);

impl Default for Writes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WRITES_MAX)))
    }
}

impl Writes {
    fn begin(&self) -> StreamResult<OwnedSemaphorePermit> {
        let full = |_| io::Error::other(format!("more writes at once than the limit of {WRITES_MAX}"));
        Arc::clone(&self.0)
            .try_acquire_owned()
            .map_err(full)
            .map_err(|error| StreamError::LastOperationFailed(error.into()))
    }
}

/// Writes to a file whose folder has a limit.
pub(super) struct FileStream {
    pub(super) file: Arc<File>,
    pub(super) usage: Arc<Usage>,
    pub(super) max: u64,
    pub(super) writes: Writes,
    /// Where the next bytes go; at the end without one.
    pub(super) offset: Option<u64>,
    pub(super) state: State,
}

#[derive(Default)]
pub(super) enum State {
    #[default]
    Ready,
    /// So many bytes are being written.
    Writing(JoinHandle<io::Result<()>>, u64),
    Failed(io::Error),
    Closed,
}

impl FileStream {
    /// Waits for what is being written.
    async fn settle(&mut self) {
        let State::Writing(writing, length) = &mut self.state else { return };
        self.state = match writing.await.map_err(io::Error::other) {
            Ok(Ok(())) => {
                self.offset = self.offset.map(|offset| offset.saturating_add(*length));
                State::Ready
            }
            Ok(Err(error)) | Err(error) => State::Failed(error),
        };
    }

    /// The error, once; then the stream is closed.
    fn error(&mut self) -> StreamError {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Failed(error) => StreamError::LastOperationFailed(error.into()),
            _ => StreamError::Closed,
        }
    }
}

#[async_trait]
impl OutputStream for FileStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.state {
            State::Ready => {}
            State::Writing(..) => return Err(StreamError::trap("written before the stream was ready")),
            State::Failed(_) | State::Closed => return Err(self.error()),
        }
        let place = self.writes.begin()?;
        let (file, usage, max, offset) = (Arc::clone(&self.file), Arc::clone(&self.usage), self.max, self.offset);
        let length = bytes.len() as u64;
        let writing = tokio::spawn(async move {
            let written = usage.write(max, file, bytes, offset).await;
            drop(place);
            written
        });
        self.state = State::Writing(writing, length);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        match self.state {
            State::Ready | State::Writing(..) => Ok(()),
            State::Failed(_) | State::Closed => Err(self.error()),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.state {
            State::Ready => Ok(WRITE_BYTES_MAX),
            State::Writing(..) => Ok(0),
            State::Failed(_) | State::Closed => Err(self.error()),
        }
    }

    /// The handler is done with the stream: what it wrote is written.
    async fn cancel(&mut self) {
        self.settle().await;
    }
}

/// The call was cut off: what has not begun to be written is let go.
impl Drop for FileStream {
    fn drop(&mut self) {
        if let State::Writing(writing, _) = &self.state {
            writing.abort();
        }
    }
}

#[async_trait]
impl Pollable for FileStream {
    async fn ready(&mut self) {
        self.settle().await;
    }
}
