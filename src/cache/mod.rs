//! Responses that answer more than one request: which may be stored, for whom and for how long they may be used again, and
//! where they are kept (RFC 9111). Knows fields, bytes and moments that it is handed; what fetches and sends is the proxy's.

mod blocks;
mod caching;
mod collapse;
mod content;
mod encoding;
mod encodings;
mod fetch;
mod fills;
mod jobs;
mod judge;
pub(crate) mod key;
mod lease;
mod ledger;
mod lines;
mod partial;
mod purge;
mod purged;
mod refusal;
mod resource;
mod reuse;
mod store;
mod stored;
mod tags;
#[cfg(test)]
mod testing;
mod update;
mod vary;

pub(crate) use blocks::{BLOCK, Packing};
pub(crate) use caching::Caching;
pub(crate) use collapse::{Joined, Lead};
pub(crate) use content::Content;
pub(crate) use encodings::{Encodings, Form};
pub(crate) use fetch::{Follow, Outcome};
pub(crate) use fills::Reservation;
pub(crate) use judge::{Exchange, is_personal, judge, storable_fields};
pub(crate) use lease::Lease;
pub(crate) use lines::PLACE;
#[cfg(test)]
pub(crate) use lines::PLACES;
pub(crate) use partial::{Partial, unsatisfied};
pub(crate) use purge::Purge;
pub(crate) use purged::Epoch;
pub(crate) use refusal::Refusal;
pub(crate) use resource::{Resource, Selected};
pub(crate) use reuse::{Reuse, reuse};
pub(crate) use store::{Cache as Store, Fetch};
pub(crate) use stored::Stored;
pub(crate) use update::{HeadSays, freshened, head_says, is_of};
pub(crate) use vary::{Asker, Vary};
