//! JSON straight to typed values, where a message is as it usually is.
//!
//! This is the decoder's fast path and decides nothing: whatever it does not expect stops it, and
//! the whole message is read again by way of a tree. Where it gets to the end, the value is the
//! one that the tree would have given.

use jiter::{Jiter, JiterError, NumberAny, NumberInt, Peek, cached_py_string};
use pymq::wire::tags;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::decode::{ANY, Chosen, Decoder};
use super::fault::{Fault, Step};
use super::node::{Node, Own};
use super::plan::{Build, Collection, Fields, Kind, Plan, Primitive};

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
    pub(super) data: &'d [u8],
    pub(super) jiter: Jiter<'d>,
    /// Levels that may still be entered.
    levels: usize,
    /// Elements of the arrays that are being read, the innermost last.
    pending: Vec<Bound<'py, PyAny>>,
}

/// The class that an object is read as, and what is known of it beforehand.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) plan: &'a Plan,
    pub(super) node: &'a Node,
    pub(super) chosen: Chosen,
    /// At the top level: the tag that the message ends with.
    pub(super) root: Option<&'a str>,
    pub(super) is_root: bool,
}

impl<'c, 'd, 'py> Stream<'c, 'd, 'py> {
    pub(super) fn new(decoder: Decoder<'c, 'py>, data: &'d [u8]) -> Self {
        let jiter = Jiter::new(data).with_allow_inf_nan();
        Self {
            decoder,
            py: decoder.py,
            data,
            jiter,
            levels: decoder.codec.limits.depth,
            pending: Vec::with_capacity(32),
        }
    }

