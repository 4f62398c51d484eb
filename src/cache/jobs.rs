//! Work that is worth doing, but not while a client waits: threads of its own, with less right to the processor than those
//! that answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle};

type Job = Box<dyn FnOnce(&Handle) + Send>;

/// A thread, as those see it who have work for it. It ends with the last of them.
#[derive(Clone)]
pub(crate) struct Jobs(Option<SyncSender<Job>>);

impl Jobs {
    pub(crate) fn start(name: &str) -> Self {
        let (sender, jobs) = sync_channel(WAITING);
        let thread = thread::Builder::new().name(name.into());
        // Without the thread there are no jobs, and what they would have made is made for each request.
        Self(thread.spawn(move || work(&jobs)).ok().map(|_| sender))
    }

    /// Whether it will be done. Not if too much waits to be done already.
    pub(crate) fn add(&self, job: impl FnOnce(&Handle) + Send + 'static) -> bool {
        let sender = self.0.as_ref();
        sender.is_some_and(|sender| sender.try_send(Box::new(job)).is_ok())
    }
}

fn work(jobs: &Receiver<Job>) {
    // Of the thread only, on Linux. Where it is refused, it works as hard as the others.
    let _ = setpriority_process(None, NICE);
    let Ok(runtime) = Builder::new_current_thread().build() else {
        return;
    };
    for job in jobs {
        // One that fails must not take those with it that come after.
        let _ = catch_unwind(AssertUnwindSafe(|| job(runtime.handle())));
    }
}

/// So many jobs wait at most. What is not done now is asked for again by the next request.
const WAITING: usize = 64;
/// A tenth of what another thread gets that wants the processor at the same time.
const NICE: i32 = 10;
