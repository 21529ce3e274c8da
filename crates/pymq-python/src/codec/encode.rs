//! Python values to JSON: one recursion by exact type into one buffer.
//!
//! Beside the value's bytes the types tree grows in a buffer of its own; a method that writes a
//! value says whether it also wrote a node there. It never imports, and calls Python code only
//! for values whose class says so.
#![allow(unsafe_code)] // What `walk` lends is used with care, as argued there and here.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};

use super::core::CodecCore;
use super::encoding::{Encoding, Shape};
use super::exact::{exact, small_integer, utf8};
use super::fault::{Fault, Result, Step, type_name};
use super::flood;
use super::levels::Levels;
use super::node::{Branch, ChildKey};
use super::parse::MAX_DIGITS;
use super::scalar;
use super::walk::{Elements, changed};

/// One message being written.
pub(super) struct Encoder<'c, 'py> {
    pub(super) codec: &'c CodecCore,
    pub(super) py: Python<'py>,
    /// The value's bytes.
    pub(super) out: Vec<u8>,
    /// The types tree.
    pub(super) types: Vec<u8>,
    pub(super) levels: Levels,
    /// An attribute of the outermost object is named as a top-level key of the wire.
    pub(super) clashes: bool,
    recent: Option<(usize, &'static Encoding)>,
}

/// What came of a try to write a value by mere copying.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    Written,
    /// It takes more than that. No Python code has run.
    Left,
    /// It takes more than that, and Python code may have run.
    Failed,
}

/// An encoder's memory, which the next one takes over.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    out: Vec<u8>,
    types: Vec<u8>,
    levels: Vec<usize>,
}

/// Larger buffers are given back: one large message must not hold memory for ever.
const LARGEST_BUFFER: usize = 64 * 1024;

impl Drop for Encoder<'_, '_> {
    fn drop(&mut self) {
        let mut buffers = Buffers {
            out: std::mem::take(&mut self.out),
            types: std::mem::take(&mut self.types),
            levels: self.levels.end(),
        };
        if buffers.out.capacity() + buffers.types.capacity() <= LARGEST_BUFFER {
            buffers.out.clear();
            buffers.types.clear();
            buffers.levels.clear();
            self.codec.give_back(buffers);
        }
    }
}

impl<'c, 'py> Encoder<'c, 'py> {
    pub(super) fn new(codec: &'c CodecCore, py: Python<'py>, around: usize) -> Self {
        let Buffers { out, types, levels } = codec.buffers();
        let levels = Levels::new(around, levels);
        Self { codec, py, out, types, levels, clashes: false, recent: None }
    }

    /// Writes a value of any kind. Says whether it has a node in the types tree.
    pub(super) fn value(&mut self, value: &Bound<'py, PyAny>) -> Result<bool> {
        if self.primitive(value)? { Ok(false) } else { self.compound(value) }
    }

