//! Where what threads share and wait with comes from: the standard library.
//!
//! `tests/models` compiles the files that name this module once more, with primitives in its place
//! that try every order of events.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
pub(crate) use std::thread;
