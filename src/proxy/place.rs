//! A place on a server, waited for where all have as many requests as they may.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::choose::Chosen;
use super::error::ProxyError;
use super::flight::Flight;
use super::forward::Forward;
use super::record::Record;
use crate::config::Concurrency;
use crate::deadline::{self, Deadline};
use crate::upstream::queue::{Place, Wants};

impl Forward<'_> {
    /// A place on a server, waited for where all have as many requests as they may. `anew` chooses again, where there is no
    /// use in waiting any longer.
    pub(super) async fn place(
        &self,
        mut chosen: Chosen,
        record: &mut Record,
        until: &Deadline,
        anew: impl Fn() -> Chosen,
    ) -> Result<Flight, ProxyError> {
        let upstream = &self.upstream.upstream;
        let deadline = self.proxy.deadlines.deadline();
        deadline.arm(upstream.queue.timeout);
        let before = record.queued.unwrap_or_default();
        let began = deadline::now();
        loop {
            let wants = match chosen {
                Chosen::Place(flight) => return Ok(flight),
                Chosen::Full(wants) => wants,
                Chosen::Same | Chosen::Nobody => {
                    return Err(ProxyError::NoServer {
                        upstream: upstream.name.clone(),
                    });
                }
            };
            let is_bound = matches!(wants, Wants::Only(_));
            let place = self.wait(wants, &deadline, until).await;
            let waited = deadline::since(began);
            record.queued = Some(before + waited);
            match place {
                Ok(Some(place)) => {
                    self.upstream.shard.queued.observe(waited);
                    return self.take(place);
                }
                Ok(None) => chosen = anew(),
                // Another server's answer is better than none.
                Err(error) if is_bound && error.is_crowded() => chosen = anew(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits in the upstream's queue; `None` if there is no use in waiting any longer.
    async fn wait(
        &self,
        wants: Wants,
        deadline: &Deadline,
        until: &Deadline,
    ) -> Result<Option<Place>, ProxyError> {
        let upstream = &self.upstream.upstream;
        let name = || upstream.name.clone();
        let room = match upstream.concurrency {
            Concurrency::Adaptive => upstream.group.queue_room(),
            Concurrency::Off => usize::MAX,
        };
        let size = upstream.queue.size.min(room);
        let bound_to = match &wants {
            Wants::Only(server) => Some(Arc::clone(server)),
            Wants::AnyBut(_) => None,
        };
        let Some(mut waiting) = upstream.group.queue.join(wants, size) else {
            return Err(if room < upstream.queue.size {
                ProxyError::Shed { upstream: name() }
            } else {
                ProxyError::QueueFull { upstream: name() }
            });
        };
        // There may have been room again before anybody knew that this one waits.
        match bound_to {
            Some(server) => upstream.group.queue.serve(&server),
            None => self.upstream.serve_queue(self.proxy.deadlines.now()),
        }
        std::future::poll_fn(|context| {
            if let Poll::Ready(place) = waiting.poll_place(context) {
                return Poll::Ready(Ok(place));
            }
            if until.poll_over(context).is_ready() {
                return Poll::Ready(Err(ProxyError::RouteTimeout { upstream: name() }));
            }
            deadline
                .poll_over(context)
                .map(|()| Err(ProxyError::QueueTimeout { upstream: name() }))
        })
        .await
    }

    /// Takes over a place that was waited for.
    fn take(&self, place: Place) -> Result<Flight, ProxyError> {
        let name = &self.upstream.upstream.name;
        let nobody = || ProxyError::NoServer {
            upstream: name.clone(),
        };
        if let Some(server) = self.upstream.server_of(&place) {
            return Flight::take_over(server, place).ok_or_else(nobody);
        }
        // A reload in the meantime has brought a server that the state of this request does not have.
        let newest = self.proxy.local();
        let mut upstreams = newest.upstreams.iter();
        upstreams
            .find(|known| known.upstream.name == *name)
            .and_then(|known| Some(Rc::clone(known.server_of(&place)?)))
            .and_then(|server| Flight::take_over(&server, place))
            .ok_or_else(nobody)
    }
}
