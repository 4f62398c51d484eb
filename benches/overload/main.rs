//! What clients get when they ask for more than the servers can do, with and without a limit on the requests that weir
//! has in flight at each server. Prints Markdown.
//!
//! ```sh
//! cargo bench --bench overload                       # everything, about 10 minutes
//! cargo bench --bench overload -- --help             # what can be chosen
//! cargo bench --bench overload -- --seconds 6 --servers pool --limits off,adaptive --loads 0.9,3
//! cargo bench --bench overload -- --queue default    # with limits, but the queue that a config without one has
//! ```
//!
//! The servers stand in this process and their capacity is known, since it is made of timers ([`origin`]). Clients do
//! not wait for each other and have no more than a second ([`load`]). So without a limit the servers come to work for
//! clients who have left. The limits are
//!
//! - `off`: weir sends on what comes;
//! - `max_in_flight`: by an operator who knows the servers: one request for each slot, one more to fill the gap while an
//!   answer goes out and the next request comes in, and a queue that the servers work off in a tenth of a second;
//! - `adaptive`: weir finds the limit out; the queue is the same, so that the limit alone differs.
//!
//! Servers and weir are fresh for each step, or the backlog and what weir has learned from one load would tell on the
//! next. The first third of a step is for learning and is not counted.
//!
//! The *peak* of a kind of servers is the best goodput of all its steps, whatever the load and the limit, but no less than
//! the capacity: a limit is measured against the best that can be made of these servers, also in a run that leaves most
//! steps out. Exit: 0 fine, 1 if with a limit goodput at three times the capacity is below 90 % of the peak, or more than
//! 1 % is refused below capacity.
//!
//! That 0 % are left without a limit is no mistake: once the line inside a server is longer than the patience of clients,
//! all that it still works for have left, and the line only grows. Real servers do the same as long as they work on.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints, and what cannot go on fails"
)]

mod load;
mod origin;
mod proxy;
mod random;
mod report;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests of the program need more of it"
)]
#[path = "../../tests/binary/support.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use load::Plan;
use origin::{Kind, Origins};
use proxy::{Limit, Queue};
use report::{Report, Step};

#[derive(Parser)]
#[command(name = "overload", bin_name = "cargo bench --bench overload --")]
struct Options {
    /// How long a step takes; the first third is not counted
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Requests, as multiples of what the servers can do
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 0.9, 1.5, 3.0])]
    loads: Vec<f64>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Pool, Kind::Single, Kind::Degrading])]
    servers: Vec<Kind>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Limit::Off, Limit::MaxInFlight, Limit::Adaptive])]
    limits: Vec<Limit>,
    /// How many may wait in weir where there is a limit
    #[arg(long, value_enum, default_value_t = Queue::Short)]
    queue: Queue,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let limits = options.limits.iter().copied();
    let limits: Vec<_> = limits.filter(|&limit| is_known(limit)).collect();
    let mut fine = true;
    for &kind in &options.servers {
        let mut report = Report::new(kind);
        for &load in &options.loads {
            for &limit in &limits {
                report.add(step(&options, kind, load, limit));
            }
        }
        println!("{report}");
        fine &= report.is_fine();
    }
    ExitCode::from(u8::from(!fine))
}

/// Says so if this weir does not take the limit.
fn is_known(limit: Limit) -> bool {
    let refusal = proxy::refusal(limit);
    if let Some(refusal) = &refusal {
        println!("`{limit}` is skipped, since `weir check` refuses it: {refusal}\n");
    }
    refusal.is_none()
}

fn step(options: &Options, kind: Kind, load: f64, limit: Limit) -> Step {
    let origins = Origins::start(kind);
    let text = proxy::config(kind, origins.addresses(), limit, options.queue);
    let (folder, _) = support::folder(&text);
    let weir = support::Program::run(folder.path());
    let length = Duration::from_secs_f64(options.seconds);
    let plan = Plan {
        rate: load * kind.capacity(),
        length,
        uncounted: length / 3,
    };
    let tally = load::run(weir.address("web"), &plan, &origins);
    let step = Step::new(load, limit, tally, plan.counted());
    eprintln!("{kind}, {step}");
    step
}