    /// Writes a value that needs no node, or says that this is none.
    pub(super) fn primitive(&mut self, value: &Bound<'py, PyAny>) -> Result<bool> {
        if self.simple(value) == Tried::Written {
            return Ok(true);
        }
        if let Some(text) = exact::<PyString>(value) {
            self.text(text)?;
        } else if let Some(number) = exact::<PyInt>(value) {
            self.integer(number)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The same for values that take no more than copying: unless it fails, no Python code runs,
    /// not even by way of the garbage collector.
    #[inline(always)]
    pub(super) fn simple(&mut self, value: &Bound<'py, PyAny>) -> Tried {
        if let Some(text) = exact::<PyString>(value) {
            let Some(text) = utf8(text) else { return Tried::Failed };
            scalar::string(&mut self.out, text);
        } else if let Some(number) = exact::<PyInt>(value) {
            let Some(number) = small_integer(number) else { return Tried::Left };
            scalar::integer(&mut self.out, number);
        } else if let Some(number) = exact::<PyFloat>(value) {
            scalar::float(&mut self.out, number.value());
        } else if value.is_none() {
            self.out.extend_from_slice(b"null");
        } else if let Some(truth) = exact::<PyBool>(value) {
            self.out.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
        } else {
            return Tried::Left;
        }
        Tried::Written
    }

    fn compound(&mut self, value: &Bound<'py, PyAny>) -> Result<bool> {
        if let Some(dict) = exact::<PyDict>(value) {
            self.dict(dict, None)
        } else if let Some(list) = exact::<PyList>(value) {
            self.list(list, None)
        } else if let Some(tuple) = exact::<PyTuple>(value) {
            self.tuple(tuple, Some(b"\"tuple\""))
        } else {
            let encoding = self.encoding(value)?;
            self.shaped(value, encoding, encoding.tag.as_ref().map(|tag| tag.json.as_slice()))
        }
    }

    /// Writes a value as its class's encoding says, under the tag `own`.
    pub(super) fn shaped(
        &mut self,
        value: &Bound<'py, PyAny>,
        encoding: &Encoding,
        own: Option<&[u8]>,
    ) -> Result<bool> {
        match &encoding.shape {
            Shape::Text => self.text(value.cast::<PyString>().map_err(PyErr::from)?)?,
            Shape::Integer => self.integer(value.cast::<PyInt>().map_err(PyErr::from)?)?,
            Shape::Float => {
                let number = value.cast::<PyFloat>().map_err(PyErr::from)?.value();
                scalar::float(&mut self.out, number);
            }
            Shape::Dict => return self.dict(value.cast().map_err(PyErr::from)?, own),
            Shape::List => return self.list(value.cast().map_err(PyErr::from)?, own),
            Shape::Tuple => return self.tuple(value.cast().map_err(PyErr::from)?, own),
            Shape::Set => return self.collected(value, own),
            Shape::Made(call) => self.made(value, call)?,
            Shape::Member => return self.member(value, own),
            Shape::Object(attributes) => return self.object(value, attributes, own),
            Shape::Arguments => {
                let arguments = value.getattr(intern!(self.py, "args"))?;
                return self.tuple(arguments.cast().map_err(PyErr::from)?, None);
            }
            Shape::Name(call) => {
                self.made(value, call)?;
                return Ok(false);
            }
            Shape::Refused => return Err(refused(value)),
        }
        Ok(Branch::named(&self.types).close(&mut self.types, own))
    }

    pub(super) fn encoding(&mut self, value: &Bound<'py, PyAny>) -> Result<&'static Encoding> {
        let class = value.get_type_ptr() as usize;
        match self.recent {
            Some((recent, encoding)) if recent == class => Ok(encoding),
            _ => {
                let encoding = self.codec.encoding(class, value)?;
                self.recent = Some((class, encoding));
                Ok(encoding)
            }
        }
    }

    pub(super) fn text(&mut self, text: &Bound<'py, PyString>) -> Result<()> {
        match utf8(text) {
            Some(text) => scalar::string(&mut self.out, text),
            None => self.out.extend_from_slice(&self.codec.surrogates(text)?),
        }
        Ok(())
    }

    pub(super) fn integer(&mut self, number: &Bound<'py, PyInt>) -> Result<()> {
        if let Some(number) = small_integer(number) {
            scalar::integer(&mut self.out, number);
            return Ok(());
        }
        let too_long = || {
            format!("an integer of more than {MAX_DIGITS} digits; send it as a string or as bytes")
        };
        // The class's own, since an enum member prints its name.
        let digits = self
            .py
            .get_type::<PyInt>()
            .call_method1(intern!(self.py, "__repr__"), (number,))
            .map_err(|error| Fault::caused(self.py, |_| too_long(), error))?;
        let digits = digits.cast::<PyString>().map_err(PyErr::from)?.to_str()?;
        if digits.trim_start_matches('-').len() > MAX_DIGITS {
            return Err(Fault::new(too_long()));
        }
        self.out.extend_from_slice(digits.as_bytes());
        Ok(())
    }

    fn made(&mut self, value: &Bound<'py, PyAny>, call: &Py<PyAny>) -> Result<()> {
        let text = call.bind(self.py).call1((value,)).map_err(|error| {
            let name = type_name(value);
            Fault::caused(self.py, |text| format!("cannot encode {name}: {text}"), error)
        })?;
        self.text(text.cast::<PyString>().map_err(PyErr::from)?)
    }

    fn member(&mut self, value: &Bound<'py, PyAny>, own: Option<&[u8]>) -> Result<bool> {
        let inner = value.getattr(intern!(self.py, "_value_"))?;
        // What the value is made of is looked up by the enum itself, so it needs no tags.
        let mark = self.types.len();
        self.value(&inner).map_err(|fault| fault.at(Step::Field("value".to_owned())))?;
        self.types.truncate(mark);
        Ok(Branch::named(&self.types).close(&mut self.types, own))
    }

    // ---- collections

    pub(super) fn list(&mut self, list: &Bound<'py, PyList>, own: Option<&[u8]>) -> Result<bool> {
        self.enter(list.as_any())?;
        let node = self.elements(&Elements::List(list), own)?;
        self.leave();
        Ok(node)
    }

    pub(super) fn tuple(
        &mut self,
        tuple: &Bound<'py, PyTuple>,
        own: Option<&[u8]>,
    ) -> Result<bool> {
        self.enter(tuple.as_any())?;
        let node = self.elements(&Elements::Tuple(tuple), own)?;
        self.leave();
        Ok(node)
    }

    fn collected(&mut self, value: &Bound<'py, PyAny>, own: Option<&[u8]>) -> Result<bool> {
        self.enter(value)?;
        let items = value.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        if value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>() {
            flood::check_elements(&items)?;
        }
        let node = self.elements(&Elements::Collected(&items), own)?;
        self.leave();
        Ok(node)
    }

    fn elements(&mut self, elements: &Elements<'_, 'py>, own: Option<&[u8]>) -> Result<bool> {
        let mut branch = Branch::shared(&self.types);
        self.out.push(b'[');
        let (mut index, mut len) = (0, elements.len());
        while index < len {
            if index > 0 {
                self.out.push(b',');
            }
            // SAFETY: `len` was read after the last Python code; where `simple` fails, and so may have
            // run some, the element is fetched anew.
            let element = unsafe { elements.get_borrowed(index) };
            let key = ChildKey::Index(index);
            let written = match self.simple(&element) {
                Tried::Written => {
                    if !element.is_none() {
                        branch.plain(&mut self.types, key);
                    }
                    index += 1;
                    continue;
                }
                Tried::Left => self.left_child(&mut branch, key, &element.to_owned()),
                Tried::Failed => {
                    let element = elements.get(index).ok_or_else(changed)?;
                    self.child(&mut branch, key, &element)
                }
            };
            written.map_err(|fault| fault.at(Step::Index(index)))?;
            len = elements.len();
            index += 1;
        }
        self.out.push(b']');
        Ok(branch.close(&mut self.types, own))
    }

    pub(super) fn child(
        &mut self,
        branch: &mut Branch,
        key: ChildKey<'_>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        if self.simple(value) != Tried::Written {
            return self.left_child(branch, key, value);
        }
        // `null` stands for None whatever a shared node says.
        if !value.is_none() {
            branch.plain(&mut self.types, key);
        }
        Ok(())
    }

    /// The same for a value that `simple` has left.
    fn left_child(
        &mut self,
        branch: &mut Branch,
        key: ChildKey<'_>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        if let Some(text) = exact::<PyString>(value) {
            self.text(text)?;
        } else if let Some(number) = exact::<PyInt>(value) {
            self.integer(number)?;
        } else {
            return self.compound_child(branch, key, value);
        }
        branch.plain(&mut self.types, key);
        Ok(())
    }

    fn compound_child(
        &mut self,
        branch: &mut Branch,
        key: ChildKey<'_>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        let start = self.types.len();
        let class = value.get_type_ptr() as usize;
        if branch.leaf_class == Some(class) {
            if self.untagged(value)? {
                branch.end(&mut self.types, key, start, true);
            }
            return Ok(());
        }
        let is_node = self.compound(value)?;
        if branch.end(&mut self.types, key, start, is_node) {
            let encoding = self.encoding(value)?;
            let tag = encoding.tag.as_ref();
            // A dict's tag also tells its keys' types, which the next of its class need not share.
            let is_class_tag = !matches!(encoding.shape, Shape::Dict)
                && tag.is_some_and(|tag| branch.shares(&self.types, &tag.json));
            branch.leaf_class = is_class_tag.then_some(class);
        }
        Ok(())
    }

    /// Writes a value whose siblings' node is its class's tag: that is said already, unless there
    /// is more to say below it. Says whether there is a node.
    ///
    /// The tag is added afterwards and nothing is written twice: a second writing at each level
    /// would double the work with each.
    fn untagged(&mut self, value: &Bound<'py, PyAny>) -> Result<bool> {
        let encoding = self.encoding(value)?;
        let is_node = self.shaped(value, encoding, None)?;
        if let (true, Some(tag)) = (is_node, &encoding.tag) {
            Branch::add_own(&mut self.types, &tag.json);
        }
        Ok(is_node)
    }

    /// The levels that the value has.
    pub(super) fn deepest(&self) -> usize {
        self.levels.deepest()
    }

    // ---- nesting

    pub(super) fn enter(&mut self, value: &Bound<'py, PyAny>) -> Result<()> {
        self.enter_as(value.as_ptr() as usize)
    }

    /// For a level that no object of the program's stands for.
    pub(super) fn enter_level(&mut self) -> Result<()> {
        self.enter_as(usize::MAX - self.levels.len())
    }

    fn enter_as(&mut self, identity: usize) -> Result<()> {
        if self.levels.enter(identity) > self.codec.limits.depth {
            return Err(Fault::new(self.codec.limits.too_deep()));
        }
        // What stands in many places of one value is written in each: that ends here, at the latest.
        self.codec.limits.check_size(self.out.len() + self.types.len())
    }

    pub(super) fn leave(&mut self) {
        self.levels.leave();
    }

    /// Too deep because of a cycle is told as a cycle, at the place where it closes.
    pub(super) fn explain(&self, mut fault: Fault) -> Fault {
        let Some(beyond) = self.levels.beyond_a_cycle(self.codec.limits.depth) else {
            return fault;
        };
        fault.cut(beyond);
        fault.because("the value contains itself; JSON has no cycles: send an id in its place")
    }
}

fn refused(value: &Bound<'_, PyAny>) -> Fault {
    Fault::new(format!(
        "cannot encode {}; leave it out, or send plain data or a dataclass in its place",
        type_name(value)
    ))
}
