//! The Python edge: the whole native API on one screen.
//!
//! It converts, waits without the GIL, and converts. No thread of ours ever attaches to Python: Python
//! threads come in and pull, and what is called of the user's, such as a class's constructor, runs on them.

use pyo3::prelude::*;

mod bus;
mod codec;
mod command;
mod connection;
mod error;
mod inspection;
mod intake;
mod ipc_buses;
mod log;
mod metadata;
mod operation;
mod process;
mod queue;
mod runtime;
mod this_process;

/// Native core of the Python package `pymq`. It relies on the GIL: `codec/walk.rs` borrows what lists and
/// dicts hold without counting references, and another thread must not change them meanwhile.
#[pymodule(gil_used = true)]
mod _pymq {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::{
        bus::Bus,
        codec::{CallPlan, CodecCore, Encoding, Plan, forget_tags},
        command::main,
        inspection::Inspection,
        intake::{Call, Intake, Missed, Missing, Provider, Reply, Reservation, Subscription},
        ipc_buses::{ipc_buses, ipc_clean, ipc_look},
        log::{Listening, set_log_level, speaks, take_log},
        metadata::Metadata,
        operation::{Completions, Operation, Reader},
        queue::{
            AsyncGetter, AsyncServing, Delivery, Getter, LastStep, Letter, OpenItems, Queue,
            Serving, Taking, aio_get_from, offer_from, watch_items,
        },
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
