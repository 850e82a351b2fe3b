//! What one call owns: its WASI context, its limits and its log. Made for a delivery, gone with it.

use std::{sync::Arc, time::Instant};

use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx, thread_rng};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::{
    bounds::Bounds,
    command::Stdio,
    determined::Clock,
    files::{Files, Opened},
    http::Http,
    keyvalue::Buckets,
    log::GuestLog,
    scope::Scope,
    turns::Turn,
};
use crate::clock;

/// The state of one store.
pub(super) struct Host {
    /// Made when it is asked for first: most handlers that only compute never do.
    wasi: Option<Box<Wasi>>,
    /// What a command reads and writes, until its WASI is made.
    stdio: Option<Stdio>,
    /// What the call has of HTTP, likewise.
    http: Option<Box<Http>>,
    pub(super) bounds: Bounds,
    pub(super) scope: Arc<Scope>,
    pub(super) deadline: Instant,
    pub(super) buckets: Buckets,
    /// Where it has computed for so long that it takes turns.
    pub(super) turn: Option<Turn>,
}

struct Wasi {
    view: View,
    log: GuestLog,
    opened: Opened,
}

/// What a component's imports work on, or a core module's.
enum View {
    Component(WasiCtx, ResourceTable),
    Core(WasiP1Ctx),
}

impl Host {
    /// For a handler, or for a command that reads and writes.
    pub(super) fn new(scope: Arc<Scope>, stdio: Option<Stdio>) -> Self {
        let bounds = Bounds::new(&scope.limits);
        let (wasi, http, buckets) = (None, None, Buckets::default());
        Self { wasi, stdio, http, bounds, scope, deadline: clock::now(), buckets, turn: None }
    }

    /// A call begins. Returns when its time is over.
    pub(super) fn start(&mut self) -> Instant {
        self.deadline = clock::now() + self.scope.limits.time;
        self.http = None;
        self.bounds.start(&self.scope.limits);
        self.deadline
    }

    /// Writes out what the guest left of a line, and returns the end of what it wrote.
    pub(super) fn finish_log(&self) -> String {
        self.wasi.as_ref().map(|wasi| wasi.log.finish()).unwrap_or_default()
    }

    fn view(&mut self, make: fn(&mut WasiCtxBuilder) -> View) -> &mut View {
        let Self { wasi, stdio, bounds, scope, .. } = self;
        &mut wasi.get_or_insert_with(|| Wasi::new(scope, bounds, stdio.take(), make)).view
    }

    /// The folders that the manifest grants, and what the call has opened in them.
    pub(super) fn files(&mut self) -> Files<'_> {
        let Self { wasi, stdio, bounds, scope, .. } = self;
        let wasi = wasi.get_or_insert_with(|| Wasi::new(scope, bounds, stdio.take(), View::component));
        match &mut wasi.view {
            View::Component(_, table) => {
                Files::new(&mut wasi.opened, table, &scope.grants.files, scope.determined.as_deref())
            }
            View::Core(_) => unreachable!("a core module's store has no component in it"),
        }
    }

    /// What the call has of HTTP.
    pub(super) fn http_state(&mut self) -> &mut Http {
        let Self { http, scope, deadline, .. } = self;
        http.get_or_insert_with(|| Box::new(Http::new(Arc::clone(scope), *deadline)))
    }

    /// WASI 0.1, for a command that is a core module.
    pub(super) fn preview1(&mut self) -> &mut WasiP1Ctx {
        match self.view(|builder| View::Core(builder.build_p1())) {
            View::Core(preview1) => preview1,
            View::Component(..) => unreachable!("a core module's store has no component in it"),
        }
    }
}

impl View {
    fn component(builder: &mut WasiCtxBuilder) -> Self {
        Self::Component(builder.build(), ResourceTable::new())
    }
}

impl Wasi {
    /// An empty WASI: no sockets and, but for what the manifest grants a command, no environment and no arguments. Folders
    /// are not its affair. A handler's outputs are both the log, of a command's one is the outcome.
    fn new(scope: &Scope, bounds: &Bounds, stdio: Option<Stdio>, make: fn(&mut WasiCtxBuilder) -> View) -> Box<Self> {
        let log = GuestLog::new(Arc::clone(&scope.log), Arc::clone(&scope.grants.redactor));
        let mut builder = WasiCtx::builder();
        builder.stderr(log.stream("stderr")).allow_tcp(false).allow_udp(false);
        match &scope.determined {
            None => builder.secure_random(bounds.counted(thread_rng())).insecure_random(bounds.counted(thread_rng())),
            Some(world) => builder
                .secure_random(bounds.counted(world.random()))
                .insecure_random(bounds.counted(world.random()))
                .insecure_random_seed(world.insecure_seed())
                .wall_clock(Clock(Arc::clone(world)))
                .monotonic_clock(Clock(Arc::clone(world))),
        };
        builder.max_random_size(scope.limits.random as u64);
        match stdio {
            Some(stdio) => {
                builder.envs(&scope.grants.env).args(&scope.grants.args).stdin(stdio.stdin).stdout(stdio.stdout)
            }
            None => builder.stdout(log.stream("stdout")),
        };
        let mut view = make(&mut builder);
        if let View::Component(_, table) = &mut view {
            table.set_max_capacity(scope.limits.handles);
        }
        Box::new(Self { view, log, opened: Opened::default() })
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        match self.view(View::component) {
            View::Component(ctx, table) => WasiCtxView { ctx, table },
            View::Core(preview1) => preview1.ctx(),
        }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http_state();
        self.ctx();
        let Self { wasi: Some(wasi), http: Some(http), .. } = self else { unreachable!("both were just made") };
        let table = match &mut wasi.view {
            View::Component(_, table) => table,
            View::Core(preview1) => preview1.ctx().table,
        };
        http.view(table)
    }
}
