//! JSON straight to typed values, where a message is as it usually is.
//!
//! This is the decoder's fast path and decides nothing: whatever it does not expect stops it, and
//! the whole message is read again by way of a tree. Where it gets to the end, the value is the
//! one that the tree would have given.

use jiter::{JiterError, NumberAny, cached_py_string};
use pymq::wire::tags;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::decode::{ANY, Chosen, Decoder};
use super::fault::{Fault, Step};
use super::names::is_special;
use super::node::{Node, Own};
use super::plan::{Build, Collection, Fields, Kind, Plan, Primitive};
use super::reader::Reader;

/// Why a value is not there.
pub(super) enum Stop {
    /// Not for the fast path to say: bad JSON, or a case that only the tree can tell.
    Unclear,
    Fault(Fault),
}

impl From<JiterError> for Stop {
    fn from(_: JiterError) -> Self {
        Self::Unclear
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Fault(error.into())
    }
}

impl Stop {
    fn at(self, step: impl FnOnce() -> Step) -> Self {
        match self {
            Self::Unclear => Self::Unclear,
            Self::Fault(fault) => Self::Fault(fault.at(step())),
        }
    }
}

pub(super) type Read<T> = std::result::Result<T, Stop>;

/// A message being read from its first byte to its last.
pub(super) struct Stream<'c, 'd, 'py> {
    pub(super) decoder: Decoder<'c, 'py>,
    py: Python<'py>,
    pub(super) reader: Reader<'d>,
    /// Levels that may still be entered.
    levels: usize,
    /// Elements of the arrays that are being read, the innermost last.
    pending: Vec<Bound<'py, PyAny>>,
    /// The fields of the objects that are being read, as far as they have come.
    fields: Vec<Option<Bound<'py, PyAny>>>,
}

/// The class that an object is read as, and what is known of it beforehand.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) plan: &'a Plan,
    pub(super) node: &'a Node,
    pub(super) chosen: Chosen,
    /// At the top level: the tag that the message ends with.
    pub(super) root: Option<&'a str>,
}

impl<'c, 'd, 'py> Stream<'c, 'd, 'py> {
    pub(super) fn new(decoder: Decoder<'c, 'py>, data: &'d [u8]) -> Read<Self> {
        Ok(Self {
            decoder,
            py: decoder.py,
            reader: Reader::new(data)?,
            levels: decoder.codec.limits.depth,
            pending: Vec::with_capacity(32),
            fields: Vec::with_capacity(32),
        })
    }

