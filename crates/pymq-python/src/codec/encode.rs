//! Python values to JSON: one recursion by exact type into one buffer.
//!
//! Beside the value's bytes the types tree grows in a buffer of its own; a method that writes a
//! value says whether it also wrote a node there. It never imports, and calls Python code only
//! for values whose class says so.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::core::CodecCore;
use super::encoding::{Encoding, Shape};
use super::fault::{Fault, Result, Step, type_name};
use super::node::{Branch, ChildKey};
use super::parse::MAX_DIGITS;
use super::{keys, scalar};

/// One message being written.
pub(super) struct Encoder<'c, 'py> {
    pub(super) codec: &'c CodecCore,
    pub(super) py: Python<'py>,
    pub(super) out: Vec<u8>,
    pub(super) types: Vec<u8>,
    /// Levels that an envelope will add around the value.
    around: usize,
    ancestors: Vec<usize>,
    /// The levels that the value has.
    pub(super) deepest: usize,
    /// An attribute of the outermost object is named as a top-level key of the wire.
    pub(super) clashes: bool,
    recent: Option<(usize, Arc<Py<Encoding>>)>,
}

/// What holds a sequence's elements.
enum Elements<'a, 'py> {
    List(&'a Bound<'py, PyList>),
    Tuple(&'a Bound<'py, PyTuple>),
    Collected(&'a [Bound<'py, PyAny>]),
}

impl<'py> Elements<'_, 'py> {
    /// A list may shrink while Python code runs for one of its elements.
    fn get(&self, index: usize) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::List(list) if index < list.len() => list.get_item(index).ok(),
            Self::Tuple(tuple) if index < tuple.len() => tuple.get_item(index).ok(),
            Self::Collected(items) => items.get(index).cloned(),
            Self::List(_) | Self::Tuple(_) => None,
        }
    }
}

impl<'c, 'py> Encoder<'c, 'py> {
    pub(super) fn new(codec: &'c CodecCore, py: Python<'py>, around: usize) -> Self {
        Self {
            codec,
            py,
            out: Vec::with_capacity(512),
            types: Vec::new(),
            around,
            ancestors: Vec::new(),
            deepest: 0,
            clashes: false,
            recent: None,
        }
    }

    /// Writes a value of any kind. Says whether it has a node in the types tree.
    pub(super) fn value(&mut self, value: &Bound<'py, PyAny>) -> Result<bool> {
        if self.primitive(value)? { Ok(false) } else { self.compound(value) }
    }

    /// Writes a value that needs no node, or says that this is none.
    pub(super) fn primitive(&mut self, value: &Bound<'py, PyAny>) -> Result<bool> {
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.text(text)?;
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            self.integer(number)?;
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            scalar::float(&mut self.out, number.value());
        } else if value.is_none() {
            self.out.extend_from_slice(b"null");
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.out.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
        } else {
            return Ok(false);
        }
        Ok(true)
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
            let encoding = encoding.get();
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

    pub(super) fn encoding(&mut self, value: &Bound<'py, PyAny>) -> Result<Arc<Py<Encoding>>> {
        let class = value.get_type_ptr() as usize;
        if let Some((recent, encoding)) = &self.recent
            && *recent == class
        {
            return Ok(Arc::clone(encoding));
        }
        let encoding = self.codec.encoding(class, value)?;
        self.recent = Some((class, Arc::clone(&encoding)));
        Ok(encoding)
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
        let node = self.elements(&Elements::Collected(&items), own)?;
        self.leave();
        Ok(node)
    }

