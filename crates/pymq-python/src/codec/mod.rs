//! Python values to JSON and back, driven by plans.
//!
//! Reflection happens once per class, in Python (`pymq._types` for writing, `pymq._plans` for
//! reading); what it finds is run here per message. Tags are looked up, never imported. Envelopes,
//! names and transports are none of its business.

mod alternatives;
mod call;
mod collection;
mod core;
mod decode;
mod encode;
mod encoding;
mod entries;
mod exact;
mod fault;
mod flood;
mod keys;
mod levels;
mod message;
mod names;
mod node;
mod object;
mod parse;
mod plan;
mod plan_choice;
mod reader;
mod scalar;
mod stream;
mod top_level;
mod walk;
mod work;

pub(crate) use call::CallPlan;
pub(crate) use core::{CodecCore, forget_tags};
pub(crate) use encoding::Encoding;
pub(crate) use plan::Plan;
