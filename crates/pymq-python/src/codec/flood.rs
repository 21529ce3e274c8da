//! Floods of one hash: many different elements or keys that all hash alike make a set or a dict
//! compare each with each.
//!
//! Text is hashed by Python with a secret, but the hashes of numbers, and of tuples of numbers, can
//! be computed beforehand. So many of one hash are refused, on both sides.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PySet, PyString, PyTuple};

use super::exact::exact;
use super::fault::{Fault, Result};
use super::work::Work;

/// The most different elements or keys of one hash. Values that nobody chose for it come nowhere near.
pub(super) const MOST_OF_ONE_HASH: usize = 100;

/// Shorter texts are no numbers of which so many could have one hash.
const SHORTEST_NUMBER: usize = 16;

/// The hashes of one set's elements or one dict's keys.
#[derive(Debug, Default)]
pub(super) struct Hashes(HashMap<isize, usize>);

impl Hashes {
    /// Counts an element or a key that was new.
    pub(super) fn add(&mut self, hash: isize) -> Result<()> {
        let of_one = self.0.entry(hash).or_default();
        *of_one += 1;
        if *of_one > MOST_OF_ONE_HASH {
            return Err(flood());
        }
        Ok(())
    }
}

fn flood() -> Fault {
    Fault::new(format!(
        "more than {MOST_OF_ONE_HASH} different elements or keys of one hash: they would take the \
         receiver minutes; send them as a list"
    ))
}

/// The hashes of elements that are known to differ.
pub(super) fn check_elements(elements: &[Bound<'_, PyAny>]) -> Result<()> {
    if elements.len() <= MOST_OF_ONE_HASH {
        return Ok(());
    }
    let mut hashes = Hashes::default();
    elements.iter().try_for_each(|element| hashes.add(element.hash()?))
}

/// A set of a list's elements.
pub(super) fn set<'py>(list: &Bound<'py, PyList>, work: &Work) -> Result<Bound<'py, PySet>> {
    let py = list.py();
    let unhashable =
        |error| Fault::caused(py, |text| format!("an element of a set: {text}"), error);
    if list.len() <= MOST_OF_ONE_HASH {
        return PySet::new(py, list.iter()).map_err(unhashable);
    }
    let set = PySet::empty(py)?;
    let mut hashes = Hashes::default();
    for element in list.iter() {
        work.step(py)?;
        let size = set.len();
        set.add(&element).map_err(unhashable)?;
        if set.len() > size {
            hashes.add(element.hash()?)?;
        }
    }
    Ok(set)
}

/// Refuses plain data of which a model could make such a set or dict, in whichever field.
pub(super) fn check_tree(value: &Bound<'_, PyAny>, number: &Py<PyAny>, work: &Work) -> Result<()> {
    if let Some(list) = exact::<PyList>(value) {
        let mut alike = Alike::new(list.len());
        for element in list.iter() {
            check_tree(&element, number, work)?;
            alike.add(&element, number, work)?;
        }
    } else if let Some(dict) = exact::<PyDict>(value) {
        let mut alike = Alike::new(dict.len());
        for (key, value) in dict.iter() {
            check_tree(&value, number, work)?;
            alike.add(&key, number, work)?;
        }
    }
    Ok(())
}

/// The different values of each hash, as far as it can be computed beforehand.
struct Alike<'py>(Option<HashMap<isize, Vec<Bound<'py, PyAny>>>>);

impl<'py> Alike<'py> {
    fn new(len: usize) -> Self {
        Self((len > MOST_OF_ONE_HASH).then(HashMap::new))
    }

    fn add(&mut self, value: &Bound<'py, PyAny>, number: &Py<PyAny>, work: &Work) -> Result<()> {
        let Some(groups) = &mut self.0 else { return Ok(()) };
        work.step(value.py())?;
        let Some(hash) = known_hash(value, number)? else { return Ok(()) };
        let group = groups.entry(hash).or_default();
        for other in group.iter() {
            if other.eq(value)? {
                return Ok(());
            }
        }
        group.push(value.clone());
        if group.len() > MOST_OF_ONE_HASH { Err(flood()) } else { Ok(()) }
    }
}

/// The hash that a model's value would have: of a number, of the number that a text stands for, of
/// a tuple in an array's place.
fn known_hash(value: &Bound<'_, PyAny>, number: &Py<PyAny>) -> Result<Option<isize>> {
    let py = value.py();
    if value.is_exact_instance_of::<PyInt>() || value.is_exact_instance_of::<PyFloat>() {
        return Ok(Some(value.hash()?));
    }
    if let Some(text) = exact::<PyString>(value) {
        let looks_so = |text: &str| {
            text.len() >= SHORTEST_NUMBER
                && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-._eE/ ".contains(&byte))
        };
        if !text.to_str().is_ok_and(looks_so) {
            return Ok(None);
        }
        let number = number.bind(py).call1((text,))?;
        return Ok(if number.is_none() { None } else { Some(number.hash()?) });
    }
    let Some(list) = exact::<PyList>(value) else { return Ok(None) };
    let mut parts = Vec::with_capacity(list.len());
    for element in list.iter() {
        match known_hash(&element, number)? {
            Some(hash) => parts.push(hash),
            None => return Ok(None),
        }
    }
    Ok(Some(PyTuple::new(py, parts)?.hash()?))
}