    /// Reads the whole message.
    pub(super) fn message(mut self, plan: &Plan) -> Read<Bound<'py, PyAny>> {
        let peek = self.jiter.peek()?;
        let value = if peek == Peek::Object {
            self.top_object(plan)?
        } else {
            self.value(peek, plan, None, Node::silent(), Chosen::ByHint)?
        };
        self.jiter.finish()?;
        Ok(value)
    }

    // ---- one value

    pub(super) fn value(
        &mut self,
        peek: Peek,
        plan: &Plan,
        own: Option<&Own>,
        node: &Node,
        chosen: Chosen,
    ) -> Read<Bound<'py, PyAny>> {
        if peek == Peek::Null {
            self.jiter.known_null()?;
            return Ok(self.py.None().into_bound(self.py));
        }
        if peek == Peek::Array || peek == Peek::Object {
            self.decoder.work.step(self.py)?;
            self.levels = self.levels.checked_sub(1).ok_or(Stop::Unclear)?;
            let value = self.said_value(peek, plan, own, node, chosen);
            self.levels += 1;
            return value;
        }
        self.said_value(peek, plan, own, node, chosen)
    }

    fn said_value(
        &mut self,
        peek: Peek,
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
                    None => return self.by_tree(peek, plan, own, node, chosen),
                }
            }
            Some(_) => return self.by_tree(peek, plan, own, node, chosen),
        };
        let target = Expected { plan, node, chosen, root: None, is_root: false };
        match (&plan.kind, peek) {
            (Kind::Any, _) if node.has_no_children() => self.any(peek),
            (Kind::Any, Peek::Array) => self.array(&Collection::List, &ANY, node, chosen),
            (Kind::Any, Peek::Object) => self.entries(&ANY, node, chosen),
            (Kind::Primitive(primitive), _) => self.primitive(peek, plan, *primitive),
            (Kind::Array { into, each: Some(each), .. }, Peek::Array) => {
                self.array(into, each.get().actual(), node, chosen)
            }
            (Kind::Mapping { key, value, make: None }, Peek::Object) if has_text(key.get()) => {
                self.entries(value.get().actual(), node, chosen)
            }
            (Kind::NamedTuple(fields), Peek::Array) => self.named_tuple(target, fields),
            (Kind::Object { fields, build }, Peek::Object) => self.object(target, fields, build),
            _ => self.by_tree(peek, plan, None, node, chosen),
        }
    }

    /// Reads a part as a tree, and leaves it to the decoder.
    fn by_tree(
        &mut self,
        peek: Peek,
        plan: &Plan,
        own: Option<&Own>,
        node: &Node,
        chosen: Chosen,
    ) -> Read<Bound<'py, PyAny>> {
        let tree = self.any(peek)?;
        Ok(self.decoder.convert_as(tree, plan, own, node, chosen)?)
    }

    fn primitive(
        &mut self,
        peek: Peek,
        plan: &Plan,
        primitive: Primitive,
    ) -> Read<Bound<'py, PyAny>> {
        let value = self.any(peek)?;
        let exact = match primitive {
            Primitive::Str => peek == Peek::String,
            Primitive::Int => value.is_exact_instance_of::<PyInt>(),
            Primitive::Float => value.is_exact_instance_of::<PyFloat>(),
            Primitive::Bool => peek == Peek::True || peek == Peek::False,
        };
        if exact {
            return Ok(value);
        }
        Ok(self.decoder.convert_as(value, plan, None, Node::silent(), Chosen::ByHint)?)
    }

    /// A value about which nothing is said.
    pub(super) fn any(&mut self, peek: Peek) -> Read<Bound<'py, PyAny>> {
        self.decoder.work.step(self.py)?;
        Ok(match peek {
            Peek::String => PyString::new(self.py, self.jiter.known_str()?).into_any(),
            Peek::Null => {
                self.jiter.known_null()?;
                self.py.None().into_bound(self.py)
            }
            Peek::True | Peek::False => {
                PyBool::new(self.py, self.jiter.known_bool(peek)?).to_owned().into_any()
            }
            Peek::Array => {
                self.levels = self.levels.checked_sub(1).ok_or(Stop::Unclear)?;
                let base = self.pending.len();
                let mut next = self.jiter.known_array()?;
                while let Some(peek) = next {
                    let element = self.any(peek)?;
                    self.pending.push(element);
                    next = self.jiter.array_step()?;
                }
                self.levels += 1;
                PyList::new(self.py, self.pending.drain(base..))?.into_any()
            }
            Peek::Object => {
                self.levels = self.levels.checked_sub(1).ok_or(Stop::Unclear)?;
                let dict = PyDict::new(self.py);
                let mut next = self.jiter.known_object()?;
                while let Some(key) = next {
                    let key = cached_py_string(self.py, key);
                    let peek = self.jiter.peek()?;
                    dict.set_item(key, self.any(peek)?)?;
                    next = self.jiter.next_key()?;
                }
                self.levels += 1;
                dict.into_any()
            }
            _ => match self.jiter.known_number(peek)? {
                NumberAny::Int(NumberInt::Int(number)) => number.into_bound_py_any(self.py)?,
                NumberAny::Int(number) => number.into_bound_py_any(self.py)?,
                NumberAny::Float(number) => PyFloat::new(self.py, number).into_any(),
            },
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
        let mut next = self.jiter.known_array()?;
        while let Some(peek) = next {
            let index = self.pending.len() - base;
            let child = node.index(index);
            let element = self.value(peek, each, child.own.as_ref(), child, chosen);
            self.pending.push(element.map_err(|stop| stop.at(|| Step::Index(index)))?);
            next = self.jiter.array_step()?;
        }
        let elements = self.pending.drain(base..);
        match into {
            Collection::Tuple => Ok(PyTuple::new(self.py, elements)?.into_any()),
            _ => Ok(self.decoder.collect(&PyList::new(self.py, elements)?, into)?),
        }
    }

    fn entries(&mut self, each: &Plan, node: &Node, chosen: Chosen) -> Read<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        let mut next = self.jiter.known_object()?;
        while let Some(key) = next {
            let child = node.name(key.as_bytes());
            let key = cached_py_string(self.py, key);
            let peek = self.jiter.peek()?;
            let value = self.value(peek, each, child.own.as_ref(), child, chosen);
            let step = || Step::Key(key.to_string_lossy().into_owned());
            dict.set_item(&key, value.map_err(|stop| stop.at(step))?)?;
            next = self.jiter.next_key()?;
        }
        Ok(dict.into_any())
    }

    fn named_tuple(&mut self, target: Expected<'_>, fields: &Fields) -> Read<Bound<'py, PyAny>> {
        let base = self.pending.len();
        let mut next = self.jiter.known_array()?;
        while let Some(peek) = next {
            let index = self.pending.len() - base;
            // Elements beyond the fields are left to the tree.
            let Some((name, plan)) = fields.list.get(index) else { return Err(Stop::Unclear) };
            let child = target.node.index(index);
            let plan = plan.get().actual();
            let element = self.value(peek, plan, child.own.as_ref(), child, target.chosen);
            self.pending.push(element.map_err(|stop| stop.at(|| field_step(self.py, name)))?);
            next = self.jiter.array_step()?;
        }
        for (name, _) in &fields.list[self.pending.len() - base..] {
            self.pending.push(self.decoder.default(target.plan, fields, name.bind(self.py))?);
        }
        Ok(self.decoder.new_named_tuple(target.plan, self.pending.drain(base..))?)
    }

    // ---- objects

    pub(super) fn object(
        &mut self,
        target: Expected<'_>,
        fields: &Fields,
        build: &Build,
    ) -> Read<Bound<'py, PyAny>> {
        let mut values: Vec<Option<Bound<'py, PyAny>>> = vec![None; fields.list.len()];
        let mut others: Option<Bound<'py, PyDict>> = None;
        let mut tagged = target.root.is_none();
        let (mut expected, mut present) = (0, 0);
        let mut next = self.jiter.known_object()?;
        while let Some(name) = next {
            if name.starts_with("__") {
                if !target.is_root {
                    // Dunder names are rare enough to be left to the tree.
                    return Err(Stop::Unclear);
                }
                match name {
                    tags::TYPES if target.root.is_some() && present == 0 => {
                        self.jiter.next_skip()?;
                    }
                    tags::TYPE if target.root.is_some() => {
                        tagged = Some(self.jiter.next_str()?) == target.root;
                    }
                    _ => return Err(Stop::Unclear),
                }
                next = self.jiter.next_key()?;
                continue;
            }
            let child = target.node.name(name.as_bytes());
            if let Some(index) = fields.position(name, expected) {
                let (name, plan) = &fields.list[index];
                let peek = self.jiter.peek()?;
                let value = self
                    .value(peek, plan.get().actual(), child.own.as_ref(), child, target.chosen)
                    .map_err(|stop| stop.at(|| field_step(self.py, name)))?;
                present += usize::from(values[index].replace(value).is_none());
                expected = index + 1;
            } else {
                let name = cached_py_string(self.py, name);
                let peek = self.jiter.peek()?;
                let value = self.value(peek, &ANY, child.own.as_ref(), child, Chosen::ByTag);
                let step = || Step::Beside(name.to_string_lossy().into_owned());
                let value = value.map_err(|stop| stop.at(step))?;
                others.get_or_insert_with(|| PyDict::new(self.py)).set_item(&name, value)?;
            }
            next = self.jiter.next_key()?;
        }
        if !tagged {
            return Err(Stop::Unclear);
        }
        let constructed = target.chosen == Chosen::ByHint && build.parameters.is_some();
        if constructed
            && others.is_none()
            && let Some(object) = self.call(target.plan, build, &values, present)?
        {
            return Ok(object);
        }
        let attributes = others.unwrap_or_else(|| PyDict::new(self.py));
        for ((name, _), value) in fields.list.iter().zip(values) {
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

    /// Calls the constructor by position, if that passes all there is.
    fn call(
        &self,
        plan: &Plan,
        build: &Build,
        values: &[Option<Bound<'py, PyAny>>],
        present: usize,
    ) -> Read<Option<Bound<'py, PyAny>>> {
        let Some(order) = &build.order else { return Ok(None) };
        let given = order.iter().take_while(|index| values[**index].is_some()).count();
        let missing = build.parameters.iter().flatten().skip(given);
        if given < present || missing.into_iter().any(|parameter| parameter.required) {
            return Ok(None);
        }
        let arguments: Vec<_> =
            order[..given].iter().map(|index| values[*index].as_ref()).collect();
        let arguments = PyTuple::new(self.py, arguments)?;
        Ok(Some(self.decoder.call(plan, arguments)?))
    }
}

fn has_text(key: &Plan) -> bool {
    matches!(key.actual().kind, Kind::Any | Kind::Primitive(Primitive::Str))
}

fn field_step(py: Python<'_>, name: &Py<PyString>) -> Step {
    Step::Field(name.bind(py).to_string_lossy().into_owned())
}