    fn elements(&mut self, elements: &Elements<'_, 'py>, own: Option<&[u8]>) -> Result<bool> {
        let mut branch = Branch::shared(&self.types);
        self.out.push(b'[');
        let mut index = 0;
        while let Some(element) = elements.get(index) {
            if index > 0 {
                self.out.push(b',');
            }
            self.child(&mut branch, ChildKey::Index(index), &element)
                .map_err(|fault| fault.at(Step::Index(index)))?;
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
        if self.primitive(value)? {
            // `null` stands for None whatever a shared node says.
            if !value.is_none() {
                branch.plain(&mut self.types, key);
            }
            return Ok(());
        }
        let mark = branch.begin(&mut self.types, key);
        let is_node = self.compound(value)?;
        branch.end(&mut self.types, key, mark, is_node);
        Ok(())
    }

    pub(super) fn dict(&mut self, dict: &Bound<'py, PyDict>, own: Option<&[u8]>) -> Result<bool> {
        self.enter(dict.as_any())?;
        let (out, types) = (self.out.len(), self.types.len());
        let mut branch = Branch::shared(&self.types);
        self.out.push(b'{');
        let mut entries = Entries::new(dict);
        while let Some((key, value)) = entries.next()? {
            let Ok(key) = key.cast_exact::<PyString>() else {
                self.out.truncate(out);
                self.types.truncate(types);
                let node = keys::dict(self, dict, own)?;
                self.leave();
                return Ok(node);
            };
            self.entry(&mut branch, out + 1, key, &value)
                .map_err(|fault| fault.at(Step::Key(key.to_string_lossy().into_owned())))?;
        }
        self.out.push(b'}');
        self.leave();
        Ok(branch.close(&mut self.types, own))
    }

    /// Writes `"key":value`, with a comma unless it is the first behind `start`.
    pub(super) fn entry(
        &mut self,
        branch: &mut Branch,
        start: usize,
        key: &Bound<'py, PyString>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        if self.out.len() > start {
            self.out.push(b',');
        }
        match key.to_str() {
            Ok(name) => {
                scalar::string(&mut self.out, name);
                self.out.push(b':');
                self.child(branch, ChildKey::Name(name), value)
            }
            Err(_) => {
                let name = self.codec.surrogates(key)?;
                self.out.extend_from_slice(&name);
                self.out.push(b':');
                self.child(branch, ChildKey::Json(&name), value)
            }
        }
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
            while let Some((key, value)) = entries.next()? {
                if let Ok(key) = key.cast::<PyString>()
                    && !is_dunder(key)
                {
                    self.clashes |= self.ancestors.len() == 1 && is_reserved(key);
                    self.field(&mut branch, start, key, &value)?;
                }
            }
        }
        for name in slots {
            let name = name.bind(self.py);
            if let Some(value) = value.getattr_opt(name)? {
                self.field(&mut branch, start, name, &value)?;
            }
        }
        self.out.push(b'}');
        self.leave();
        Ok(branch.close(&mut self.types, own))
    }

    fn field(
        &mut self,
        branch: &mut Branch,
        start: usize,
        name: &Bound<'py, PyString>,
        value: &Bound<'py, PyAny>,
    ) -> Result<()> {
        self.entry(branch, start, name, value)
            .map_err(|fault| fault.at(Step::Field(name.to_string_lossy().into_owned())))
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
        if self.ancestors.len() + self.around <= self.codec.limits.depth {
            return Ok(());
        }
        Err(Fault::new(self.codec.limits.too_deep()))
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

/// The entries of a dict that other code may change meanwhile: PyO3's own iterator would panic.
pub(super) struct Entries<'py> {
    dict: Bound<'py, PyDict>,
    iterator: pyo3::types::iter::BoundDictIterator<'py>,
    size: usize,
    left: usize,
}

impl<'py> Entries<'py> {
    pub(super) fn new(dict: &Bound<'py, PyDict>) -> Self {
        let size = dict.len();
        Self { dict: dict.clone(), iterator: dict.iter(), size, left: size }
    }

    pub(super) fn next(&mut self) -> Result<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        if self.dict.len() != self.size {
            return Err(Fault::new("changed while it was encoded; send a copy, or hold a lock"));
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        Ok(self.iterator.next())
    }
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
