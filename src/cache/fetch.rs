//! One fetch that many requests wait for: its outcome, and its body as it comes.
//!
//! Shared by all workers. The one who leads it runs in a task of its own, so that no client's leaving ends it while another
//! waits; it ends when nobody does. Whoever joins counts from then on, and finds all pieces from the first one.
//!
//! What turns out to be larger than may be stored is not kept: pieces that all have taken are let go, and the server is read
//! no faster than the slowest takes them. Who takes nothing for some seconds, while others have all there is, is let go: its
//! body breaks off. Else one client that does not read would keep the response from all who share it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::StatusCode;
use slab::Slab;
use smallvec::SmallVec;

use super::Resource;

/// So many bytes wait at most for the slowest, of a body that is not kept.
const WINDOW: usize = 256 * 1024;

/// What became of a fetch, as far as others may know.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// A response that is stored, or about to be: its body comes in pieces.
    Coming(Arc<Resource>),
    /// A response that is stored, whole, and what the server answered: a 304 if it was there before.
    Stored(Arc<Resource>, StatusCode),
    /// The response is for the one who asked, as those of this target may be for a while.
    Private,
    /// There was none, or one that tells of a failure, with this status.
    Failed(Option<StatusCode>),
    /// There was one that is not for those who waited, as what is fetched next may be.
    Again,
    /// None came for as long as one is waited for.
    TimedOut,
}

/// The body broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

#[derive(Debug, Default)]
pub(super) struct Fetch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    pieces: VecDeque<Bytes>,
    /// How many pieces were let go before the first of `pieces`.
    gone: usize,
    /// Bytes in `pieces`.
    held: usize,
    end: Option<Result<(), Broken>>,
    readers: Slab<Reader>,
    /// Pieces are let go when all have taken them.
    passing: bool,
    /// It goes on though nobody waits.
    background: bool,
    lead: Option<Waker>,
}

#[derive(Debug, Default)]
struct Reader {
    /// Pieces that it has taken.
    taken: usize,
    /// How many they were when it was looked at last.
    seen: usize,
    /// Nobody waits for it any more, and it gets no more.
    let_go: bool,
    waker: Option<Waker>,
}

type Wakers = SmallVec<[Waker; 4]>;

impl State {
    fn wakers(&mut self) -> Wakers {
        let readers = self.readers.iter_mut();
        readers
            .filter_map(|(_, reader)| reader.waker.take())
            .collect()
    }

    /// Lets go of what all have taken.
    fn shed(&mut self) {
        if !self.passing {
            return;
        }
        let least = self.waited_for().map(|reader| reader.taken).min();
        let least = least.unwrap_or(usize::MAX);
        while self.gone < least
            && let Some(piece) = self.pieces.pop_front()
        {
            self.gone += 1;
            self.held -= piece.len();
        }
    }

    fn waited_for(&self) -> impl Iterator<Item = &Reader> {
        let readers = self.readers.iter().map(|(_, reader)| reader);
        readers.filter(|reader| !reader.let_go)
    }

    fn has_room(&self) -> bool {
        !self.passing || self.held < WINDOW
    }

    /// Of what is not kept, nobody has anything who is not here.
    fn is_deserted(&self) -> bool {
        self.waited_for().next().is_none() && (!self.background || self.passing)
    }
}

