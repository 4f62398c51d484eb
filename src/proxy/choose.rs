//! Which server a request goes to.

use std::rc::Rc;
use std::sync::Arc;

use super::flight::{Flight, Way};
use super::local::{LocalServer, LocalUpstream, accepts};
use crate::balance::Occasion;
use crate::config::OnAllDown;
use crate::deadline::{TICK, Ticks};
use crate::upstream::queue::{Place, Wants};
use crate::upstream::server::Server;

/// What there is for a request.
pub(super) enum Chosen {
    /// A place on a server.
    Place(Flight),
    /// Servers that have as many requests as they may.
    Full(Wants),
    /// The server of the attempt before, once more.
    Same,
    Nobody,
}

impl LocalUpstream {
    /// The server of a new request. `replayable`: what fails can be sent to another.
    pub(super) fn choose(&self, now: u64, replayable: bool, occasion: Occasion) -> Chosen {
        let group = &self.upstream.group;
        // A trial that fails should cost nobody his answer, unless nothing else comes.
        let (due, longest) = if replayable {
            (now, self.upstream.longest_trial.max(PATIENCE))
        } else {
            (now.saturating_sub(PATIENCE.0), PATIENCE)
        };
        if group.is_trial_due(due)
            && let Some(flight) = self.trial(longest)
        {
            return Chosen::Place(flight);
        }
        let (primaries, backups) = self.primaries_and_backups();
        if group.queue.has_line() {
            return Chosen::Full(Wants::AnyBut(Vec::new()));
        }
        if let Some(below) = self.upstream.panic_below
            && self.is_too_few(now, below)
            && (accepts(primaries) || !accepts(backups))
            && let Some(flight) = self.panic(occasion)
        {
            return Chosen::Place(flight);
        }
        for _ in 0..CLAIMS {
            let Some(server) = self.pick(occasion, |server| server.server.is_ready()) else {
                break;
            };
            if let Some(flight) = Flight::begin(server, Way::Usual) {
                return Chosen::Place(flight);
            }
        }
        if accepts(primaries) {
            return Chosen::Full(Wants::AnyBut(Vec::new()));
        }
        match self.spare(backups, &[]) {
            Chosen::Nobody => self.choose_despite(),
            chosen => chosen,
        }
    }

    /// The server that a client was told to come back to, by its place; `None` where it takes no requests any more.
    pub(super) fn choose_again(&self, place: usize) -> Option<Chosen> {
        let server = self.servers.get(place)?;
        if !server.server.accepts_its_clients() {
            return None;
        }
        let flight = Flight::begin(server, Way::Usual);
        Some(flight.map_or_else(
            || Chosen::Full(Wants::Only(Arc::clone(&server.server))),
            Chosen::Place,
        ))
    }

    /// A server that is not among those that were `tried`.
    pub(super) fn choose_another(&self, tried: &[Rc<LocalServer>], occasion: Occasion) -> Chosen {
        let (primaries, backups) = self.primaries_and_backups();
        for _ in 0..CLAIMS {
            let is_new = |server: &Rc<LocalServer>| !is_among(tried, server);
            let another = self.pick_instead(occasion, |server| {
                server.server.is_ready() && is_new(server)
            });
            let Some(server) = another else {
                break;
            };
            if let Some(flight) = Flight::begin(server, Way::Usual) {
                return Chosen::Place(flight);
            }
        }
        if primaries
            .iter()
            .any(|server| server.server.accepts_traffic() && !is_among(tried, server))
        {
            return Chosen::Full(Wants::AnyBut(shared(tried)));
        }
        match self.spare(backups, tried) {
            // They are not given to those who wait while a primary accepts traffic.
            Chosen::Full(_) => Chosen::Nobody,
            chosen => chosen,
        }
    }

    /// The server of a place that was waited for.
    pub(super) fn server_of(&self, place: &Place) -> Option<&Rc<LocalServer>> {
        self.servers.iter().find(|server| {
            place
                .server()
                .is_some_and(|granted| Arc::ptr_eq(granted, &server.server))
        })
    }

    /// Backups, who are of use only when no primary accepts traffic: the one with the fewest requests.
    #[cold]
    fn spare(&self, backups: &[Rc<LocalServer>], tried: &[Rc<LocalServer>]) -> Chosen {
        let is_of_use =
            |server: &&Rc<LocalServer>| server.server.accepts_traffic() && !is_among(tried, server);
        let mut ready: Vec<_> = backups.iter().filter(is_of_use).collect();
        if ready.is_empty() {
            return Chosen::Nobody;
        }
        ready.sort_by_key(|server| server.server.in_flight());
        ready
            .into_iter()
            .find_map(|server| Flight::begin(server, Way::Usual))
            .map_or_else(|| Chosen::Full(Wants::AnyBut(shared(tried))), Chosen::Place)
    }

    /// So few accept traffic that those would be overrun: all of them are used.
    #[cold]
    fn panic(&self, occasion: Occasion) -> Option<Flight> {
        let in_service =
            |server: &Rc<LocalServer>| server.server.has_room() && !server.server.is_drained();
        let server = self.pick(occasion, in_service)?;
        let way = if server.server.accepts_traffic() {
            Way::Usual
        } else {
            Way::Panic
        };
        Flight::begin(server, way)
    }

    #[cold]
    fn trial(&self, longest: Ticks) -> Option<Flight> {
        let group = &self.upstream.group;
        let servers = self.upstream.servers.iter().map(|member| &member.server);
        let server = self.servers.get(group.begin_trial(servers, longest)?)?;
        let flight = Flight::begin(server, Way::Trial);
        if flight.is_none() {
            group.trial_abandoned(&server.server);
        }
        flight
    }

    /// All are out, by the word of checks and failures that may be wrong. That of an operator is not doubted.
    #[cold]
    fn choose_despite(&self) -> Chosen {
        match self.upstream.on_all_down {
            OnAllDown::TryAnyway => {
                let servers = self.servers.iter();
                let in_service = || {
                    let servers = servers.clone();
                    servers.filter(|server| !server.server.is_drained())
                };
                let all = || in_service().filter(|server| server.server.has_room());
                let promising = all().find(|server| server.server.is_promising());
                let least = || {
                    let turn = self.turn();
                    all().min_by_key(|server| (server.server.in_flight(), server.number() ^ turn))
                };
                let flight = promising
                    .or_else(least)
                    .and_then(|server| Flight::begin(server, Way::Despite));
                match flight {
                    Some(flight) => Chosen::Place(flight),
                    // The next good answer opens it again: worth waiting for, as it is where it accepts traffic.
                    None if in_service().next().is_some() => {
                        Chosen::Full(Wants::AnyBut(Vec::new()))
                    }
                    None => Chosen::Nobody,
                }
            }
            OnAllDown::Refuse => Chosen::Nobody,
        }
    }
}

fn is_among(tried: &[Rc<LocalServer>], server: &Rc<LocalServer>) -> bool {
    tried.iter().any(|tried| Rc::ptr_eq(tried, server))
}

fn shared(servers: &[Rc<LocalServer>]) -> Vec<Arc<Server>> {
    servers
        .iter()
        .map(|server| Arc::clone(&server.server))
        .collect()
}

/// How often a place may be lost to another worker before this one queues for it.
const CLAIMS: usize = 4;
/// How long a trial waits for a request that can be sent to another server, and how long it may last where it is not such a
/// one.
const PATIENCE: Ticks = Ticks((10_000 / TICK.as_millis()) as u64);