    /// Reads the whole message.
    pub(super) fn message(mut self, plan: &Plan) -> Read<Bound<'py, PyAny>> {
        let first = self.reader.peek()?;
        let value = if first == b'{' {
            self.top_object(plan)?
        } else {
            self.value(first, plan, None, Node::silent(), Chosen::ByHint)?
        };
        if self.reader.is_done() { Ok(value) } else { Err(Stop::Unclear) }
    }

    // ---- one value

    #[inline(always)]
    pub(super) fn value(
        &mut self,
        first: u8,
        plan: &Plan,
        own: Option<&Own>,
        node: &Node,
        chosen: Chosen,
    ) -> Read<Bound<'py, PyAny>> {
        match (first, &plan.kind, own) {
            (b'n', ..) => self.null(),
            (b'[' | b'{', ..) => {
                self.decoder.work.step(self.py)?;
                self.levels = self.levels.checked_sub(1).ok_or(Stop::Unclear)?;
                let value = self.said_value(first, plan, own, node, chosen);
                self.levels += 1;
                value
            }
            (_, Kind::Primitive(primitive), None) => self.primitive(first, plan, *primitive),
            _ => self.said_value(first, plan, own, node, chosen),
        }
    }

    fn said_value(
        &mut self,
        first: u8,
        plan: &Plan,
        own: Option<&Own>,
        node: &Node,
        chosen: Chosen,
    ) -> Read<Bound<'py, PyAny>> {
        let resolved;
        let (plan, chosen) = match own {
            None => (plan, chosen),
            Some(Own { class, keys: None }) if plan.tag.as_ref() == Some(class) => (plan, chosen),
            Some(Own { class, keys: None }) if plan.is_any() => {
                match self.decoder.resolve(class)? {
                    Some(found) => {
                        resolved = found;
                        (resolved.get().actual(), Chosen::ByTag)
                    }
                    None => return self.by_tree(first, plan, own, node, chosen),
                }
            }
            Some(_) => return self.by_tree(first, plan, own, node, chosen),
        };
        match (&plan.kind, first) {
            (Kind::Primitive(primitive), _) if first != b'[' && first != b'{' => {
                self.primitive(first, plan, *primitive)
            }
            (Kind::Any, _) if node.has_no_children() => self.any(first),
            (Kind::Any, b'[') => self.array(&Collection::List, &ANY, node, chosen),
            (Kind::Any, b'{') => self.entries(&ANY, node, chosen),
            (Kind::Array { into, each: Some(each), .. }, b'[') => {
                self.array(into, each.get().actual(), node, chosen)
            }
            (Kind::Mapping { key, value, make: None }, b'{') if has_text(key.get()) => {
                self.entries(value.get().actual(), node, chosen)
            }
            (Kind::NamedTuple(fields), b'[') => self.named_tuple(plan, fields, node, chosen),
            (Kind::Object { fields, build }, b'{') => {
                let next = self.reader.enter(b'}')?;
                let target = Expected { plan, node, chosen, root: None };
                self.object(&target, fields, build, next)
            }
            _ => self.by_tree(first, plan, None, node, chosen),
        }
    }

    /// Reads a part as a tree, and leaves it to the decoder.
    fn by_tree(
        &mut self,
        first: u8,
        plan: &Plan,
        own: Option<&Own>,
        node: &Node,
        chosen: Chosen,
    ) -> Read<Bound<'py, PyAny>> {
        let tree = self.any(first)?;
        Ok(self.decoder.convert_as(tree, plan, own, node, chosen)?)
    }

    fn primitive(
        &mut self,
        first: u8,
        plan: &Plan,
        primitive: Primitive,
    ) -> Read<Bound<'py, PyAny>> {
        let value = self.scalar(first)?;
        let exact = match primitive {
            Primitive::Str => first == b'"',
            Primitive::Int => value.is_exact_instance_of::<PyInt>(),
            Primitive::Float => value.is_exact_instance_of::<PyFloat>(),
            Primitive::Bool => first == b't' || first == b'f',
        };
        if exact {
            return Ok(value);
        }
        Ok(self.decoder.convert_as(value, plan, None, Node::silent(), Chosen::ByHint)?)
    }

    /// A value about which nothing is said.
    pub(super) fn any(&mut self, first: u8) -> Read<Bound<'py, PyAny>> {
        match first {
            b'[' => self.any_array(),
            b'{' => self.any_object(),
            _ => self.scalar(first),
        }
    }

    /// The same for what is no array and no object.
    #[inline(always)]
    fn scalar(&mut self, first: u8) -> Read<Bound<'py, PyAny>> {
        self.decoder.work.step(self.py)?;
        match first {
            b'"' => Ok(PyString::new(self.py, &self.reader.string()?).into_any()),
            b'n' => self.null(),
            b't' => self.truth(b"true", true),
            b'f' => self.truth(b"false", false),
            _ => match self.reader.short_integer() {
                Some(number) => Ok(number.into_bound_py_any(self.py)?),
                None => self.number(first),
            },
        }
    }

    fn truth(&mut self, word: &[u8], truth: bool) -> Read<Bound<'py, PyAny>> {
        self.reader.word(word)?;
        Ok(PyBool::new(self.py, truth).to_owned().into_any())
    }

    fn null(&mut self) -> Read<Bound<'py, PyAny>> {
        self.reader.word(b"null")?;
        Ok(self.py.None().into_bound(self.py))
    }

    fn any_array(&mut self) -> Read<Bound<'py, PyAny>> {
        self.decoder.work.step(self.py)?;
        self.levels = self.levels.checked_sub(1).ok_or(Stop::Unclear)?;
        let base = self.pending.len();
        let mut next = self.reader.enter(b']')?;
        while let Some(first) = next {
            let element = self.any(first)?;
            self.pending.push(element);
            next = self.reader.next(b']')?;
        }
        self.levels += 1;
        Ok(PyList::new(self.py, self.pending.drain(base..))?.into_any())
    }

    fn any_object(&mut self) -> Read<Bound<'py, PyAny>> {
        self.decoder.work.step(self.py)?;
        self.levels = self.levels.checked_sub(1).ok_or(Stop::Unclear)?;
        let dict = PyDict::new(self.py);
        let mut next = self.reader.enter(b'}')?;
        while next.is_some() {
            let key = cached_py_string(self.py, &self.reader.key()?);
            let first = self.reader.peek()?;
            dict.set_item(key, self.any(first)?)?;
            next = self.reader.next(b'}')?;
        }
        self.levels += 1;
        Ok(dict.into_any())
    }

    fn number(&mut self, first: u8) -> Read<Bound<'py, PyAny>> {
        Ok(match self.reader.number(first)? {
            NumberAny::Int(number) => number.into_bound_py_any(self.py)?,
            NumberAny::Float(number) => PyFloat::new(self.py, number).into_any(),
        })
    }

    // ---- collections

    fn array(
        &mut self,
        into: &Collection,
        each: &Plan,
        node: &Node,
        chosen: Chosen,
    ) -> Read<Bound<'py, PyAny>> {
        let base = self.pending.len();
        let mut next = self.reader.enter(b']')?;
        while let Some(first) = next {
            let index = self.pending.len() - base;
            let child = node.index(index);
            let element = self.value(first, each, child.own.as_ref(), child, chosen);
            self.pending.push(element.map_err(|stop| stop.at(|| Step::Index(index)))?);
            next = self.reader.next(b']')?;
        }
        let elements = self.pending.drain(base..);
        match into {
            Collection::List => Ok(PyList::new(self.py, elements)?.into_any()),
            Collection::Tuple => Ok(PyTuple::new(self.py, elements)?.into_any()),
            _ => Ok(self.decoder.collect(&PyList::new(self.py, elements)?, into)?),
        }
    }

    fn entries(&mut self, each: &Plan, node: &Node, chosen: Chosen) -> Read<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        let mut next = self.reader.enter(b'}')?;
        while next.is_some() {
            let key = self.reader.key()?;
            let child = node.name(key.as_bytes());
            let first = self.reader.peek()?;
            let value = self.value(first, each, child.own.as_ref(), child, chosen);
            let value = value.map_err(|stop| stop.at(|| Step::Key(key.clone().into_owned())))?;
            dict.set_item(cached_py_string(self.py, &key), value)?;
            next = self.reader.next(b'}')?;
        }
        Ok(dict.into_any())
    }

    fn named_tuple(
        &mut self,
        plan: &Plan,
        fields: &Fields,
        node: &Node,
        chosen: Chosen,
    ) -> Read<Bound<'py, PyAny>> {
        let base = self.pending.len();
        let mut next = self.reader.enter(b']')?;
        while let Some(first) = next {
            let index = self.pending.len() - base;
            // Elements beyond the fields are left to the tree.
            let Some((_, plan)) = fields.list.get(index) else { return Err(Stop::Unclear) };
            let child = node.index(index);
            let plan = plan.get().actual();
            let element = self.value(first, plan, child.own.as_ref(), child, chosen);
            self.pending.push(element.map_err(|stop| stop.at(|| field_step(fields, index)))?);
            next = self.reader.next(b']')?;
        }
        for (name, _) in &fields.list[self.pending.len() - base..] {
            self.pending.push(self.decoder.default(plan, fields, name.bind(self.py))?);
        }
        Ok(self.decoder.new_named_tuple(plan, self.pending.drain(base..))?)
    }

    // ---- objects

    /// Reads an object that was gone into; `next` is the first byte of what is in it.
    pub(super) fn object(
        &mut self,
        target: &Expected<'_>,
        fields: &Fields,
        build: &Build,
        mut next: Option<u8>,
    ) -> Read<Bound<'py, PyAny>> {
        let base = self.fields.len();
        self.fields.resize_with(base + fields.list.len(), || None);
        let mut others: Option<Bound<'py, PyDict>> = None;
        let mut tagged = target.root.is_none();
        let (mut expected, mut present) = (0, 0);
        while next.is_some() {
            let is_expected =
                fields.member(expected).is_some_and(|member| self.reader.takes(member));
            let key = if is_expected { None } else { Some(self.reader.key()?) };
            let index = match &key {
                None => Some(expected),
                Some(key) if is_special(key) => {
                    // Elsewhere such names are rare enough to be left to the tree.
                    if target.root.is_none()
                        || key.as_ref() != tags::TYPE
                        || self.reader.peek()? != b'"'
                    {
                        return Err(Stop::Unclear);
                    }
                    tagged = Some(&*self.reader.string()?) == target.root;
                    next = self.reader.next(b'}')?;
                    continue;
                }
                Some(key) => fields.position(key, expected),
            };
            let first = self.reader.peek()?;
            if let Some(index) = index {
                let child = target.node.name(fields.name(index).as_bytes());
                let plan = fields.list[index].1.get().actual();
                let value = self
                    .value(first, plan, child.own.as_ref(), child, target.chosen)
                    .map_err(|stop| stop.at(|| field_step(fields, index)))?;
                present += usize::from(self.fields[base + index].replace(value).is_none());
                expected = index + 1;
            } else if let Some(name) = key {
                let child = target.node.name(name.as_bytes());
                let value = self.value(first, &ANY, child.own.as_ref(), child, Chosen::ByTag);
                let step = || Step::Beside(name.clone().into_owned());
                let value = value.map_err(|stop| stop.at(step))?;
                let name = cached_py_string(self.py, &name);
                others.get_or_insert_with(|| PyDict::new(self.py)).set_item(name, value)?;
            }
            next = self.reader.next(b'}')?;
        }
        if !tagged {
            return Err(Stop::Unclear);
        }
        let constructed = target.chosen == Chosen::ByHint && build.parameters.is_some();
        if constructed
            && others.is_none()
            && let Some(object) = self.call(target.plan, build, base, present)?
        {
            return Ok(object);
        }
        let attributes = others.unwrap_or_else(|| PyDict::new(self.py));
        for ((name, _), value) in fields.list.iter().zip(self.fields.drain(base..)) {
            if let Some(value) = value {
                attributes.set_item(name, value)?;
            }
        }
        Ok(if constructed {
            self.decoder.construct(target.plan, build, &attributes)?
        } else {
            self.decoder.rebuild(target.plan, build, attributes)?
        })
    }

    /// Calls the constructor by position, if that passes all there is of the fields behind `base`.
    fn call(
        &mut self,
        plan: &Plan,
        build: &Build,
        base: usize,
        present: usize,
    ) -> Read<Option<Bound<'py, PyAny>>> {
        let Some(order) = &build.order else { return Ok(None) };
        let fields = &mut self.fields[base..];
        let given = order.iter().take_while(|index| fields[**index].is_some()).count();
        let missing = build.parameters.iter().flatten().skip(given);
        if given < present || missing.into_iter().any(|parameter| parameter.required) {
            return Ok(None);
        }
        let arguments = order[..given].iter().map(|index| fields[*index].take());
        let arguments = PyTuple::new(self.py, arguments)?;
        self.fields.truncate(base);
        Ok(Some(self.decoder.call(plan, arguments)?))
    }
}

fn has_text(key: &Plan) -> bool {
    matches!(key.actual().kind, Kind::Any | Kind::Primitive(Primitive::Str))
}

fn field_step(fields: &Fields, index: usize) -> Step {
    Step::Field(fields.name(index).to_owned())
}
