//! Requests that wait because every server has as many as it may have: first come, first served, over all workers.
//!
//! Whoever ends a request on a server looks whether somebody waits, and hands the place on. That costs one load where
//! nobody does. A request that comes while others wait goes behind those whom any server will do; those who want certain
//! servers are counted apart, and hold up nobody else.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::server::{Counted, Server};

/// The requests that wait for a server of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// How many there are. Changed under the lock, read without it, as is the next.
    length: AtomicUsize,
    /// How many of them take any server.
    easy: AtomicUsize,
    waiting: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
    /// How many are bound to one server.
    bound: usize,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    wants: Wants,
    place: oneshot::Sender<Place>,
}

/// Which servers will do.
#[derive(Clone, Debug)]
pub(crate) enum Wants {
    /// All but those.
    AnyBut(Vec<Arc<Server>>),
    /// That one, even if it takes no new clients.
    Only(Arc<Server>),
}

impl Wants {
    /// Whether it may go to `server`, once that has room.
    fn suits(&self, server: &Arc<Server>) -> bool {
        match self {
            Self::AnyBut(servers) => {
                server.serves_those_who_wait()
                    && !servers.iter().any(|other| Arc::ptr_eq(other, server))
            }
            Self::Only(wanted) => Arc::ptr_eq(wanted, server),
        }
    }

    /// Whether there is any use in waiting, when these are the servers that serve those who wait.
    fn has_hope(&self, serving: &[&Arc<Server>]) -> bool {
        match self {
            // It cannot have been tried on all of these.
            Self::AnyBut(servers) if servers.len() < serving.len() => true,
            Self::AnyBut(_) => serving.iter().any(|server| self.suits(server)),
            Self::Only(server) => server.accepts_its_clients() && !server.is_removed(),
        }
    }

    fn is_easy(&self) -> bool {
        matches!(self, Self::AnyBut(servers) if servers.is_empty())
    }
}

/// A request counted in at a server; counted out when dropped.
#[derive(Debug)]
pub(crate) struct Place(Option<(Arc<Server>, Counted)>);

impl Place {
    /// Counts in, if the server has room.
    fn take(server: &Arc<Server>) -> Option<Self> {
        let counted = server.try_begin()?;
        Some(Self(Some((Arc::clone(server), counted))))
    }

    pub(crate) fn server(&self) -> Option<&Arc<Server>> {
        self.0.as_ref().map(|(server, _)| server)
    }

    /// Leaves the counting out to whoever takes it over.
    pub(crate) fn into_counted(mut self) -> Option<(Arc<Server>, Counted)> {
        self.0.take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((server, counted)) = self.0.take() {
            server.finish(counted);
        }
    }
}

/// A request's place in the queue; left when dropped.
pub(crate) struct Waiting {
    queue: Arc<Queue>,
    ticket: u64,
    place: oneshot::Receiver<Place>,
}

impl Waiting {
    /// Ready when its turn has come; with nothing, when there is no use in waiting any longer.
    pub(crate) fn poll_place(&mut self, context: &mut Context<'_>) -> Poll<Option<Place>> {
        Pin::new(&mut self.place).poll(context).map(Result::ok)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.queue.leave(self.ticket);
    }
}

impl Queue {
    /// How many wait.
    pub(crate) fn length(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Whether a request that takes any server has to go behind others.
    pub(crate) fn has_line(&self) -> bool {
        self.easy.load(Ordering::SeqCst) > 0
    }

    /// Goes to the end of the line; `None` if `size` are waiting already: for that same server, where it wants one, else for
    /// any.
    pub(crate) fn join(self: &Arc<Self>, wants: Wants, size: usize) -> Option<Waiting> {
        let (sender, place) = oneshot::channel();
        let mut line = self.line();
        let before = match &wants {
            Wants::AnyBut(_) => line.waiters.len() - line.bound,
            Wants::Only(server) => server.waited_for.load(Ordering::Relaxed) as usize,
        };
        if before >= size {
            return None;
        }
        let ticket = line.next_ticket;
        line.next_ticket += 1;
        self.counted_in(&mut line, &wants);
        line.waiters.push_back(Waiter {
            ticket,
            wants,
            place: sender,
        });
        // Before anybody looks at the servers again: whoever ends a request from here on sees that somebody waits.
        self.length.store(line.waiters.len(), Ordering::SeqCst);
        Some(Waiting {
            queue: Arc::clone(self),
            ticket,
            place,
        })
    }

    /// Hands out the room that there is on `server`.
    pub(crate) fn serve(&self, server: &Arc<Server>) {
        let mut line = self.line();
        let mut from = 0;
        while let Some(number) = line
            .waiters
            .iter()
            .skip(from)
            .position(|waiter| waiter.wants.suits(server))
        {
            from += number;
            let Some(place) = Place::take(server) else {
                break;
            };
            let Some(waiter) = self.remove(&mut line, from) else {
                break;
            };
            if let Err(unwanted) = waiter.place.send(place) {
                // Nobody is told of this room by `finish`: it would come back here, and the lock is ours.
                if let Some((server, counted)) = unwanted.into_counted() {
                    server.uncount(counted);
                }
            }
        }
    }

    /// Hands out the room that there is on all of them, the least loaded first.
    pub(crate) fn serve_all<'s>(&self, servers: impl Iterator<Item = &'s Arc<Server>>) {
        let mut roomy: Vec<_> = servers.filter(|server| server.has_room()).collect();
        roomy.sort_by_key(|server| server.in_flight());
        for server in roomy {
            if self.length() == 0 {
                return;
            }
            self.serve(server);
        }
    }

    /// Sends those away for whom none of `servers` will have room: they are told to choose anew. Called once per tick.
    pub(crate) fn dismiss<'s>(&self, servers: impl Iterator<Item = &'s Arc<Server>>) {
        let serving: Vec<_> = servers
            .filter(|server| server.serves_those_who_wait())
            .collect();
        let mut line = self.line();
        let mut number = 0;
        while let Some(waiter) = line.waiters.get(number) {
            if waiter.wants.has_hope(&serving) {
                number += 1;
            } else {
                self.remove(&mut line, number);
            }
        }
    }

    fn leave(&self, ticket: u64) {
        let mut line = self.line();
        // Tickets grow from front to back.
        if let Ok(number) = line
            .waiters
            .binary_search_by_key(&ticket, |waiter| waiter.ticket)
        {
            self.remove(&mut line, number);
        }
    }

    fn remove(&self, line: &mut Line, number: usize) -> Option<Waiter> {
        let waiter = line.waiters.remove(number)?;
        self.length.store(line.waiters.len(), Ordering::SeqCst);
        if let Wants::Only(server) = &waiter.wants {
            line.bound -= 1;
            server.waited_for.fetch_sub(1, Ordering::Relaxed);
        } else if waiter.wants.is_easy() {
            self.easy.fetch_sub(1, Ordering::SeqCst);
        }
        Some(waiter)
    }

    fn counted_in(&self, line: &mut Line, wants: &Wants) {
        if let Wants::Only(server) = wants {
            line.bound += 1;
            server.waited_for.fetch_add(1, Ordering::Relaxed);
        } else if wants.is_easy() {
            self.easy.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
