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
use super::fault::{Fault, Result, Step, type_name};
use super::flood;
use super::node::{Branch, ChildKey};
use super::parse::MAX_DIGITS;
use super::walk::{Elements, Entries, changed};
use super::{keys, scalar};

/// One message being written.
pub(super) struct Encoder<'c, 'py> {
    pub(super) codec: &'c CodecCore,
    pub(super) py: Python<'py>,
    /// The value's bytes.
    pub(super) out: Vec<u8>,
    /// The types tree.
    pub(super) types: Vec<u8>,
    /// Levels that an envelope will add around the value.
    around: usize,
    ancestors: Vec<usize>,
    /// The levels that the value has.
    pub(super) deepest: usize,
    /// An attribute of the outermost object is named as a top-level key of the wire.
    pub(super) clashes: bool,
    recent: Option<(usize, &'static Encoding)>,
}

/// An encoder's memory, which the next one takes over.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    out: Vec<u8>,
    types: Vec<u8>,
    ancestors: Vec<usize>,
}

/// Larger buffers are given back: one large message must not hold memory for ever.
const LARGEST_BUFFER: usize = 64 * 1024;

impl Drop for Encoder<'_, '_> {
    fn drop(&mut self) {
        let mut buffers = Buffers {
            out: std::mem::take(&mut self.out),
            types: std::mem::take(&mut self.types),
            ancestors: std::mem::take(&mut self.ancestors),
        };
        if buffers.out.capacity() + buffers.types.capacity() <= LARGEST_BUFFER {
            buffers.out.clear();
            buffers.types.clear();
            buffers.ancestors.clear();
            self.codec.give_back(buffers);
        }
    }
}

impl<'c, 'py> Encoder<'c, 'py> {
    pub(super) fn new(codec: &'c CodecCore, py: Python<'py>, around: usize) -> Self {
        let Buffers { out, types, ancestors } = codec.buffers();
        Self { codec, py, out, types, around, ancestors, deepest: 0, clashes: false, recent: None }
    }

    /// Writes a value of any kind. Says whether it has a node in the types tree.
    pub(super) fn value(&mut self, value: &Bound<'py, PyAny>) -> Result<bool> {
        if self.primitive(value)? { Ok(false) } else { self.compound(value) }
    }

