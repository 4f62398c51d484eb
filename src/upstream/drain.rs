//! Drain: an operator takes a server out of service, and back.
//!
//! It gets no new requests and finishes those that it has. That lasts over reloads, for as long as its upstream and address
//! stay in the config, and over upgrades; else it ends with the process. Its health checks go on; what they find shows when it
//! is back.

use std::sync::{MutexGuard, PoisonError};
use std::time::SystemTime;

use super::server::{Closed, Server, Standing};

/// What is known of a server that is drained.
#[derive(Debug)]
pub(super) struct Drain {
    since: SystemTime,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// A worker may be about to send it a request that it was chosen for before.
    Closing,
    /// It finishes what it has.
    Finishing,
    /// Nothing is left, and the log says so.
    Empty,
}

impl Server {
    /// Whether an operator has taken it out of service: unlike one that is down or ejected, it is not even tried where
    /// nothing else is left. Only clients that are bound to it may still come in, once there are such.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_closed_by(Closed::Drained)
    }

    /// Takes it out of service. Once all workers have seen that, [`Server::drain_seen`] is to be called.
    pub(crate) fn drain(&self, now: SystemTime) {
        let mut drain = self.drain_lock();
        if drain.is_some() {
            return;
        }
        *drain = Some(Drain {
            since: now,
            progress: Progress::Closing,
        });
        self.close(Closed::Drained);
        tracing::info!(
            upstream = %self.upstream,
            server = %self.address,
            in_flight = self.in_flight(),
            "server is drained by hand: it gets no new requests"
        );
    }

    /// From now on no worker sends it a request that it was chosen for before it was drained.
    pub(crate) fn drain_seen(&self) {
        let mut drain = self.drain_lock();
        let Some(drain) = drain.as_mut() else {
            return;
        };
        if drain.progress == Progress::Closing {
            drain.progress = Progress::Finishing;
            self.tell_if_empty(drain);
        }
    }

    /// Takes it back into service. If nothing else speaks against it, its share begins to grow.
    pub(crate) fn ready(&self) {
        let mut drain = self.drain_lock();
        if drain.take().is_none() {
            return;
        }
        self.open(Closed::Drained);
        tracing::info!(
            upstream = %self.upstream,
            server = %self.address,
            "server is ready: it is no longer drained"
        );
    }

    /// The last request of a server that is drained has ended.
    #[cold]
    pub(super) fn emptied(&self) {
        if let Some(drain) = self.drain_lock().as_mut() {
            self.tell_if_empty(drain);
        }
    }

    fn tell_if_empty(&self, drain: &mut Drain) {
        if drain.progress == Progress::Finishing && self.in_flight() == 0 {
            drain.progress = Progress::Empty;
            tracing::info!(
                upstream = %self.upstream,
                server = %self.address,
                "server is empty: its last request has ended"
            );
        }
    }

    /// What operators are told while it is drained.
    pub(super) fn drain_standing(&self) -> Option<Standing> {
        let since = self.drain_lock().as_ref()?.since;
        Some(Standing {
            state: "draining",
            reason: match self.in_flight() {
                0 => "drained by hand; empty".to_owned(),
                1 => "drained by hand; 1 request left".to_owned(),
                left => format!("drained by hand; {left} requests left"),
            },
            since,
        })
    }

    fn drain_lock(&self) -> MutexGuard<'_, Option<Drain>> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::group::Group;
    use super::*;
    use crate::deadline::{Clock, Ticks};
    use crate::units::{ServerAddr, UpstreamName};

    const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

    fn server() -> Server {
        Server::new(
            UpstreamName::from("app"),
            ServerAddr::Ip("127.0.0.1:1".parse().unwrap()),
            Arc::new(Group::new(Clock::start())),
            true,
            EPOCH,
        )
    }

    fn told(server: &Server) -> (&'static str, String, SystemTime) {
        let standing = server.standing();
        (standing.state, standing.reason, standing.since)
    }

    fn progress(server: &Server) -> Option<Progress> {
        server.drain_lock().as_ref().map(|drain| drain.progress)
    }

    #[test]
    fn it_takes_nothing_new_and_tells_what_is_left() {
        let server = server();
        let since = EPOCH + Duration::from_secs(7);
        let counted = server.try_begin().unwrap();
        assert!(server.try_begin().is_some());
        server.drain(since);
        assert!(server.is_drained() && !server.accepts_traffic());
        let reason = |text: &str| ("draining", format!("drained by hand; {text}"), since);
        assert_eq!(told(&server), reason("2 requests left"));
        server.drain(EPOCH);
        server.uncount(counted);
        assert_eq!(told(&server), reason("1 request left"));
        server.uncount(counted);
        assert_eq!(told(&server), reason("empty"));
    }

    #[test]
    fn its_checks_go_on_and_show_when_it_is_back() {
        let server = server();
        server.drain(EPOCH);
        for _ in 0..3 {
            server.checked(Err("status 500".to_owned()), 0, 2, 3, EPOCH);
        }
        assert_eq!(told(&server).0, "draining");
        server.ready();
        assert_eq!(told(&server), ("down", "status 500".to_owned(), EPOCH));
        assert!(!server.is_drained() && !server.accepts_traffic());
        server.drain(EPOCH);
        for _ in 0..2 {
            server.checked(Ok(()), 0, 2, 3, EPOCH);
        }
        assert!(!server.accepts_traffic(), "only one of two reasons is gone");
        server.ready();
        assert!(server.accepts_traffic());
    }

    #[test]
    fn taken_back_its_share_grows_as_after_any_absence() {
        let server = server();
        let slow_start = Some(Ticks(1000));
        server.ready();
        assert_eq!(server.share(slow_start), 100, "it was never away");
        server.drain(EPOCH);
        assert_eq!(server.share(slow_start), 100);
        server.ready();
        assert!(server.share(slow_start) < 100);
    }

    /// A worker may have chosen it in the instant before, and not yet counted the request in.
    #[test]
    fn it_is_empty_for_good_only_after_all_workers_have_seen_the_drain() {
        let server = server();
        let counted = server.try_begin().unwrap();
        server.drain(EPOCH);
        server.uncount(counted);
        assert_eq!(progress(&server), Some(Progress::Closing));
        let counted = server.try_begin().unwrap();
        server.drain_seen();
        assert_eq!(progress(&server), Some(Progress::Finishing));
        server.uncount(counted);
        assert_eq!(progress(&server), Some(Progress::Empty));
        server.drain_seen();
        assert_eq!(progress(&server), Some(Progress::Empty), "told once");
        server.ready();
        server.drain(EPOCH);
        server.drain_seen();
        assert_eq!(progress(&server), Some(Progress::Empty));
    }
}
