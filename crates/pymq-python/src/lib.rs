//! The Python edge: the whole native API on one screen.
//!
//! It converts, waits without the GIL, and converts. No thread of ours ever attaches to Python, and
//! nothing here calls a Python function of the user's: Python threads come in and pull.

use pyo3::prelude::*;

mod bus;
mod codec;
mod command;
mod connection;
mod error;
mod inspection;
mod intake;
mod log;
mod metadata;
mod operation;
mod process;
mod queue;
mod runtime;
mod ipc_buses;
mod this_process;

/// Native core of the Python package `pymq`.
#[pymodule(gil_used = true)]
mod _pymq {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::{
        bus::Bus,
        codec::{CallPlan, CodecCore, Encoding, Plan, forget_tags},
        command::main,
        inspection::Inspection,
        intake::provider::{Call, Missing, Provider, Reply},
        intake::subscription::Subscription,
        intake::{Intake, Missed, Place},
        ipc_buses::{ipc_buses, ipc_clean, ipc_look},
        log::{Listening, set_log_level, speaks, take_log},
        metadata::Metadata,
        operation::Operation,
        operation::completions::{Completions, Reader},
        queue::Queue,
        queue::async_getter::{AsyncGetter, AsyncServing, Taking, aio_get_from},
        queue::dead_letter::Letter,
        queue::delivery::Delivery,
        queue::getter::{Getter, Serving, offer_from},
        queue::last_step::LastStep,
        queue::open_items::OpenItems,
        queue::telemetry::watch_items,
    };

    /// Everything that would have to be looked up when it is too late for that.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::process::watch_forks();
        crate::log::listen();
        crate::error::find_classes(module.py())
    }

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "a Python module's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
