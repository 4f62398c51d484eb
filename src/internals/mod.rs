//! What `benches/` times and `tests/fuzz/` fuzzes alone, from outside of the crate. No part of weir's interface, and free
//! to change.

mod fuzzed;
mod servers;
mod timed;

pub use fuzzed::*;
pub use servers::Servers;
pub use timed::*;
