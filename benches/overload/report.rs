//! The tables, and what they come to.

use std::fmt::{self, Display};
use std::time::Duration;

use crate::load::Tally;
use crate::origin::Kind;
use crate::proxy::Limit;

/// The load that is judged, and what goodput has to be there, as a share of the peak.
const OVERLOAD: f64 = 3.0;
const ENOUGH: f64 = 0.9;

/// How much may be refused of what the servers can do.
const FEW: f64 = 0.01;

/// Later than this, requests were not sent as planned.
const PUNCTUAL: Duration = Duration::from_millis(20);

/// One load on one kind of servers with one limit.
pub(crate) struct Step {
    /// As a multiple of the capacity.
    load: f64,
    limit: Limit,
    tally: Tally,
    seconds: f64,
}

impl Step {
    pub(crate) fn new(load: f64, limit: Limit, mut tally: Tally, counted: Duration) -> Self {
        tally.accepted.sort_unstable();
        tally.refused.sort_unstable();
        tally.inside.sort_unstable();
        tally.lag.sort_unstable();
        Self {
            load,
            limit,
            tally,
            seconds: counted.as_secs_f64(),
        }
    }

    fn rate(&self, count: usize) -> f64 {
        count as f64 / self.seconds
    }

    fn goodput(&self) -> f64 {
        self.rate(self.tally.accepted.len())
    }

    fn refused(&self) -> f64 {
        self.tally.refused.len() as f64 / self.tally.offered() as f64
    }
}

/// What is told as soon as the step is over.
impl Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            load, limit, tally, ..
        } = self;
        write!(
            out,
            "{load}x, {limit}: {} of {} are good; sent with a lag of {} ms (p99)",
            tally.accepted.len(),
            tally.offered(),
            milliseconds(&tally.lag, 0.99)
        )
    }
}

/// All steps with one kind of servers.
pub(crate) struct Report {
    kind: Kind,
    steps: Vec<Step>,
}

impl Report {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            steps: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn peak(&self) -> f64 {
        let goodput = self.steps.iter().map(Step::goodput);
        goodput.fold(self.kind.capacity(), f64::max)
    }

    /// Whether every limit does what it is there for.
    pub(crate) fn is_fine(&self) -> bool {
        let limited = |step: &&Step| step.limit != Limit::Off;
        self.steps.iter().filter(limited).all(|step| {
            let sheds_too_much = step.load < 1.0 && step.refused() > FEW;
            let collapses = step.load == OVERLOAD && step.goodput() < ENOUGH * self.peak();
            !sheds_too_much && !collapses
        })
    }

    fn row(&self, step: &Step, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &step.tally;
        writeln!(
            out,
            "| {}x | {:13} | {:.0} | {:.0} | {:.0} % | {} | {} | {:.1} | {} | {:.1} | {:.1} | {} | {} |",
            step.load,
            step.limit,
            step.rate(tally.offered()),
            step.goodput(),
            100.0 * step.goodput() / self.peak(),
            milliseconds(&tally.accepted, 0.5),
            milliseconds(&tally.accepted, 0.99),
            step.rate(tally.refused.len()),
            milliseconds(&tally.refused, 0.99),
            step.rate(tally.given_up),
            step.rate(tally.failed),
            quantile(&tally.inside, 0.5).unwrap_or(0),
            quantile(&tally.inside, 1.0).unwrap_or(0),
        )
    }

    fn verdict(&self, step: &Step, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alike = || self.steps.iter().filter(|other| other.limit == step.limit);
        let unloaded = alike().min_by(|one, other| one.load.total_cmp(&other.load));
        let unloaded = unloaded.map_or(&step.tally, |step| &step.tally);
        write!(
            out,
            "- `{}` at {}x: goodput {:.0} % of the peak, p99 of accepted requests {} ms (at the lowest load: {} ms)",
            step.limit,
            step.load,
            100.0 * step.goodput() / self.peak(),
            milliseconds(&step.tally.accepted, 0.99),
            milliseconds(&unloaded.accepted, 0.99),
        )?;
        if step.limit != Limit::Off {
            for below in alike().filter(|other| other.load < 1.0) {
                let refused = 100.0 * below.refused();
                write!(out, ", refused at {}x: {refused:.2} %", below.load)?;
            }
        }
        writeln!(out)
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = self.kind.capacity();
        writeln!(
            out,
            "## {}: capacity {capacity:.0}/s, peak {:.0}/s\n",
            self.kind,
            self.peak()
        )?;
        writeln!(
            out,
            "| load | limit | offered/s | goodput/s | of the peak | accepted p50 ms | p99 ms | refused/s | p99 ms \
             | given up/s | failed/s | in flight per server | max |"
        )?;
        writeln!(out, "|---|---|{}", "--:|".repeat(11))?;
        for step in &self.steps {
            self.row(step, out)?;
        }
        writeln!(out)?;
        for step in self.steps.iter().filter(|step| step.load == OVERLOAD) {
            self.verdict(step, out)?;
        }
        let lags = self.steps.iter();
        let lags = lags.filter_map(|step| quantile(&step.tally.lag, 0.99));
        match lags.max() {
            Some(lag) if lag > PUNCTUAL => writeln!(
                out,
                "- The machine was too busy to believe this: requests were sent up to {} ms late (p99).",
                lag.as_millis()
            ),
            _ => Ok(()),
        }
    }
}

fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).round() as usize])
}

fn milliseconds(sorted: &[Duration], share: f64) -> String {
    let time = quantile(sorted, share);
    time.map_or("–".to_owned(), |time| time.as_millis().to_string())
}
