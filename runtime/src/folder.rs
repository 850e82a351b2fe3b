//! Opening files that others put there: plugins and manifests.
//!
//! A file is opened once and only if it is a regular one, so that no pipe is waited for and no device is touched; whoever
//! reads it looks at the size first. A name in a folder leads to a file within that folder, whatever links are on the
//! way: the folder itself may be a link, and links from one place in it to another work, as Kubernetes makes them.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    sys::stat::{Mode, SFlag, fstat},
};

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The system says so.
    #[error("{}", .0.kind())]
    Io(#[from] io::Error),
    /// A folder, a pipe, a device.
    #[error("not a regular file")]
    NotRegular,
    /// A link that ends elsewhere.
    #[error("a link that leads out of its folder; hint: put the file itself there")]
    Outside,
    /// More bytes than the limit.
    #[error("{0} bytes, which is more than the limit")]
    TooLarge(u64),
}

/// What a file or folder looks like from outside: another one, or another content, has another stamp, but for what is
/// written within the same tick of the file system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of what is there. Links are followed.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether it is of the same file or folder, whatever is in there.
    pub fn is_of_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// When anything about it was changed last.
    pub fn changed(&self) -> SystemTime {
        let (seconds, nanos) = self.changed;
        let since = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        SystemTime::UNIX_EPOCH + since
    }
}

/// Reads a file of at most so many bytes, wherever it is. Links are followed.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unread> {
    take(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(io::Error::from)?, bytes_max)
}

/// Reads the file of this name in a folder, of at most so many bytes.
pub fn read_in(folder: &Path, name: &Path, bytes_max: u64) -> Result<Vec<u8>, Unread> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let folder = open(folder, flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(io::Error::from)?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let opened = openat2(&folder, name, OpenHow::new().flags(flags).resolve(resolve));
    let file = match opened {
        // Before Linux 5.6, or forbidden in a container: no links then.
        Err(Errno::ENOSYS | Errno::EPERM) => openat(&folder, name, flags | OFlag::O_NOFOLLOW, Mode::empty()),
        opened => opened,
    };
    match file {
        Ok(file) => take(file, bytes_max),
        Err(Errno::EXDEV) => Err(Unread::Outside),
        Err(error) => Err(Unread::Io(error.into())),
    }
}

/// Reads what a descriptor stands for that has not touched the file itself yet.
fn take(found: OwnedFd, bytes_max: u64) -> Result<Vec<u8>, Unread> {
    let metadata = fstat(&found).map_err(io::Error::from)?;
    let kind = SFlag::from_bits_truncate(metadata.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFLNK {
        return Err(Unread::Outside);
    }
    if kind != SFlag::S_IFREG {
        return Err(Unread::NotRegular);
    }
    let size = u64::try_from(metadata.st_size).unwrap_or(u64::MAX);
    if size > bytes_max {
        return Err(Unread::TooLarge(size));
    }
    // Leads to the very file that was looked at, whatever has its name now.
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    // It may have grown since.
    if bytes.len() as u64 > bytes_max { Err(Unread::TooLarge(bytes.len() as u64)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::unistd::mkfifo;

    use super::*;

    const MAX: u64 = 100;

    #[track_caller]
    fn check(folder: &Path, name: &str, expected: &str) {
        let found = read_in(folder, Path::new(name), MAX);
        let found = found.map_or_else(|error| error.to_string(), |bytes| String::from_utf8(bytes).unwrap());
        assert!(found.starts_with(expected), "{name}: {found}");
    }

    #[test]
    fn a_name_leads_to_a_regular_file_of_its_folder_or_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        fs::create_dir_all(folder.join("..2026/deep")).unwrap();
        fs::write(root.path().join("secret"), "secret").unwrap();
        fs::write(folder.join("file"), "file").unwrap();
        fs::write(folder.join("..2026/mounted"), "mounted").unwrap();
        fs::write(folder.join("large"), [b'x'; MAX as usize + 1]).unwrap();
        fs::write(folder.join("just"), [b'x'; MAX as usize]).unwrap();
        mkfifo(&folder.join("pipe"), Mode::S_IRWXU).unwrap();
        let links = [
            ("inside", "file"),
            ("..data", "..2026"),
            ("mounted", "..data/mounted"),
            ("up", "../secret"),
            ("absolute", "/etc/passwd"),
            ("device", "/dev/zero"),
            ("magic", "/proc/self/exe"),
            ("outside", ".."),
            ("through", "outside/secret"),
            ("back", "../folder/file"),
            ("loop", "loop"),
            ("nowhere", "none"),
        ];
        for (name, to) in links {
            symlink(to, folder.join(name)).unwrap();
        }
        for (name, expected) in [
            ("file", "file"),
            ("just", "xxx"),
            ("inside", "file"),
            ("mounted", "mounted"),
            ("up", "a link that leads out of its folder"),
            ("absolute", "a link that leads out of its folder"),
            ("device", "a link that leads out of its folder"),
            ("magic", "a link that leads out of its folder"),
            ("through", "a link that leads out of its folder"),
            ("back", "a link that leads out of its folder"),
            ("../secret", "a link that leads out of its folder"),
            ("/etc/passwd", "a link that leads out of its folder"),
            ("..2026", "not a regular file"),
            ("pipe", "not a regular file"),
            ("large", "101 bytes, which is more than the limit"),
            ("none", "entity not found"),
            ("nowhere", "entity not found"),
            ("loop", "filesystem loop or indirection limit"),
        ] {
            check(&folder, name, expected);
        }
        // The folder itself may be a link.
        symlink(&folder, root.path().join("link")).unwrap();
        check(&root.path().join("link"), "file", "file");
    }

    #[test]
    fn a_path_is_followed_and_no_pipe_or_device_is_read() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "file").unwrap();
        symlink("file", root.path().join("link")).unwrap();
        mkfifo(&root.path().join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(read(&root.path().join("link"), MAX).unwrap(), b"file");
        for path in [root.path().join("pipe"), "/dev/zero".into(), root.path().to_owned()] {
            assert!(matches!(read(&path, MAX), Err(Unread::NotRegular)), "{}", path.display());
        }
    }
}
