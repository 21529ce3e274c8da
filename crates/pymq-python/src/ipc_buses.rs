//! The buses of this machine as their files tell, see `pymq.provider.ipc`.

use pyo3::prelude::*;

use crate::error::PyError;

/// A member's process, and how many items it holds.
type Members = Vec<(u32, usize)>;
/// A bus, as `_pymq.pyi` says it: more than twelve parts make no tuple.
type Facts =
    (String, String, (u64, Members, Members), (usize, usize, usize, usize), (Option<String>, bool));

/// The buses of this user under `/dev/shm`.
#[pyfunction]
pub(crate) fn ipc_buses(py: Python<'_>) -> PyResult<Vec<Facts>> {
    py.detach(platform::buses).map_err(|error| PyError::from(error).into())
}

/// The bus of that address, looked at without joining it.
#[pyfunction]
pub(crate) fn ipc_look(py: Python<'_>, address: &str) -> PyResult<Option<Facts>> {
    py.detach(|| platform::look(address)).map_err(|error| PyError::from(error).into())
}

/// Takes away what was left on a bus; gives what is there then.
#[pyfunction]
pub(crate) fn ipc_clean(py: Python<'_>, address: &str) -> PyResult<Option<Facts>> {
    py.detach(|| platform::clean(address)).map_err(|error| PyError::from(error).into())
}

#[cfg(target_os = "linux")]
mod platform {
    use pymq::Result;
    use pymq::transport::ipc::{self, Found, Member};

    use super::{Facts, Members};

    pub(super) fn buses() -> Result<Vec<Facts>> {
        Ok(ipc::buses()?.into_iter().map(facts).collect())
    }

    pub(super) fn look(address: &str) -> Result<Option<Facts>> {
        Ok(ipc::look(address)?.map(facts))
    }

    pub(super) fn clean(address: &str) -> Result<Option<Facts>> {
        Ok(ipc::clean(address)?.map(facts))
    }

    fn facts(found: Found) -> Facts {
        let left = found.has_leftovers();
        (
            found.address,
            found.directory.to_string_lossy().into_owned(),
            (found.bytes, members(&found.living), members(&found.dead)),
            (found.queues, found.items, found.dead_letters, found.unfinished),
            (found.refused, left),
        )
    }

    fn members(members: &[Member]) -> Members {
        members.iter().map(|member| (member.process, member.holds)).collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use pymq::{Error, ErrorKind, Result};

    use super::Facts;

    fn unsupported<T>() -> Result<T> {
        let why = "it needs Linux; use redis:// between processes, memory:// within one";
        Err(Error::new(ErrorKind::Unsupported, "look at", "ipc://", why))
    }

    pub(super) fn buses() -> Result<Vec<Facts>> {
        unsupported()
    }

    pub(super) fn look(_address: &str) -> Result<Option<Facts>> {
        unsupported()
    }

    pub(super) fn clean(_address: &str) -> Result<Option<Facts>> {
        unsupported()
    }
}
