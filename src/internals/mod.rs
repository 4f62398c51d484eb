//! What `benches/` times and `tests/fuzz/` fuzzes alone, from outside of the crate. No part of weir's interface, and free
//! to change.

mod fuzzed;
mod servers;
mod store;
mod timed;

pub use fuzzed::*;
pub use servers::Servers;
pub use store::Store;
pub use timed::*;
