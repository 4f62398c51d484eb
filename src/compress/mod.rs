//! Responses that are encoded on their way to the client: which ones, and how. Knows fields and bytes in memory; where
//! they come from and go to is the proxy's.

mod choose;
mod decode;
mod encode;
mod memory;

pub(crate) use choose::{Decision, Plan, Request, decide, plan, plan_or_reason};
pub(crate) use decode::Decoder;
pub(crate) use encode::{Encoder, SLICE};
pub(crate) use memory::{CodecMemory, CodecPermit};
