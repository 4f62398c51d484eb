//! A request at a server: counted in while it is there, and what it says of the server when it is over.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use http::StatusCode;

use super::local::LocalServer;
use crate::deadline;
use crate::telemetry::labels::Outcome;
use crate::upstream::ejection::Cause;
use crate::upstream::group::Serving;
use crate::upstream::http1::exchange::Sending;
use crate::upstream::queue::Place;
use crate::upstream::server::Counted;

/// How a request came to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The server takes traffic.
    Usual,
    /// All are out, and this one is tried all the same.
    Despite,
    /// It takes no traffic, but so few do that all are used.
    Panic,
    /// It was ejected; this request decides whether it comes back.
    Trial,
}

/// A request counted in at a server; counted out when dropped.
pub(crate) struct Flight {
    server: Rc<LocalServer>,
    counted: Cell<Counted>,
    /// Since when the server works on it, where that is wanted or was to be waited for.
    began: Cell<Option<Instant>>,
    way: Way,
    /// Until told otherwise, the client went away.
    outcome: Outcome,
    /// What it will have been if the response comes to its end.
    expected: Outcome,
    judged: bool,
    /// Whether it is this one that is counted in.
    has_place: bool,
    /// Whether it is an attempt.
    is_made: bool,
}

impl Flight {
    /// Counts in, if the server has room.
    pub(crate) fn begin(server: &Rc<LocalServer>, way: Way) -> Option<Self> {
        let counted = server.server.try_begin()?;
        Some(Self::new(server, way, counted))
    }

    /// Of a request that was counted in at `server` already.
    pub(crate) fn take_over(server: &Rc<LocalServer>, place: Place) -> Option<Self> {
        let way = match server.server.group.serving() {
            _ if server.server.accepts_its_clients() => Way::Usual,
            Serving::Despite => Way::Despite,
            Serving::Primaries | Serving::Backups | Serving::InPanic => Way::Panic,
        };
        let (_, counted) = place.into_counted()?;
        Some(Self::new(server, way, counted))
    }

    fn new(server: &Rc<LocalServer>, way: Way, counted: Counted) -> Self {
        Self {
            server: Rc::clone(server),
            began: Cell::new((counted == Counted::Waiting).then(deadline::now)),
            counted: Cell::new(counted),
            way,
            outcome: Outcome::Canceled,
            expected: Outcome::Canceled,
            judged: false,
            has_place: true,
            is_made: true,
        }
    }

    /// Another attempt on the same server, in the same place; this one is counted as over.
    pub(crate) fn again(&mut self) -> Self {
        self.has_place = false;
        let counted = self.server.server.begin_again(self.counted.get());
        Self::new(&self.server, self.way, counted)
    }

    /// Whether the head of a response came.
    pub(crate) fn is_answered(&self) -> bool {
        self.expected != Outcome::Canceled
    }

    /// It is over, and its place is free, though what came of it is still needed.
    pub(crate) fn give_back(&mut self) {
        if std::mem::take(&mut self.has_place) {
            self.server.server.finish(self.counted.get());
        }
    }

    /// It is not made, and so is no attempt.
    pub(crate) fn call_off(mut self) {
        self.is_made = false;
    }

    /// How it came to its server.
    pub(crate) fn way(&self) -> Way {
        self.way
    }

    pub(crate) fn server(&self) -> &Rc<LocalServer> {
        &self.server
    }

    /// The head of the response came. Whether it is a good answer shows at its end, if that is not long to wait for.
    pub(crate) fn answered(&mut self, status: StatusCode, endless: bool) {
        self.head_came(status.is_client_error() || status.is_server_error());
        self.expected = Outcome::of(status);
        if matches!(status.as_u16(), 502..=504) {
            self.bad(Cause::Status(status));
        } else if endless || self.way != Way::Usual {
            self.good();
        }
    }

    /// The response came to its end.
    pub(crate) fn completed(&mut self) {
        self.outcome = self.expected;
        if !self.judged {
            self.good();
        }
    }

    /// It went wrong; without a cause, that says nothing of the server.
    pub(crate) fn failed(&mut self, outcome: Outcome, cause: Option<Cause>) {
        self.outcome = outcome;
        if let Some(cause) = cause {
            self.bad(cause);
        }
    }

    /// Since when the server has the whole request, if that had a body: how long its client took is not the server's doing.
    pub(crate) fn sent_at(&self) -> Option<Instant> {
        self.began.get()
    }

    /// The head of the response came, or will not come any more. `early`: maybe sooner than it takes.
    fn head_came(&mut self, early: bool) {
        if self.counted.get() != Counted::No {
            let took = self.began.get().map(deadline::since);
            let server = &self.server.server;
            server.head_came(self.counted.get_mut(), took, early);
        }
    }

    fn good(&mut self) {
        self.judged = true;
        let server = &self.server.server;
        let despite = self.way != Way::Usual;
        if despite || server.is_suspect() {
            server.succeeded(despite);
        }
    }

    #[cold]
    fn bad(&mut self, cause: Cause) {
        self.judged = true;
        let upstream = self.server.upstream();
        let servers = upstream.servers.iter().map(|member| &member.server);
        upstream.group.failed(
            &self.server.server,
            servers,
            cause,
            self.way != Way::Usual,
            upstream.ejections.as_ref(),
        );
    }
}

impl Sending for Flight {
    fn delayed(&self) {
        self.began.set(None);
        let counted = self.server.server.delayed(self.counted.get());
        self.counted.set(counted);
    }

    fn sent(&self) {
        self.began.set(Some(deadline::now()));
        let counted = self.server.server.sent(self.counted.get());
        self.counted.set(counted);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.is_made {
            self.server.shard.ended(self.outcome);
        }
        if !self.has_place {
            return;
        }
        // The client may have waited long enough to tell something.
        self.head_came(true);
        let server = &self.server.server;
        server.finish(self.counted.get());
        if self.way == Way::Trial && !self.judged {
            server.group.trial_abandoned(server);
        }
    }
}
