//! Keeps a session, and makes the next one when it is lost.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Reason, Session};
use crate::{app::settings, clock};

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
    let mut turns = Turns::new(amqp.urls.len());
    let mut undecodable = 0;
    // Why there is no session: what each address failed with, in their order, since there was one.
    let mut causes: Vec<Option<String>> = vec![None; amqp.urls.len().get()];
    let mut round_began = clock::now();
    while !stop.is_cancelled() {
        let url = amqp.urls.at(turns.place);
        let connected = tokio::select! {
            biased;
            connected = Session::connect(&amqp, url, epoch + 1, undecodable >= UNDECODABLE_MAX) => connected,
            () = stop.cancelled() => return,
        };
        let cause = match connected {
            Ok(session) => {
                epoch += 1;
                let since = clock::now();
                let session = Arc::new(session);
                tracing::info!(%url, epoch, "connected");
                causes.fill(None);
                link.send_replace(Link::Up(Arc::clone(&session)));
                tokio::select! {
                    biased;
                    () = session.watch() => {}
                    () = stop.cancelled() => {
                        // Those that drain still need to know when it is lost.
                        session.watch().await;
                        return;
                    }
                }
                // One that is lost at once, again and again, must not be made again at full speed.
                if clock::since(since) > LASTING {
                    turns.begin_again();
                }
                session.close().await;
                round_began = clock::now();
                let cause = session.cause();
                let unreadable = cause.as_ref().is_some_and(|cause| cause.reason == Reason::Undecodable);
                undecodable = if unreadable { undecodable + 1 } else { 0 };
                let message = cause.map_or_else(|| "the connection was closed".to_owned(), |cause| cause.message);
                format!("lost {url}: {message}")
            }
            Err(trouble) => trouble.message,
        };
        let place = turns.place;
        let pause = turns.failed();
        let next = match pause {
            None => format!("trying {}", amqp.urls.at(turns.place)),
            Some(pause) => format!("next try in {}", humantime::format_duration(pause)),
        };
        tracing::warn!("no broker: {cause}; {next}");
        if let Some(last) = causes.get_mut(place) {
            *last = Some(cause);
        }
        link.send_replace(Link::Down(causes.iter().flatten().cloned().collect::<Vec<_>>().join("; ")));
        if let Some(pause) = pause {
            // What the tries themselves took is part of the pause: one that waited for its time-out is followed at once.
            tokio::select! {
                biased;
                () = tokio::time::sleep_until((round_began + jittered(pause)).into()) => {}
                () = stop.cancelled() => return,
            }
            round_began = clock::now();
        }
    }
}

/// Whose turn it is among the addresses, and when there is a pause.
#[derive(Debug)]
struct Turns {
    addresses: NonZeroUsize,
    /// Whose turn it is, counted from 0.
    place: usize,
    /// How many have failed since the last pause.
    failed: usize,
    /// The next pause.
    pause: Duration,
}

impl Turns {
    fn new(addresses: NonZeroUsize) -> Self {
        Self { addresses, place: 0, failed: 0, pause: PAUSE_FIRST }
    }

    /// The one whose turn it is could not be reached, or its session was lost: it is the next one's turn. Says how long
    /// to wait before that, where each has failed once since the last pause.
    fn failed(&mut self) -> Option<Duration> {
        self.place = (self.place + 1) % self.addresses;
        self.failed += 1;
        if self.failed < self.addresses.get() {
            return None;
        }
        self.failed = 0;
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        Some(pause)
    }

    /// All was well for a while.
    fn begin_again(&mut self) {
        self.failed = 0;
        self.pause = PAUSE_FIRST;
    }
}

/// Up to a quarter less, so that many hosts do not come back in the same moment.
fn jittered(pause: Duration) -> Duration {
    pause - (pause / 4).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pauses after so many failures, in milliseconds; 0 for none.
    fn pauses(turns: &mut Turns, failures: usize) -> Vec<(usize, u128)> {
        let failed = |_| (turns.failed().map_or(0, |pause| pause.as_millis()), turns.place);
        (0..failures).map(failed).map(|(pause, place)| (place, pause)).collect()
    }

    #[test]
    fn one_address_is_tried_again_after_growing_pauses() {
        let mut turns = Turns::new(NonZeroUsize::MIN);
        let pauses = pauses(&mut turns, 8);
        assert!(pauses.iter().all(|(place, _)| *place == 0));
        let pauses: Vec<_> = pauses.into_iter().map(|(_, pause)| pause).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn each_address_is_tried_once_before_there_is_a_pause() {
        let mut turns = Turns::new(NonZeroUsize::new(3).unwrap());
        assert_eq!(pauses(&mut turns, 7), [(1, 0), (2, 0), (0, 100), (1, 0), (2, 0), (0, 200), (1, 0)]);
        // A session with the second address lasted, and is lost: the others are tried at once.
        turns.begin_again();
        assert_eq!(pauses(&mut turns, 3), [(2, 0), (0, 0), (1, 100)]);
    }
}
