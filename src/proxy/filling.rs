//! The body of a fetch on its way: to all who wait, piece by piece as it comes, and into the store when it is whole.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::fill::Fill;
use super::learned::{Learned, Own, OwnFields};
use super::record::Record;
use super::respond::{original, prepared};
use super::upstream_body::UpstreamBody;
use crate::cache::{BLOCK, Caching, Packing, Refusal, Reservation, Resource, Store, Stored};
use crate::config::Cache;
use crate::deadline::{self, Ticks};
use crate::http1::read_buffer::READ_SIZE;

impl Fill {
    /// Reads a response into the store, and hands it to all who wait as it comes.
    pub(super) async fn fill(mut self, caching: &Caching, rules: &Cache, filling: Filling) {
        let Filling {
            record,
            mut body,
            head,
            own,
            reservation,
        } = filling;
        let mut reservation = Some(reservation);
        // So much is reserved already.
        let mut covered = head.length.unwrap_or(0);
        let asked = Rc::clone(&record.request);
        let Ok(resource) = Resource::of_one(&self.key, self.asker(&asked.headers), &head, rules)
        else {
            return;
        };
        self.tell(Own::Coming(Arc::clone(&head), own, Learned::of(&record)));
        drop(record);
        self.lead.coming(Arc::new(resource));
        let max = caching.store.max_object_size();
        let mut packing = caching.store.packing();
        let mut size = 0_u64;
        loop {
            let piece = match self.piece(&mut body, &mut packing).await {
                Piece::Data(piece) => piece,
                Piece::Other => continue,
                Piece::End => break,
                // The lead tells by its end.
                Piece::Broken => return self.push_all(packing.rest()),
                Piece::Deserted => return,
            };
            let length = piece.len() as u64;
            size += length;
            let more = length.saturating_sub(covered) + COST_OF_PIECE;
            covered = covered.saturating_sub(length);
            let fits = |reserved: &mut Reservation| size <= max && reserved.grow(more);
            if reservation.as_mut().is_some_and(|reserved| !fits(reserved)) {
                // From here on it waits for those who read it.
                reservation = None;
                self.lead.pass();
                if size > max {
                    let now = deadline::now();
                    let fetch = self.fetch(&asked.headers, rules);
                    caching
                        .store
                        .mark_uncacheable(fetch, &head.headers, Refusal::TooLarge, now)
                        .await;
                }
            }
            if reservation.is_some() {
                packing.push(&piece);
                self.push_all(packing.whole());
                continue;
            }
            self.push_all(packing.rest());
            self.lead.push(of_its_own(piece));
            if self.is_deserted_before_there_is_room().await {
                return;
            }
        }
        self.push_all(packing.rest());
        if reservation.is_some() {
            let mut body = self.lead.pieces();
            if body.len() as u64 > FEW_PIECES + size / (BLOCK as u64 / 2) {
                // It came bit by bit.
                body = packed(body, &caching.store).await;
            }
            let headers = prepared(head.status, original(&head.headers), Some(size));
            let stored = head.with_body(headers, body);
            // If it is not taken, who comes next fetches it anew.
            let fetch = self.fetch(&asked.headers, rules);
            let _ = caching.store.put(fetch, stored).await;
        }
        self.lead.complete();
    }

    /// Waits for the slowest, but not for good where others have all there is.
    async fn is_deserted_before_there_is_room(&mut self) -> bool {
        let mut patience = None;
        std::future::poll_fn(|context| {
            if self.lead.poll_deserted(context).is_ready() {
                return Poll::Ready(true);
            }
            loop {
                if self.lead.poll_room(context).is_ready() {
                    return Poll::Ready(false);
                }
                let deadline = patience.get_or_insert_with(|| self.proxy.deadlines.deadline());
                if deadline.is_armed() {
                    ready!(deadline.poll_over(context));
                    self.lead.let_go_of_stalled();
                }
                self.lead.look();
                deadline.arm(Ticks::of(PATIENCE));
            }
        })
        .await
    }

    fn push_all(&self, pieces: impl IntoIterator<Item = Bytes>) {
        for piece in pieces {
            self.lead.push(piece);
        }
    }

    /// The next piece. If it takes a while, what is packed is handed out before.
    async fn piece(&mut self, body: &mut UpstreamBody, packing: &mut Packing) -> Piece {
        std::future::poll_fn(|context| {
            match body.poll_next(context, Some(READ_SIZE)) {
                Poll::Ready(None) => return Poll::Ready(Piece::End),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Piece::Broken),
                Poll::Ready(Some(Ok(frame))) => {
                    return Poll::Ready(match frame.into_data() {
                        Ok(data) => Piece::Data(data),
                        // Trailers are not stored, as RFC 9111 §3 allows.
                        Err(_) => Piece::Other,
                    });
                }
                Poll::Pending => self.push_all(packing.rest()),
            }
            self.lead.poll_deserted(context).map(|()| Piece::Deserted)
        })
        .await
    }
}

/// A response on its way into the store.
pub(super) struct Filling {
    pub(super) record: Box<Record>,
    pub(super) body: Box<UpstreamBody>,
    pub(super) head: Arc<Stored>,
    pub(super) own: OwnFields,
    pub(super) reservation: Reservation,
}

enum Piece {
    Data(Bytes),
    Other,
    End,
    Broken,
    Deserted,
}

/// A piece that holds on to no more memory than its bytes.
fn of_its_own(piece: Bytes) -> Bytes {
    if piece.len() < READ_SIZE / 2 {
        Bytes::copy_from_slice(&piece)
    } else {
        piece
    }
}

/// The same bytes as they are stored. Others have their turn in between.
pub(super) async fn packed(received: Vec<Bytes>, store: &Store) -> Vec<Bytes> {
    let mut packing = store.packing();
    let mut since = 0;
    for piece in received {
        packing.push(&piece);
        since += piece.len();
        if since > COPY_AT_A_STRETCH {
            since = 0;
            tokio::task::yield_now().await;
        }
    }
    packing.end()
}

/// So long a client that takes nothing may hold up those who share a response with it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body in more pieces than half full blocks would be, and so many, is packed anew when it is whole.
const FEW_PIECES: u64 = 4;

/// What a piece takes beside its bytes.
const COST_OF_PIECE: u64 = 96;

/// Some 0.1 ms.
const COPY_AT_A_STRETCH: usize = 1 << 20;
