//! Servers as the balancer of a worker sees them, for `benches/balancing.rs`.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::balance::{Balancer, Candidate, Latency, Occasion, Table, key};

/// Servers of equal weight, and a policy to choose among them.
pub struct Servers {
    balancer: Balancer,
    servers: Vec<Rc<Local>>,
    occasions: Vec<Occasion>,
    picks: usize,
}

/// Lies in memory as a worker's `LocalServer` does: a policy that looks at the load of a server follows two pointers.
struct Local {
    number: usize,
    weight: u32,
    latency: Latency,
    shared: Arc<Shared>,
    /// The room that the pool and the metrics take.
    _rest: [u64; 16],
}

/// As `Server`: what all workers write, on cache lines of its own.
#[repr(align(128))]
struct Shared {
    in_flight: AtomicU32,
    down: AtomicBool,
}

impl Candidate for Rc<Local> {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn in_flight(&self) -> u32 {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    fn id(&self) -> usize {
        self.number
    }

    fn latency(&self) -> Option<&Latency> {
        Some(&self.latency)
    }
}

impl Servers {
    /// That take turns.
    pub fn round_robin(count: usize) -> Self {
        Self::new(count, Balancer::round_robin(1))
    }

    /// Of which the least loaded one is chosen.
    pub fn least_connections(count: usize) -> Self {
        Self::new(count, Balancer::least_connections(1))
    }

    /// Of which the less loaded of two is chosen.
    pub fn random(count: usize) -> Self {
        Self::new(count, Balancer::random(1))
    }

    /// Of which that with the lower cost of two is chosen; all have been measured.
    pub fn peak_ewma(count: usize) -> Self {
        let made = Self::new(count, Balancer::peak_ewma(1));
        for server in &made.servers {
            let micros = 500 + server.number as u64 * 37 % 1000;
            server.latency.observe(0, micros, false);
        }
        made
    }

    /// That are chosen by key.
    pub fn hash(count: usize) -> Self {
        let identities: Vec<_> = (0..count)
            .map(|number| format!("10.0.0.1:{number}"))
            .collect();
        let servers: Vec<_> = identities
            .iter()
            .map(|identity| (identity.as_str(), 1))
            .collect();
        Self::new(count, Balancer::hash(Arc::new(Table::new(&servers))))
    }

    fn new(count: usize, balancer: Balancer) -> Self {
        // Mixed, so that the least loaded one is anywhere.
        let loads = (0..count).map(|number| u32::try_from(number * 7 % 13).unwrap_or_default());
        let servers = loads.clone().enumerate().map(|(number, in_flight)| {
            Rc::new(Local {
                number,
                weight: 1,
                latency: Latency::default(),
                shared: Arc::new(Shared {
                    in_flight: AtomicU32::new(in_flight),
                    down: AtomicBool::new(false),
                }),
                _rest: [0; 16],
            })
        });
        let occasions = (0..1024_u64).map(|moment| Occasion {
            now: moment * 1000,
            key: key(&moment.to_le_bytes()),
            in_flight: loads.clone().sum(),
        });
        Self {
            balancer,
            servers: servers.collect(),
            occasions: occasions.collect(),
            picks: 0,
        }
    }

    /// The place of the next one.
    pub fn pick(&mut self) -> Option<usize> {
        self.picks = (self.picks + 1) % self.occasions.len();
        let occasion = *self.occasions.get(self.picks)?;
        let up = |server: &Rc<Local>| !server.shared.down.load(Ordering::Relaxed);
        let ready = |number| self.servers.get(number).is_some_and(up);
        self.balancer.pick(&self.servers, ready, occasion)
    }
}
