//! Keeps a session, and makes the next one when it is lost.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Reason, Session};
use crate::app::settings;

/// The pause before a second try to connect; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// After so many sessions in a row that ended with a message that cannot be read, each worker gets a connection of its
/// own: then it is only one worker's trouble, and known whose.
const UNDECODABLE_MAX: u32 = 2;
/// A session that lasted longer was sound: the next one may follow soon.
const LASTING: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The state of the connection to the broker.
#[derive(Clone)]
pub enum Link {
    /// There is none, for this reason.
    Down(String),
    /// Connected.
    Up(Arc<Session>),
}

/// Keeps `link` up to date until `stop`; the session that is there then stays open for those who still use it.
pub async fn maintain(amqp: settings::Amqp, link: watch::Sender<Link>, stop: CancellationToken) {
    let mut epoch = 0;
    let mut pause = PAUSE_FIRST;
    let mut undecodable = 0;
    while !stop.is_cancelled() {
        let connected = tokio::select! {
            connected = Session::connect(&amqp, epoch + 1, undecodable >= UNDECODABLE_MAX) => connected,
            () = stop.cancelled() => return,
        };
        let cause = match connected {
            Ok(session) => {
                epoch += 1;
                let since = Instant::now();
                let session = Arc::new(session);
                tracing::info!(url = %amqp.url, epoch, "connected");
                link.send_replace(Link::Up(Arc::clone(&session)));
                tokio::select! {
                    () = session.watch() => {}
                    () = stop.cancelled() => {
                        // Those that drain still need to know when it is lost.
                        session.watch().await;
                        return;
                    }
                }
                // One that is lost at once, again and again, must not be made again at full speed.
                if since.elapsed() > LASTING {
                    pause = PAUSE_FIRST;
                }
                session.close().await;
                match session.cause() {
                    Some(cause) => {
                        undecodable = if cause.reason == Reason::Undecodable { undecodable + 1 } else { 0 };
                        cause.message
                    }
                    None => String::new(),
                }
            }
            Err(trouble) => trouble.message,
        };
        tracing::warn!("no broker: {cause}; next try in {}", humantime::format_duration(pause));
        link.send_replace(Link::Down(cause));
        tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Up to a quarter less, so that many hosts do not come back in the same moment.
fn jittered(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    pause - (pause / 4).mul_f64(f64::from(nanos % 1_000) / 1_000.0)
}
