//! What is tried against the host, and what is to become of it. Tests, the campaign and the table of docs/security.md are
//! all made from here.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{acts, files, manifests, plugins};

/// One thing that is tried. Cases of one name are one row of the table.
#[derive(Debug, Clone)]
pub struct Case {
    /// The row of the table that it counts for, in kebab case.
    pub name: &'static str,
    /// What it does, for people.
    pub what: &'static str,
    /// How it is done.
    pub attack: Attack,
    /// What is to become of it.
    pub verdict: Verdict,
}

/// How something is done.
#[derive(Debug, Clone)]
pub enum Attack {
    /// A message to the handler `tests/guests/hostile`; see [`acts::body`].
    Act(&'static str),
    /// A message to a WASI command, `tests/guests/command`.
    Command(&'static str),
    /// Any message to a plugin of its own, which is loaded.
    Plugin(Vec<u8>),
    /// A file in the plugins folder, with a good manifest that names it.
    File(Entry),
    /// A file in the manifests folder.
    Manifest(Entry),
}

/// What lies in a folder.
#[derive(Debug, Clone)]
pub enum Entry {
    Bytes(Vec<u8>),
    /// A link to this path.
    Link(String),
    /// A named pipe that nobody writes to.
    Pipe,
    Folder,
    /// So many bytes of nothing.
    Hole(u64),
}

impl Entry {
    /// Puts it there.
    pub fn put(&self, path: &Path) {
        match self {
            Self::Bytes(bytes) => fs::write(path, bytes).unwrap(),
            Self::Link(target) => symlink(target, path).unwrap(),
            Self::Pipe => mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap(),
            Self::Folder => fs::create_dir(path).unwrap(),
            Self::Hole(bytes) => File::create(path).unwrap().set_len(*bytes).unwrap(),
        }
    }
}

/// What is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The delivery is acked: what was tried came to nothing.
    Harmless,
    /// The delivery is dead-lettered after its attempts, as a failure of this kind that says so.
    Fails(&'static str, &'static str),
    /// The worker is left out, and this is said.
    Refused(&'static str),
    /// The worker is not even thought of: its file is passed over.
    PassedOver,
}

impl Verdict {
    /// For the table.
    pub fn shown(&self) -> String {
        match self {
            Self::Harmless => "comes to nothing".into(),
            Self::Fails(kind, _) => format!("`{kind}`"),
            Self::Refused(_) => "left out".into(),
            Self::PassedOver => "passed over".into(),
        }
    }
}

/// All cases, in the order of the table.
pub fn all() -> Vec<Case> {
    [acts::cases(), plugins::cases(), files::cases(), manifests::cases()].concat()
}

impl Case {
    /// Whether it leads to a publication that is granted.
    pub fn publishes(&self) -> bool {
        matches!(self.attack, Attack::Act(body) if body.starts_with("publish-forged"))
    }

    /// Whether it is tried by a delivery, and is not about the file itself.
    pub fn is_delivery(&self) -> bool {
        matches!(self.verdict, Verdict::Harmless | Verdict::Fails(..))
    }

    /// Whether each delivery takes as long as it may.
    pub fn is_slow(&self) -> bool {
        matches!(self.verdict, Verdict::Fails("time-limit", _))
    }
}

/// A case of the corpus.
pub fn case(name: &'static str, what: &'static str, attack: Attack, verdict: Verdict) -> Case {
    Case { name, what, attack, verdict }
}
