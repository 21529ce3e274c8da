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
mod error;
mod getter;
mod hand;
mod handover;
mod inspection;
mod intake;
mod io_driver;
mod letter;
mod log;
mod metadata;
mod operation;
mod provider;
mod queue;
mod runtime;
mod source;
mod subscription;
mod survey;
mod taking;
mod this_process;
mod wait;
mod watch;

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
        getter::{Getter, Serving, get_from},
        hand::Hand,
        inspection::Inspection,
        intake::{Intake, Missed, Place},
        letter::Letter,
        log::{Listening, set_log_level, speaks, take_log},
        metadata::Metadata,
        operation::Operation,
        provider::{Call, Missing, Provider, Reply},
        queue::Queue,
        subscription::Subscription,
        taking::{AsyncGetter, AsyncServing, Taking, aio_get_from},
        watch::watch_items,
    };
    use crate::codec::{CallPlan, CodecCore, Encoding, Plan, forget_tags};

    #[pymodule_export]
    use crate::bus::Bus;
    #[pymodule_export]
    use crate::command::main;
    #[pymodule_export]
    use crate::completions::Completions;
    #[pymodule_export]
    use crate::completions::Reader;
    #[pymodule_export]
    use crate::delivery::Delivery;
    #[pymodule_export]
    use crate::getter::{Getter, Serving, get_from};
    #[pymodule_export]
    use crate::hand::Hand;
    #[pymodule_export]
    use crate::inspection::Inspection;
    #[pymodule_export]
    use crate::intake::{Intake, Missed, Place};
    #[pymodule_export]
    use crate::letter::Letter;
    #[pymodule_export]
    use crate::metadata::Metadata;
    #[pymodule_export]
    use crate::operation::Operation;
    #[pymodule_export]
    use crate::provider::Call;
    #[pymodule_export]
    use crate::provider::Missing;
    #[pymodule_export]
    use crate::provider::Provider;
    #[pymodule_export]
    use crate::provider::Reply;
    #[pymodule_export]
    use crate::queue::Queue;
    #[pymodule_export]
    use crate::subscription::Subscription;
    #[pymodule_export]
    use crate::survey::{ipc_buses, ipc_clean, ipc_look};
    #[pymodule_export]
    use crate::taking::{AsyncGetter, AsyncServing, Taking, aio_get_from};
    #[pymodule_export]
    use crate::watch::watch_items;

    #[pymodule_export]
    use crate::log::{Listening, set_log_level, speaks, take_log};

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
