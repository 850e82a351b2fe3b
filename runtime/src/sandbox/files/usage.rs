//! How much a folder holds, counted while handlers write to it.
//!
//! Everything that a handler does to grow the folder goes through here, one after the other, so that the count is exact:
//! the lengths of all files, and [`ENTRY_BYTES`] for each file, folder and link. What others do is seen when the folder is
//! measured again, which happens when the count says that it is full.

use std::{
    collections::HashSet,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AtFlags, OFlag},
    sys::stat::{Mode, fstatat},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// What a file, folder or link counts beside its length, in bytes.
pub(super) const ENTRY_BYTES: u64 = 1024;
/// Entries of a folder that is written to: with more of them it counts as full.
const ENTRIES_MAX: usize = 1_000_000;
/// How long a measurement is believed, where nothing was removed since.
const BELIEVED: Duration = Duration::from_secs(1);
/// The pause between two measurements, where something was.
const MEASURE_PAUSE: Duration = Duration::from_millis(100);

/// A folder that handlers write to, shared by all that have it.
pub struct Usage {
    folder: File,
    state: Arc<Mutex<State>>,
}

pub(super) struct State {
    bytes: u64,
    measured: Option<Instant>,
    /// Whether something was removed that the count does not know of.
    less: bool,
    /// Files that are open: one that was deleted takes room until it is closed.
    open: Vec<Weak<File>>,
}

/// The folder, held while something is done to it.
pub(super) type Held = OwnedMutexGuard<State>;

impl Usage {
    /// Measures a folder that is open.
    ///
    /// Errors: it cannot be read.
    pub fn new(folder: File) -> io::Result<Self> {
        let mut state = State { bytes: 0, measured: None, less: false, open: Vec::new() };
        state.measure(&folder)?;
        Ok(Self { folder, state: Arc::new(Mutex::new(state)) })
    }

    pub(super) async fn hold(&self) -> Held {
        Arc::clone(&self.state).lock_owned().await
    }

    /// Takes room for so many bytes more, from within a thread that may wait.
    fn take(&self, state: &mut State, more: u64, max: u64) -> io::Result<()> {
        let fits = |state: &State| state.bytes.saturating_add(more) <= max;
        if !fits(state) {
            let age = state.measured.map_or(Duration::MAX, |measured| measured.elapsed());
            if state.less {
                std::thread::sleep(MEASURE_PAUSE.saturating_sub(age));
            }
            if state.less || age >= BELIEVED {
                state.measure(&self.folder)?;
            }
        }
        if !fits(state) {
            return Err(Errno::ENOSPC.into());
        }
        state.bytes = state.bytes.saturating_add(more);
        Ok(())
    }

    /// Takes room for one more entry.
    pub(super) async fn take_entry(self: &Arc<Self>, max: u64) -> io::Result<Held> {
        let usage = Arc::clone(self);
        // It may have to be measured.
        self.blocking(move |mut held| usage.take(&mut held, ENTRY_BYTES, max).map(|()| held)).await
    }

    /// Writes at this offset or, without one, at the end.
    pub(super) async fn write(
        self: &Arc<Self>,
        max: u64,
        file: Arc<File>,
        bytes: impl AsRef<[u8]> + Send + 'static,
        offset: Option<u64>,
    ) -> io::Result<()> {
        let usage = Arc::clone(self);
        self.blocking(move |mut held| usage.write_held(&mut held, max, &file, bytes.as_ref(), offset)).await
    }

    /// Gives a file this length.
    pub(super) async fn set_length(self: &Arc<Self>, max: u64, file: Arc<File>, length: u64) -> io::Result<()> {
        let usage = Arc::clone(self);
        self.blocking(move |mut held| usage.set_length_held(&mut held, max, &file, length)).await
    }

    /// Does what may wait for the disk, in its turn. The turn is waited for out here: threads that wait for one another
    /// could take up all of them.
    async fn blocking<R: Send + 'static>(
        &self,
        body: impl FnOnce(Held) -> io::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        let held = self.hold().await;
        tokio::task::spawn_blocking(move || body(held)).await.map_err(io::Error::other)?
    }

    fn write_held(
        &self,
        state: &mut State,
        max: u64,
        file: &File,
        bytes: &[u8],
        offset: Option<u64>,
    ) -> io::Result<()> {
        let length = file.metadata()?.len();
        let offset = offset.unwrap_or(length);
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        let more = end.saturating_sub(length);
        self.take(state, more, max)?;
        let written = file.write_all_at(bytes, offset);
        if written.is_err() {
            let grown = file.metadata().map_or(more, |metadata| metadata.len().saturating_sub(length));
            state.give_back(more.saturating_sub(grown));
        }
        written
    }

    fn set_length_held(&self, state: &mut State, max: u64, file: &File, length: u64) -> io::Result<()> {
        let before = file.metadata()?.len();
        let more = length.saturating_sub(before);
        self.take(state, more, max)?;
        match file.set_len(length) {
            Ok(()) => state.give_back(before.saturating_sub(length)),
            Err(error) => {
                state.give_back(more);
                return Err(error);
            }
        }
        Ok(())
    }
}

impl State {
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Something was removed: what is counted may be too much.
    pub(super) fn removed(&mut self) {
        self.less = true;
    }

