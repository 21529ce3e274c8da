//! The Python edge: the whole native API on one screen.
//!
//! It converts, waits without the GIL, and converts. No thread of ours ever attaches to Python, and
//! nothing here calls a Python function of the user's: Python threads come in and pull.

use pyo3::prelude::*;

mod bus;
mod codec;
mod command;
mod completions;
mod delivery;
mod descriptor;
mod door;
mod error;
mod getter;
mod open_items;
mod handover;
mod inspection;
mod intake;
mod io_driver;
mod last_step;
mod dead_letter;
mod log;
mod metadata;
mod operation;
mod pace;
mod options;
mod provider;
mod queue;
mod runtime;
mod source;
mod subscription;
mod ipc_buses;
mod async_getter;
mod this_process;
mod wait;
mod telemetry;

/// Native core of the Python package `pymq`.
#[pymodule(gil_used = true)]
mod _pymq {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::{
        bus::Bus,
        codec::{CallPlan, CodecCore, Encoding, Plan, forget_tags},
        command::main,
        completions::{Completions, Reader},
        delivery::Delivery,
        getter::{Getter, Serving, offer_from},
        open_items::OpenItems,
        inspection::Inspection,
        intake::{Intake, Missed, Place},
        last_step::LastStep,
        dead_letter::Letter,
        log::{Listening, set_log_level, speaks, take_log},
        metadata::Metadata,
        operation::Operation,
        provider::{Call, Missing, Provider, Reply},
        queue::Queue,
        subscription::Subscription,
        ipc_buses::{ipc_buses, ipc_clean, ipc_look},
        async_getter::{AsyncGetter, AsyncServing, Taking, aio_get_from},
        telemetry::watch_items,
    };

    /// Everything that would have to be looked up when it is too late for that.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::log::listen();
        crate::error::find_classes(module.py())
    }

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "a Python module's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
