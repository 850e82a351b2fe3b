//! What a handler writes to a file, as a stream.

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;
use tokio::task::JoinHandle;
use wasmtime_wasi::{
    async_trait,
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};

use super::usage::Usage;

/// How much is written in one go, in bytes.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Writes to a file whose folder has a limit.
pub(super) struct FileStream {
    pub(super) file: Arc<File>,
    pub(super) usage: Arc<Usage>,
    pub(super) max: u64,
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

impl OutputStream for FileStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.state {
            State::Ready => {}
            State::Writing(..) => return Err(StreamError::trap("written before the stream was ready")),
            State::Failed(_) | State::Closed => return Err(self.error()),
        }
        let (file, usage, max, offset) = (Arc::clone(&self.file), Arc::clone(&self.usage), self.max, self.offset);
        let length = bytes.len() as u64;
        let writing = tokio::task::spawn_blocking(move || usage.write(max, &file, &bytes, offset));
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
}

#[async_trait]
impl Pollable for FileStream {
    async fn ready(&mut self) {
        self.settle().await;
    }
}
