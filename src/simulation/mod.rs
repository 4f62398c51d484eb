//! An hour in the life of an upstream whose servers fail at random, in simulated time.
//!
//! Real is weir's data plane from [`Proxy::handle`] down: choosing, balancers, retries, ejection, queue, slow start, pools, the
//! codec, and the health probes. Simulated are time (tokio's, stopped, so that it jumps from one event to the next), the
//! servers and the network. Each request is judged by what really happened to it: one that the rules could have saved, and
//! that failed all the same, fails the test with its story.
//!
//! `WEIR_SIMULATION_SEED` is the first seed of a longer run, `WEIR_SIMULATION_SEEDS` how many there are;
//! `WEIR_SIMULATION_TELL=Budget` prints the stories of all requests that failed with that excuse.

mod clients;
mod judge;
mod phases;
mod random;
mod recovery;
mod servers;
mod setting;
mod story;
mod world;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::clients::Clients;
use self::judge::{Tally, Verdict};
use self::phases::{HOUR, Life};
use self::random::Random;
use self::recovery::Recovery;
use self::setting::Setting;
use self::world::World;
use crate::config;
use crate::deadline::{self, Clock, Deadlines, TICK};
use crate::proxy::Proxy;
use crate::state::{Published, State, Surroundings};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::worker::WorkerMetrics;
use crate::upstream::health::Probers;
use crate::upstream::simulated;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(50);
/// How long all servers are good after the hour, for everything to be as it was.
const REPAIR: Duration = Duration::from_secs(360);
/// How long there are no requests in the end.
const REST: Duration = Duration::from_secs(120);
/// Names an excuse of which every story is to be told.
const TELL: &str = "WEIR_SIMULATION_TELL";

#[test]
fn an_hour_with_the_default_settings() {
    check(1);
}

#[test]
fn an_hour_with_other_settings() {
    check(2);
}

#[test]
fn an_hour_of_a_seed_that_is_asked_for() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text: String| text.parse::<u64>().unwrap())
    };
    let first = number("WEIR_SIMULATION_SEED").unwrap_or(5);
    let seeds = number("WEIR_SIMULATION_SEEDS").unwrap_or(1);
    let failed = (first..first + seeds)
        .filter(|&seed| std::panic::catch_unwind(|| check(seed)).is_err())
        .collect::<Vec<_>>();
    assert!(failed.is_empty(), "failed with the seeds {failed:?}");
}

#[expect(
    clippy::print_stderr,
    reason = "whoever runs many seeds wants to see them"
)]
fn check(seed: u64) {
    let tally = run(seed);
    let Tally {
        requests, retried, ..
    } = tally;
    eprintln!("seed {seed}: {tally:?}");
    assert!(
        tally.wrong.is_empty(),
        "seed {seed}:\n{}",
        tally.wrong.join("\n")
    );
    assert!(requests > 50_000, "seed {seed}: {requests} requests");
    assert!(
        retried > 100,
        "seed {seed}: {retried} requests were sent again"
    );
}

/// Lives through an hour.
fn run(seed: u64) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    let tally = runtime.block_on(hour(seed));
    simulated::uninstall();
    tally
}

async fn hour(seed: u64) -> Tally {
    let setting = Setting::of(seed);
    let config = config::parse(&setting.text(), Path::new("weir.toml"))
        .unwrap_or_else(|report| panic!("{}", report.render(false)));
    let access = AccessLog::start(&config.log).unwrap();
    let clock = Clock::start();
    let around = Surroundings {
        previous: None,
        found: &|_, _| Vec::new(),
        workers: 1,
        max_files: 1024,
        tls: &|_, _| unreachable!("there is no TLS"),
        now: SystemTime::now(),
        clock,
        warm: false,
    };
    let state = Arc::new(State::build(Arc::new(config), &around));
    let metrics = Arc::new(WorkerMetrics::default());
    let proxy = Proxy::new(
        Arc::new(Published::new(Arc::clone(&state), clock)),
        Deadlines::new(clock),
        Arc::clone(&metrics),
        access.sink(),
        seed,
    );
    let upstream = Arc::clone(&state.upstreams[0]);
    let mut servers: Vec<_> = state
        .servers()
        .map(|(_, server)| Arc::clone(server))
        .collect();
    servers.sort_by_key(|server| server.address.to_string());
    let lives = Life::draw_all(servers.len(), &Random::new(seed, 1));
    let shard = metrics.upstream(&upstream.name);
    let world = World::new(setting, lives, servers, upstream, shard);
    let network = Rc::clone(&world);
    simulated::install(Box::new(move |address| servers::dial(&network, address)));
    let mut probers = Probers::default();
    probers.probe(state.probed());
    for host in &world.hosts {
        spawn_local(Rc::clone(host).live(Rc::clone(&world)));
    }
    let tally = Rc::new(RefCell::new(Tally::default()));
    spawn_local(duties(
        Rc::clone(&proxy),
        Rc::clone(&world),
        Rc::clone(&tally),
    ));

    let clients = Clients::new(&world, Rc::clone(&proxy));
    // Servers that are out when the hour is over need requests to come back.
    for (until, mean) in [(HOUR, PAUSE), (HOUR + REPAIR, 10 * PAUSE)] {
        while world.now() < until {
            sleep(clients.pause(mean)).await;
            spawn_local(request(
                Rc::clone(&clients),
                Rc::clone(&world),
                Rc::clone(&tally),
            ));
        }
    }
    sleep(REST).await;
    let mut tally = tally.take();
    tally.wrong.extend(world.left_behind());
    tally.wrong.extend(tally.unjust(world.setting.sticky));
    tally
}

/// What a worker does besides serving connections.
async fn duties(proxy: Rc<Proxy>, world: Rc<World>, tally: Rc<RefCell<Tally>>) {
    let mut recovery = Recovery::new(&world);
    let mut interval = interval(TICK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for tick in 1_u64.. {
        interval.tick().await;
        proxy.deadlines.advance(deadline::now());
        proxy.serve_queues();
        if tick.is_multiple_of(10) {
            proxy.sweep();
        }
        tally.borrow_mut().wrong.extend(recovery.look(&world));
    }
}

/// One request, judged when it is over.
#[expect(clippy::print_stderr, reason = "the stories that were asked for")]
async fn request(clients: Rc<Clients>, world: Rc<World>, tally: Rc<RefCell<Tally>>) {
    let (number, outcome) = clients.ask().await;
    let story = world.take(number).expect("every request has a story");
    let mut tally = tally.borrow_mut();
    tally.requests += 1;
    tally.retried += u64::from(story.attempts.len() > 1);
    tally.late(&world, &story);
    match world.judge(&story, &outcome) {
        Verdict::Served => {}
        Verdict::Unknown => tally.abandoned += 1,
        Verdict::Excused(excuse) => {
            *tally.excuses.entry(excuse).or_default() += 1;
            if std::env::var(TELL).is_ok_and(|asked| asked == format!("{excuse:?}")) {
                eprintln!("{excuse:?}: {outcome:?}\n{}", world.tell(&story));
            }
        }
        Verdict::Wrong(why) => {
            // What is told of ten is enough.
            if tally.wrong.len() < 10 {
                let told = world.tell(&story);
                tally.wrong.push(format!("{why}: {outcome:?}\n{told}"));
            }
        }
    }
}
