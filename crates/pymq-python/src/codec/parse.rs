//! JSON bytes to plain Python objects, with limits.
//!
//! The tree that comes out is fresh and owned by the decoder, which may change it in place.
//! What the fast parser refuses, Python's own `json` decides, so that numbers and text are
//! exactly Python's.

use jiter::{PythonParse, StringCacheMode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::fault::{Fault, Result};

/// How large a message may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of one message.
    pub(super) bytes: usize,
    /// Arrays and objects within each other.
    pub(super) depth: usize,
}

/// The most digits an integer may have, whatever the interpreter is set to.
pub(super) const MAX_DIGITS: usize = 4300;

impl Limits {
    #[inline]
    pub(super) fn check_size(&self, size: usize) -> Result<()> {
        if size <= self.bytes { Ok(()) } else { Err(self.too_large(size)) }
    }

    #[cold]
    fn too_large(&self, size: usize) -> Fault {
        Fault::new(format!(
            "the message has {size} bytes, more than the limit of {}; send it in parts",
            self.bytes
        ))
    }

    pub(super) fn check(&self, data: &[u8]) -> Result<()> {
        self.check_size(data.len())?;
        // Each level takes an opening and a closing byte.
        if data.len() > 2 * self.depth && depth(data) > self.depth {
            return Err(Fault::new(self.too_deep()));
        }
        Ok(())
    }

    pub(super) fn too_deep(&self) -> String {
        format!("nested deeper than {} levels", self.depth)
    }
}

/// Reads one JSON value.
pub(super) fn parse<'py>(
    py: Python<'py>,
    data: &[u8],
    limits: &Limits,
    slow: &Py<PyAny>,
) -> Result<Bound<'py, PyAny>> {
    limits.check(data)?;
    let fast = PythonParse {
        allow_inf_nan: true,
        cache_mode: StringCacheMode::Keys,
        ..PythonParse::default()
    };
    fast.python_parse(py, data).or_else(|_| {
        let read = slow.bind(py).call1((PyBytes::new(py, data), MAX_DIGITS));
        // Anything else was raised by a signal's handler meanwhile.
        read.map_err(|error| match error.is_instance_of::<PyValueError>(py) {
            true => Fault::caused(py, |text| format!("not valid JSON: {text}"), error),
            false => Fault::signal(error),
        })
    })
}

/// The deepest nesting of arrays and objects. Right for valid JSON, and never too small for the
/// part of invalid JSON that a parser gets to.
fn depth(data: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut bytes = data.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_containers_outside_of_strings() {
        assert_eq!(depth(b"1"), 0);
        assert_eq!(depth(b"[]"), 1);
        assert_eq!(depth(br#"{"a": [1, {"b": "[[[["}], "c\"[": []}"#), 3);
        assert_eq!(depth("[".repeat(1000).as_bytes()), 1000);
    }
}