impl Fetch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more who waits.
    pub(super) fn follow(self: &Arc<Self>) -> Follow {
        let place = self.lock().readers.insert(Reader::default());
        Follow {
            fetch: Arc::clone(self),
            place,
        }
    }

    pub(super) fn is_deserted(&self) -> bool {
        self.lock().is_deserted()
    }

    /// Changes the state, and wakes all who wait for that.
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.lock();
            change(&mut state);
            state.wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn run_in_background(&self) {
        self.lock().background = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().end.is_some()
    }

    /// What others may know; the body follows where it is coming.
    pub(super) fn decide(&self, outcome: Outcome) {
        self.tell(|state| {
            if !matches!(outcome, Outcome::Coming(_)) {
                state.end = Some(Ok(()));
            }
            state.outcome = Some(outcome);
        });
    }

    pub(super) fn push(&self, piece: Bytes) {
        self.tell(|state| {
            state.held += piece.len();
            state.pieces.push_back(piece);
            state.shed();
        });
    }

    /// From here on pieces are not kept.
    pub(super) fn pass(&self) {
        self.tell(|state| {
            state.passing = true;
            state.shed();
        });
    }

    /// Notes how far everybody is.
    pub(super) fn look(&self) {
        let mut state = self.lock();
        for (_, reader) in &mut state.readers {
            reader.seen = reader.taken;
        }
    }

    /// Lets go of those who have taken nothing since [`Self::look`], though there is something, if anybody has taken all and
    /// waits for them.
    pub(super) fn let_go_of_stalled(&self) {
        self.tell(|state| {
            let all = state.gone + state.pieces.len();
            if state.has_room() || !state.waited_for().any(|reader| reader.taken == all) {
                return;
            }
            for (_, reader) in &mut state.readers {
                reader.let_go |= reader.taken < all && reader.taken == reader.seen;
            }
            state.shed();
        });
    }

    /// All pieces, one after the other.
    pub(super) fn pieces(&self) -> Vec<Bytes> {
        self.lock().pieces.iter().cloned().collect()
    }

    /// It is over. Without an outcome, it failed.
    pub(super) fn end(&self, end: Result<(), Broken>) {
        self.tell(|state| {
            state.outcome.get_or_insert(Outcome::Failed(None));
            state.end.get_or_insert(end);
        });
    }

    /// Ready when another piece may be pushed.
    pub(super) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.has_room() {
            return Poll::Ready(());
        }
        state.lead = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when nobody waits any more.
    pub(super) fn poll_deserted(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_deserted() {
            return Poll::Ready(());
        }
        state.lead = Some(context.waker().clone());
        Poll::Pending
    }
}

/// One who waits for a fetch, and then reads its body.
#[derive(Debug)]
pub(crate) struct Follow {
    fetch: Arc<Fetch>,
    place: usize,
}

impl Follow {
    /// What became of it.
    pub(crate) fn poll_outcome(&self, context: &Context<'_>) -> Poll<Outcome> {
        let mut state = self.fetch.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        state.wait(self.place, context);
        Poll::Pending
    }

    /// Leaves without the body. It is fetched all the same, for the store.
    pub(crate) fn leave_to_the_store(self) {
        self.fetch.run_in_background();
    }

    /// The next piece of the body.
    pub(crate) fn poll_piece(
        &mut self,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        let (piece, lead) = {
            let mut state = self.fetch.lock();
            let reader = state.readers.get(self.place);
            if reader.is_some_and(|reader| reader.let_go) {
                return Poll::Ready(Some(Err(Broken)));
            }
            let taken = reader.map_or(0, |reader| reader.taken);
            let next = taken.checked_sub(state.gone);
            let piece = next.and_then(|next| state.pieces.get(next).cloned());
            let Some(piece) = piece else {
                return match state.end {
                    Some(Ok(())) => Poll::Ready(None),
                    Some(Err(broken)) => Poll::Ready(Some(Err(broken))),
                    None => {
                        state.wait(self.place, context);
                        Poll::Pending
                    }
                };
            };
            if let Some(reader) = state.readers.get_mut(self.place) {
                reader.taken += 1;
            }
            let was_full = !state.has_room();
            state.shed();
            let lead = (was_full && state.has_room()).then(|| state.lead.take());
            (piece, lead.flatten())
        };
        if let Some(lead) = lead {
            lead.wake();
        }
        Poll::Ready(Some(Ok(piece)))
    }

    /// Whether all of the body has been taken.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.fetch.lock();
        let all = state.gone + state.pieces.len();
        let reader = state.readers.get(self.place);
        let has_all = reader.is_some_and(|reader| !reader.let_go && reader.taken >= all);
        matches!(state.end, Some(Ok(()))) && has_all
    }
}

impl State {
    fn wait(&mut self, place: usize, context: &Context<'_>) {
        if let Some(reader) = self.readers.get_mut(place) {
            match &mut reader.waker {
                Some(waker) => waker.clone_from(context.waker()),
                waker => *waker = Some(context.waker().clone()),
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let lead = {
            let mut state = self.fetch.lock();
            state.readers.try_remove(self.place);
            state.shed();
            let matters = state.end.is_none() && (state.is_deserted() || state.passing);
            matters.then(|| state.lead.take()).flatten()
        };
        if let Some(lead) = lead {
            lead.wake();
        }
    }
}