    /// A file was opened.
    pub(super) fn opened(&mut self, file: &Arc<File>) {
        if self.open.len() == self.open.capacity() {
            self.open.retain(|file| file.strong_count() > 0);
        }
        self.open.push(Arc::downgrade(file));
    }

    fn measure(&mut self, folder: &File) -> io::Result<()> {
        self.open.retain(|file| file.strong_count() > 0);
        let deleted = self.open.iter().filter_map(Weak::upgrade).filter_map(|file| file.metadata().ok());
        let mut seen = HashSet::new();
        let deleted = deleted.filter(|file| file.nlink() == 0 && seen.insert((file.dev(), file.ino())));
        let deleted: u64 = deleted.map(|file| file.len()).sum();
        self.bytes = measure(folder)?.saturating_add(deleted);
        self.measured = Some(Instant::now());
        self.less = false;
        Ok(())
    }
}

/// What a folder holds. No link is followed, nor does it matter where the folder has been moved meanwhile.
fn measure(folder: &File) -> io::Result<u64> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut folders: Vec<OwnedFd> = vec![nix::fcntl::openat(folder, ".", flags, Mode::empty())?];
    let (mut bytes, mut entries, mut linked) = (0_u64, 0_usize, HashSet::new());
    while let Some(folder) = folders.pop() {
        let at = folder.try_clone()?;
        for entry in Dir::from_fd(folder)?.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            entries += 1;
            if entries > ENTRIES_MAX {
                return Ok(u64::MAX);
            }
            bytes = bytes.saturating_add(ENTRY_BYTES);
            let stat = match fstatat(at.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Somebody else took it away.
                Err(Errno::ENOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            match entry.file_type() {
                Some(Type::Directory) => match nix::fcntl::openat(&at, name, flags, Mode::empty()) {
                    Ok(inner) => folders.push(inner),
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                    Err(error) => return Err(error.into()),
                },
                // A file with several names is counted once.
                Some(Type::File) if stat.st_nlink > 1 && !linked.insert((stat.st_dev, stat.st_ino)) => {}
                _ => bytes = bytes.saturating_add(u64::try_from(stat.st_size).unwrap_or_default()),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn usage(folder: &std::path::Path) -> Arc<Usage> {
        Arc::new(Usage::new(File::open(folder).unwrap()).unwrap())
    }

    fn bytes(usage: &Usage) -> u64 {
        usage.state.try_lock().unwrap().bytes
    }

    #[test]
    fn a_folder_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(bytes(&usage(folder.path())), 0);
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), [0; 1000]).unwrap();
        fs::create_dir_all(path("b/c")).unwrap();
        fs::write(path("b/c/d"), [0; 500]).unwrap();
        assert_eq!(bytes(&usage(folder.path())), 4 * ENTRY_BYTES + 1500);
        // A second name takes an entry, a link no more than itself: what it leads to is not looked at.
        fs::hard_link(path("a"), path("a2")).unwrap();
        std::os::unix::fs::symlink("/usr", path("link")).unwrap();
        assert_eq!(bytes(&usage(folder.path())), 6 * ENTRY_BYTES + 1504);
    }

    #[tokio::test]
    async fn what_is_written_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (usage, max) = (usage(folder.path()), 10_000);
        let file = Arc::new(File::create(folder.path().join("a")).unwrap());
        let write = async |length, offset| usage.write(max, Arc::clone(&file), vec![1; length], offset).await;
        let set_length = async |length| usage.set_length(max, Arc::clone(&file), length).await;
        let full = |result: io::Result<()>| assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::ENOSPC as i32));
        write(4000, None).await.unwrap();
        write(1000, None).await.unwrap();
        // What is overwritten takes nothing more, a gap counts as if it were written.
        write(2000, Some(4000)).await.unwrap();
        assert_eq!((bytes(&usage), file.metadata().unwrap().len()), (6000, 6000));
        full(write(1, Some(1 << 40)).await);
        full(write(5000, None).await);
        full(set_length(20_000).await);
        assert!(write(2, Some(u64::MAX)).await.is_err());
        assert_eq!(file.metadata().unwrap().len(), 6000);
        set_length(9000).await.unwrap();
        set_length(100).await.unwrap();
        assert_eq!(bytes(&usage), 100);
    }

    #[tokio::test]
    async fn what_is_deleted_makes_room_when_nobody_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let (usage, max) = (usage(folder.path()), 10_000);
        let path = |name: &str| folder.path().join(name);
        let old = Arc::new(File::create(path("old")).unwrap());
        usage.state.try_lock().unwrap().opened(&old);
        usage.write(max, Arc::clone(&old), vec![1; 8000], None).await.unwrap();
        fs::remove_file(path("old")).unwrap();
        usage.state.try_lock().unwrap().removed();
        let new = Arc::new(File::create(path("new")).unwrap());
        assert!(usage.write(max, Arc::clone(&new), vec![1; 8000], None).await.is_err());
        drop(old);
        usage.state.try_lock().unwrap().removed();
        usage.write(max, Arc::clone(&new), vec![1; 8000], None).await.unwrap();
        assert_eq!(bytes(&usage), ENTRY_BYTES + 8000);
    }
}