    /// Writes a value that needs no node, or says that this is none.
    pub(super) fn primitive(&mut self, value: &Bound<'py, PyAny>) -> Result<bool> {
        if self.simple(value) {
            return Ok(true);
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.text(text)?;
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            self.integer(number)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The same for values that take no more than copying: unless it fails, no Python code runs,
    /// not even by way of the garbage collector.
    #[inline]
    fn simple(&mut self, value: &Bound<'py, PyAny>) -> bool {
        if let Ok(text) = value.cast_exact::<PyString>() {
            let Ok(text) = text.to_str() else { return false };
            scalar::string(&mut self.out, text);
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            let Ok(number) = number.extract::<i64>() else { return false };
            scalar::integer(&mut self.out, number);
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            scalar::float(&mut self.out, number.value());
        } else if value.is_none() {
            self.out.extend_from_slice(b"null");
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.out.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
        } else {
            return false;
        }
        true
    }

    fn compound(&mut self, value: &Bound<'py, PyAny>) -> Result<bool> {
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.dict(dict, None)
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.list(list, None)
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
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
            Shape::Object { dicts, slots } => return self.object(value, dicts, slots, own),
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
        match text.to_str() {
            Ok(text) => scalar::string(&mut self.out, text),
            Err(_) => self.out.extend_from_slice(&self.codec.surrogates(text)?),
        }
        Ok(())
    }

    pub(super) fn integer(&mut self, number: &Bound<'py, PyInt>) -> Result<()> {
        if let Ok(number) = number.extract::<i64>() {
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
            // SAFETY: `len` was read after the last Python code; if `simple` fails, and so may have
            // run some, the element is fetched anew, below.
            let element = unsafe { elements.get_borrowed(index) };
            if self.simple(&element) {
                if !element.is_none() {
                    branch.plain(&mut self.types, ChildKey::Index(index));
                }
            } else {
                if index >= elements.len() {
                    return Err(changed());
                }
                // SAFETY: the length has just been looked at.
                let element = unsafe { elements.get_borrowed(index) }.to_owned();
                self.child(&mut branch, ChildKey::Index(index), &element)
                    .map_err(|fault| fault.at(Step::Index(index)))?;
                len = elements.len();
            }
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
        if !self.primitive(value)? {
            return self.compound_child(branch, key, value);
        }
        // `null` stands for None whatever a shared node says.
        if !value.is_none() {
            branch.plain(&mut self.types, key);
        }
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

    pub(super) fn dict(&mut self, dict: &Bound<'py, PyDict>, own: Option<&[u8]>) -> Result<bool> {
        self.enter(dict.as_any())?;
        // Known before anything is written: what is written twice at each level never ends.
        let node = if has_text_keys(dict)? {
            self.text_dict(dict, own)?
        } else {
            keys::dict(self, dict, own)?
        };
        self.leave();
        Ok(node)
    }

    fn text_dict(&mut self, dict: &Bound<'py, PyDict>, own: Option<&[u8]>) -> Result<bool> {
        let out = self.out.len();
        let mut branch = Branch::shared(&self.types);
        self.out.push(b'{');
        let mut entries = Entries::new(dict);
        while let Some((key, value)) = self.next_entry(&mut entries, &mut branch, out + 1)? {
            let key = key.cast_exact::<PyString>().map_err(|_| changed())?;
            self.entry(&mut branch, out + 1, key, &value, Step::Key)?;
        }
        self.out.push(b'}');
        Ok(branch.close(&mut self.types, own))
    }

    /// Writes entries as long as they are simple, and gives the first that is not.
    fn next_entry(
        &mut self,
        entries: &mut Entries<'_, 'py>,
        branch: &mut Branch,
        start: usize,
    ) -> Result<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        loop {
            let out = self.out.len();
            // SAFETY: `simple_entry` runs no Python code unless it fails, and then the borrowed
            // entry is not touched again.
            let Some((key, value)) = (unsafe { entries.next_borrowed() })? else {
                return Ok(None);
            };
            if !self.simple_entry(branch, start, &key, &value) {
                self.out.truncate(out);
                return entries.again().map(Some);
            }
        }
    }

    fn simple_entry(
        &mut self,
        branch: &mut Branch,
        start: usize,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> bool {
        let Ok(key) = key.cast_exact::<PyString>() else { return false };
        let Ok(name) = key.to_str() else { return false };
        // Names with underscores may be special.
        if name.starts_with("__") {
            return false;
        }
        if self.out.len() > start {
            self.out.push(b',');
        }
        scalar::string(&mut self.out, name);
        self.out.push(b':');
        let written = self.simple(value);
        if written && !value.is_none() {
            branch.plain(&mut self.types, ChildKey::Name(name));
        }
        written
    }

    /// Writes `"key":value`, with a comma unless it is the first behind `start`.
    fn entry(
        &mut self,
        branch: &mut Branch,
        start: usize,
        key: &Bound<'py, PyString>,
        value: &Bound<'py, PyAny>,
        step: fn(String) -> Step,
    ) -> Result<()> {
        if self.out.len() > start {
            self.out.push(b',');
        }
        let from = self.out.len();
        self.text(key)?;
        let name;
        let child = match key.to_str() {
            Ok(name) => ChildKey::Name(name),
            Err(_) => {
                name = self.out[from..].to_vec();
                ChildKey::Json(&name)
            }
        };
        self.out.push(b':');
        self.child(branch, child, value)
            .map_err(|fault| fault.at(step(key.to_string_lossy().into_owned())))
    }

    // ---- objects

    fn object(
        &mut self,
        value: &Bound<'py, PyAny>,
        dicts: &[Py<PyString>],
        slots: &[Py<PyString>],
        own: Option<&[u8]>,
    ) -> Result<bool> {
        self.enter(value)?;
        let mut branch = Branch::named(&self.types);
        self.out.push(b'{');
        let start = self.out.len();
        for name in dicts {
            let attributes = value.getattr(name.bind(self.py))?;
            let Ok(attributes) = attributes.cast::<PyDict>() else { continue };
            let mut entries = Entries::new(attributes);
            while let Some((key, value)) = self.next_entry(&mut entries, &mut branch, start)? {
                if let Ok(key) = key.cast::<PyString>()
                    && !is_dunder(key)
                {
                    self.clashes |= self.ancestors.len() == 1 && is_reserved(key);
                    self.entry(&mut branch, start, key, &value, Step::Field)?;
                }
            }
        }
        for name in slots {
            let name = name.bind(self.py);
            if let Some(value) = value.getattr_opt(name)? {
                self.entry(&mut branch, start, name, &value, Step::Field)?;
            }
        }
        self.out.push(b'}');
        self.leave();
        Ok(branch.close(&mut self.types, own))
    }

    // ---- nesting

    fn enter(&mut self, value: &Bound<'py, PyAny>) -> Result<()> {
        self.enter_as(value.as_ptr() as usize)
    }

    /// For a level that no object of the program's stands for.
    pub(super) fn enter_level(&mut self) -> Result<()> {
        self.enter_as(usize::MAX - self.ancestors.len())
    }

    fn enter_as(&mut self, identity: usize) -> Result<()> {
        self.ancestors.push(identity);
        self.deepest = self.deepest.max(self.ancestors.len());
        if self.ancestors.len() + self.around > self.codec.limits.depth {
            return Err(Fault::new(self.codec.limits.too_deep()));
        }
        // What stands in many places of one value is written in each: that ends here, at the latest.
        self.codec.limits.check_size(self.out.len() + self.types.len())
    }

    pub(super) fn leave(&mut self) {
        self.ancestors.pop();
    }

    /// Too deep because of a cycle is told as a cycle, at the place where it closes.
    pub(super) fn explain(&self, mut fault: Fault) -> Fault {
        let Some(deepest) = self.ancestors.len().checked_sub(1) else { return fault };
        if deepest + 1 + self.around <= self.codec.limits.depth {
            return fault;
        }
        let closes = (1..=deepest).find(|at| self.ancestors[..*at].contains(&self.ancestors[*at]));
        let Some(at) = closes else { return fault };
        fault.cut(deepest - at);
        fault.because("the value contains itself; JSON has no cycles: send an id in its place")
    }
}

fn has_text_keys(dict: &Bound<'_, PyDict>) -> Result<bool> {
    let mut entries = Entries::new(dict);
    // SAFETY: looking at a key's type runs no Python code.
    while let Some((key, _)) = unsafe { entries.next_borrowed() }? {
        if key.cast_exact::<PyString>().is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `__class__` and its like belong to the class, not to the data.
pub(super) fn is_dunder(name: &Bound<'_, PyString>) -> bool {
    name.to_str().is_ok_and(|name| name.len() > 4 && name.starts_with("__") && name.ends_with("__"))
}

/// The wire's own keys of a top-level object.
pub(super) const RESERVED: [&str; 4] = ["__type", "__types", "__obj", "__list"];

fn is_reserved(name: &Bound<'_, PyString>) -> bool {
    name.to_str().is_ok_and(|name| name.starts_with("__") && RESERVED.contains(&name))
}

fn refused(value: &Bound<'_, PyAny>) -> Fault {
    Fault::new(format!(
        "cannot encode {}; leave it out, or send plain data or a dataclass in its place",
        type_name(value)
    ))
}
