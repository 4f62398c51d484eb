//! Which server a request goes to.

use std::rc::Rc;

use super::flight::Way;
use super::local::{LocalServer, LocalUpstream};
use crate::config::OnAllDown;
use crate::deadline::{TICK, Ticks};

/// A server, and how it came to be chosen.
pub(super) struct Choice {
    pub(super) server: Rc<LocalServer>,
    pub(super) way: Way,
}

impl LocalUpstream {
    /// The server of a new request; `None` where none takes it. `replayable`: what fails can be sent to another.
    pub(super) fn choose(&self, now: u64, replayable: bool) -> Option<Choice> {
        let group = &self.upstream.group;
        // A trial that fails should cost nobody his answer, unless nothing else comes.
        let due = if replayable {
            now
        } else {
            now.saturating_sub(PATIENCE.0)
        };
        if group.is_trial_due(due)
            && let Some(choice) = self.trial()
        {
            return Some(choice);
        }
        match self.pick(|server| server.server.accepts_traffic()) {
            Some(server) => Some(Choice {
                server: Rc::clone(server),
                way: Way::Usual,
            }),
            None => self.choose_despite(),
        }
    }

    /// A server that is not among those that were `tried`.
    pub(super) fn choose_another(&self, tried: &[Rc<LocalServer>]) -> Option<Choice> {
        let is_new =
            |server: &Rc<LocalServer>| !tried.iter().any(|tried| Rc::ptr_eq(tried, server));
        let server =
            self.pick_instead(|server| server.server.accepts_traffic() && is_new(server))?;
        Some(Choice {
            server: Rc::clone(server),
            way: Way::Usual,
        })
    }

    #[cold]
    fn trial(&self) -> Option<Choice> {
        let servers = self.upstream.servers.iter().map(|(server, _)| server);
        let number = self.upstream.group.begin_trial(servers)?;
        Some(Choice {
            server: Rc::clone(self.servers.get(number)?),
            way: Way::Trial,
        })
    }

    /// All are out, by the word of checks and failures that may be wrong. That of an operator is not doubted.
    #[cold]
    fn choose_despite(&self) -> Option<Choice> {
        match self.upstream.on_all_down {
            OnAllDown::TryAnyway => {
                let in_service = |server: &Rc<LocalServer>| !server.server.is_drained();
                let promising =
                    self.pick(|server| server.server.is_promising() && in_service(server));
                Some(Choice {
                    server: Rc::clone(promising.or_else(|| self.pick(in_service))?),
                    way: Way::Despite,
                })
            }
            OnAllDown::Refuse => None,
        }
    }
}

/// How long a trial waits for a request that can be sent to another server.
const PATIENCE: Ticks = Ticks((10_000 / TICK.as_millis()) as u64);
