//! An encoder at work: on the worker, or, where that takes too long, on the thread beside it.
//!
//! At the default levels a slice takes less than a millisecond, and to hand it over would cost more than it saves. At higher
//! ones it may take forty, in which a worker would answer nobody.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::compress::Encoder;

/// The encoder of one body.
pub(super) struct AtWork {
    at: At,
    is_quick: bool,
}

enum At {
    Here(Box<Encoder>),
    /// It comes back with what was made of it.
    Away(JoinHandle<io::Result<Done>>),
    /// It has ended the encoding: the last bytes.
    Ended(Vec<u8>),
    Failed(io::Error),
    /// What became of it was told.
    Gone,
}

/// What a step leaves.
pub(super) enum Done {
    Encoder(Box<Encoder>),
    /// All that had not been handed out, with the end.
    Rest(Vec<u8>),
}

impl AtWork {
    /// `is_quick`: each step takes little enough time for the worker.
    pub(super) fn new(encoder: Encoder, is_quick: bool) -> Self {
        Self {
            at: At::Here(Box::new(encoder)),
            is_quick,
        }
    }

    pub(super) fn is_quick(&self) -> bool {
        self.is_quick
    }

    /// The encoder between two steps.
    pub(super) fn encoder(&mut self) -> Option<&mut Encoder> {
        match &mut self.at {
            At::Here(encoder) => Some(encoder),
            At::Away(_) | At::Ended(_) | At::Failed(_) | At::Gone => None,
        }
    }

    pub(super) fn is_holding(&self) -> bool {
        matches!(&self.at, At::Here(encoder) if encoder.is_holding())
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

    /// Makes a step with the encoder, which is to be here.
    pub(super) fn begin(
        &mut self,
        step: impl FnOnce(Box<Encoder>) -> io::Result<Done> + Send + 'static,
    ) {
        self.at = match std::mem::replace(&mut self.at, At::Gone) {
            At::Here(encoder) if self.is_quick => At::of(step(encoder)),
            At::Here(encoder) => At::Away(spawn_blocking(move || step(encoder))),
            at => at,
        };
    }

    pub(super) fn flush(&mut self) {
        self.begin(|mut encoder| {
            encoder.flush()?;
            Ok(Done::Encoder(encoder))
        });
    }

    /// Ready when no step is under way.
    ///
    /// # Errors
    /// How the last one failed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let At::Away(step) = &mut self.at {
            let done = ready!(Pin::new(step).poll(context));
            self.at = At::of(done.unwrap_or_else(|error| Err(io::Error::other(error))));
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
            Ok(Done::Encoder(encoder)) => Self::Here(encoder),
            Ok(Done::Rest(rest)) => Self::Ended(rest),
            Err(error) => Self::Failed(error),
        }
    }
}
