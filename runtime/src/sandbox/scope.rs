//! What all calls of one worker share: limits, grants, the log. Made with a worker's version, never changed.

use std::{sync::Arc, time::Duration};

use super::{Config, Determined, Folder, HttpGrants, KeyValue, LogSink, Redactor};

/// The scope of one worker's calls.
pub struct Scope {
    /// What one call may use.
    pub limits: CallLimits,
    /// What a call may reach outside of the sandbox.
    pub grants: Grants,
    /// Where the handler's output goes.
    pub log: Arc<LogSink>,
    /// What calls see of the world, where all of it is given. None in a host that serves a broker.
    pub determined: Option<Arc<Determined>>,
}

/// What one call may use.
#[derive(Debug, Clone)]
pub struct CallLimits {
    /// Wall-clock time from instantiation to the returned outcome, host calls included.
    pub time: Duration,
    /// Bytes of linear memory, summed over all memories of the instance.
    pub memory: usize,
    /// Bytes of the returned outcome.
    pub output: usize,
    /// Publications in one outcome.
    pub publications: usize,
    /// Headers of one publication.
    pub headers: usize,
    /// HTTP requests.
    pub requests: usize,
    /// Calls of the host.
    pub host_calls: usize,
    /// Handles that are open at once.
    pub handles: usize,
    /// Elements of tables, summed over all tables of the instance.
    pub tables: usize,
    /// Bytes of randomness.
    pub random: usize,
}

/// What a manifest's `[grant]` opens to a handler, publishing aside: that is checked when the handler has answered.
#[derive(Default)]
pub struct Grants {
    /// What it reads by name.
    pub config: Config,
    /// What it keeps from one delivery to the next.
    pub keyvalue: Option<KeyValue>,
    /// The folders that it sees.
    pub files: Vec<Folder>,
    /// The variables of a command, its secrets among them.
    pub env: Vec<(String, String)>,
    /// The arguments of a command; its name is the first.
    pub args: Vec<String>,
    /// Takes its secrets out of what a person reads.
    pub redactor: Arc<Redactor>,
    /// Where HTTP requests may go. Default nowhere.
    pub http: Option<Arc<HttpGrants>>,
}
