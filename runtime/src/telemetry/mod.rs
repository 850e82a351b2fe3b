//! What the host tells about itself: log lines and metrics.

mod metrics;

pub use metrics::{Metrics, Settled, WorkerMetrics};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::app::settings::LogFormat;

/// What is logged unless `WABBIT_LOG` says otherwise. lapin tells of every lost connection as an error of its own, and
/// prints returned messages whole; the host reports both in its own words. wasmtime-wasi has a span for each call of a
/// core module, which would stand before every line that a command logs.
const DEFAULT_FILTER: &str = "info,lapin=off,wasmtime_wasi=warn";

/// Starts logging to standard error. Errors: a filter in `WABBIT_LOG` that cannot be read.
pub fn init_logging(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var("WABBIT_LOG") {
        Ok(filter) => EnvFilter::try_new(filter)?,
        Err(_) => EnvFilter::new(DEFAULT_FILTER),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(layer.with_ansi(ansi).with_target(false)).try_init()?;
        }
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
    }
    Ok(())
}
