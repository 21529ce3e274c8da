//! Where what threads share and wait with comes from: the standard library, or primitives that try
//! every order of events.
//!
//! `tests/models` compiles this file and those that use it once more, with the `cfg` that is switched
//! here and nowhere else.

#[cfg(pymq_models)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(pymq_models)]
pub(crate) use shuttle::thread;
pub(crate) use std::sync::PoisonError;
#[cfg(not(pymq_models))]
pub(crate) use std::sync::{Mutex, MutexGuard};
#[cfg(not(pymq_models))]
pub(crate) use std::thread;

/// The bell of `ipc://` alone counts with these.
#[cfg(pymq_models)]
pub(crate) use shuttle::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(pymq_models))]
#[allow(unused_imports, reason = "without the feature `ipc` nobody does")]
pub(crate) use std::sync::atomic::{AtomicU32, Ordering};
