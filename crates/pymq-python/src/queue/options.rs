//! What Python says of a queue's handle and of a put, by the names that `pymq/_options.py` lists.
//!
//! The one invariant: a name that is not known is an error, so that no option is silently ignored. A
//! new option is its type and its default there and an arm here; what lies between only passes it on.

use pymq::transport::{QueueSpec, Wait};
use pymq::{ByteQueue, PutOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::error::bad_value;
use crate::operation::wait::{length, length_or_none};

/// Options by name, where any were said.
pub(crate) type Said<'a, 'py> = Option<&'a Bound<'py, PyDict>>;

/// The queue, with the options of a handle.
///
/// # Errors
/// `ValueError` and `TypeError` for what cannot be used.
pub(crate) fn of_queue(queue: ByteQueue, said: Said<'_, '_>) -> PyResult<ByteQueue> {
    let mut read = Ok(());
    let queue = queue.with(|spec| read = read_spec(spec, said));
    read.map(|()| queue)
}

fn read_spec(spec: &mut QueueSpec, said: Said<'_, '_>) -> PyResult<()> {
    for (name, value) in said.into_iter().flatten() {
        let name = name.cast_into::<PyString>()?;
        match name.to_str()? {
            // As `queue.Queue` has it: nothing and less is no bound.
            "maxsize" => spec.maxsize = usize::try_from(read::<i64>(&name, &value)?).unwrap_or(0),
            "lease" => {
                let why = "'lease' must be a positive number of seconds";
                spec.lease = length(read(&name, &value)?, why)?;
            }
            "max_deliveries" => spec.max_deliveries = read(&name, &value)?,
            "prefetch" => spec.prefetch = read(&name, &value)?,
            "max_dead_letters" => spec.max_dead_letters = read(&name, &value)?,
            "priorities" => spec.priorities = read(&name, &value)?,
            unknown => return Err(no_option("queue", unknown)),
        }
    }
    Ok(())
}

/// How a put waits, and what else is said of it.
///
/// # Errors
/// `ValueError` and `TypeError` for what cannot be used.
pub(crate) fn of_put(wait: Wait, said: Said<'_, '_>) -> PyResult<PutOptions> {
    let mut options = PutOptions::from(wait);
    let mut window = None;
    for (name, value) in said.into_iter().flatten() {
        let name = name.cast_into::<PyString>()?;
        match name.to_str()? {
            "delay" => {
                if let Some(delay) = read(&name, &value)? {
                    let why = "'delay' must be a number of seconds from 0";
                    options = options.delay(length_or_none(delay, why)?);
                }
            }
            "id" => {
                if let Some(id) = read::<Option<String>>(&name, &value)? {
                    options = options.id(id);
                }
            }
            "window" => {
                let why = "'window' must be a positive number of seconds";
                window = Some(length(read(&name, &value)?, why)?);
            }
            "priority" => {
                let priority = u8::try_from(read::<i64>(&name, &value)?);
                options =
                    options.priority(priority.map_err(|_| bad_value("'priority' is 0 to 9"))?);
            }
            unknown => return Err(no_option("put", unknown)),
        }
    }
    // An id may come behind its window.
    Ok(match window {
        Some(window) => options.within(window),
        None => options,
    })
}

/// An option's value; one of another type is told by the option's name.
fn read<'py, T>(name: &Bound<'py, PyString>, value: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    value.extract::<T>().map_err(|error| {
        let error: PyErr = error.into();
        match error.is_instance_of::<PyTypeError>(name.py()) {
            true => PyTypeError::new_err(format!("{name}: {}", error.value(name.py()))),
            false => error,
        }
    })
}

fn no_option(function: &str, name: &str) -> PyErr {
    PyTypeError::new_err(format!("{function}() got an unexpected keyword argument '{name}'"))
}
