//! An encoder at work: on the worker, or, where that takes too long, on the thread beside it.
//!
//! At the default levels a slice takes less than a millisecond, and to hand it over would cost more than it saves. At higher
//! ones it may take forty, in which a worker would answer nobody.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::compress::{CodecPermit, Encoder};

/// The encoder of one body.
pub(super) struct AtWork {
    at: At,
    is_quick: bool,
}

enum At {
    Here(Box<Held>),
    /// It comes back with what was made of it.
    Away(Beside<Done>),
    /// It has ended the encoding: the last bytes.
    Ended(Vec<u8>),
    Failed(io::Error),
    /// What became of it was told.
    Gone,
}

/// An encoder, and the leave to have it: for as long as it is there, also if the client leaves while it is away.
struct Held {
    encoder: Encoder,
    _permit: CodecPermit,
}

/// What a step leaves.
enum Done {
    Encoder(Box<Held>),
    /// All that had not been handed out, with the end.
    Rest(Vec<u8>),
}

impl AtWork {
    /// `is_quick`: each step takes little enough time for the worker.
    pub(super) fn new(encoder: Encoder, permit: CodecPermit, is_quick: bool) -> Self {
        Self {
            at: At::Here(Box::new(Held {
                encoder,
                _permit: permit,
            })),
            is_quick,
        }
    }

    pub(super) fn is_quick(&self) -> bool {
        self.is_quick
    }

    /// The encoder between two steps.
    pub(super) fn encoder(&mut self) -> Option<&mut Encoder> {
        match &mut self.at {
            At::Here(held) => Some(&mut held.encoder),
            At::Away(_) | At::Ended(_) | At::Failed(_) | At::Gone => None,
        }
    }

    pub(super) fn is_holding(&self) -> bool {
        matches!(&self.at, At::Here(held) if held.encoder.is_holding())
    }

    /// What the encoding ends with, once.
    pub(super) fn take_rest(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.at, At::Gone) {
            At::Ended(rest) => Some(rest),
            at => {
                self.at = at;
                None
            }
        }
    }

    /// Has something done by the encoder, which is to be here.
    pub(super) fn step(
        &mut self,
        step: impl FnOnce(&mut Encoder) -> io::Result<()> + Send + 'static,
    ) {
        self.begin(move |mut held| {
            step(&mut held.encoder)?;
            Ok(Done::Encoder(held))
        });
    }

    /// Has the encoding ended.
    pub(super) fn finish(&mut self) {
        self.begin(|held| held.encoder.finish().map(Done::Rest));
    }

    fn begin(&mut self, step: impl FnOnce(Box<Held>) -> io::Result<Done> + Send + 'static) {
        self.at = match std::mem::replace(&mut self.at, At::Gone) {
            At::Here(held) if self.is_quick => At::of(step(held)),
            At::Here(held) => At::Away(Beside::run(move || step(held))),
            at => at,
        };
    }

    /// Ready when no step is under way.
    ///
    /// # Errors
    /// How the last one failed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let At::Away(step) = &mut self.at {
            self.at = At::of(ready!(Pin::new(step).poll(context)));
        }
        match std::mem::replace(&mut self.at, At::Gone) {
            At::Failed(error) => return Poll::Ready(Err(error)),
            At::Gone => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            at => self.at = at,
        }
        Poll::Ready(Ok(()))
    }
}

impl At {
    fn of(done: io::Result<Done>) -> Self {
        match done {
            Ok(Done::Encoder(held)) => Self::Here(held),
            Ok(Done::Rest(rest)) => Self::Ended(rest),
            Err(error) => Self::Failed(error),
        }
    }
}

/// What is done on the thread beside the worker. Not if nobody waits for it any more by the time it would begin.
pub(super) struct Beside<T>(JoinHandle<io::Result<T>>);

impl<T: Send + 'static> Beside<T> {
    pub(super) fn run(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> Self {
        Self(spawn_blocking(job))
    }
}

impl<T> Future for Beside<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(done.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}

impl<T> Drop for Beside<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::compress::CodecMemory;
    use crate::semantics::coding::Coding;

    /// Else those who come and leave at once would fill the memory with what waits for its turn.
    #[test]
    fn what_waits_for_clients_that_left_is_paid_for_and_not_done() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (release, released) = std::sync::mpsc::channel::<()>();
            let busy = spawn_blocking(move || released.recv());
            let memory = CodecMemory::default();
            let take = || memory.take(Coding::Br, 6);
            let is_done = Arc::new(AtomicBool::new(false));
            let mut all = Vec::new();
            while let Some(permit) = take() {
                let encoder = Encoder::new(Coding::Br, 6, None).unwrap();
                let mut work = AtWork::new(encoder, permit, false);
                let is_done = Arc::clone(&is_done);
                work.step(move |_| {
                    is_done.store(true, Ordering::SeqCst);
                    Ok(())
                });
                all.push(work);
            }
            drop(all);
            assert!(take().is_none(), "they are still there");
            release.send(()).unwrap();
            busy.await.unwrap().unwrap();
            // Behind all of them.
            spawn_blocking(|| ()).await.unwrap();
            assert!(take().is_some());
            assert!(!is_done.load(Ordering::SeqCst));
        });
    }
}
