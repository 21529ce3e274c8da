//! Plain trees to typed values: hints first, then tags.
//!
//! The tree is the decoder's own and changed in place (but within a union, whose alternatives all read
//! it), so a part about which neither a hint nor a tag says anything is not even visited. What only a tag
//! chose is built without running any code of its class, and so is everything below it.

use std::sync::Arc;

use pymq::wire::tags;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyType};

use super::alternatives::is_scalar;
use super::core::CodecCore;
use super::exact::exact;
use super::fault::{Fault, Result, Step, type_name};
use super::flood;
use super::keys::KeyTypes;
use super::node::{Node, Own, python_name};
use super::parse::{MAX_DIGITS, parse};
use super::plan::{Fields, Kind, Plan, Primitive};
use super::plan_choice::PlanChoice;
use super::stream::{Stop, Stream};
use super::work::Work;

/// Who chose the class that is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Chosen {
    ByHint,
    ByTag,
}

/// What a place asks for, beside the value and the node.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    plan: &'a Plan,
    pub(super) chosen: Chosen,
    pub(super) keys: Option<&'a KeyTypes>,
    container: Option<&'a Plan>,
}

/// One message being read.
#[derive(Clone, Copy)]
pub(super) struct Decoder<'c, 'py> {
    pub(super) codec: &'c CodecCore,
    pub(super) py: Python<'py>,
    pub(super) work: &'c Work,
    /// Alternatives may still have to read the same tree: nothing in it is changed.
    pub(super) is_shared: bool,
}

/// A text that is longer is no integer that may be sent, whatever the interpreter is set to.
const LONGEST_NUMBER: usize = MAX_DIGITS + 100;

pub(super) static ANY: Plan = Plan { kind: Kind::Any, tag: None, class: None };

impl<'c, 'py> Decoder<'c, 'py> {
    pub(super) fn new(codec: &'c CodecCore, py: Python<'py>, work: &'c Work) -> Self {
        Self { codec, py, work, is_shared: false }
    }
}

impl<'py> Decoder<'_, 'py> {
    /// Decodes a whole message.
    pub(super) fn message(self, data: &[u8], plan: Option<&Plan>) -> Result<Bound<'py, PyAny>> {
        self.codec.limits.check_size(data.len())?;
        let plan_or_any = plan.unwrap_or(&ANY);
        let streamed =
            Stream::new(self, data).and_then(|stream| stream.message(plan_or_any.actual()));
        match streamed {
            Ok(value) => return Ok(value),
            Err(Stop::Fault(fault)) => return Err(fault),
            Err(Stop::Unclear) => {}
        }
        let (value, own, node) = self.unwrapped(self.parsed(data)?)?;
        let own = node.own.as_ref().or(own.as_ref());
        self.convert_as(value, plan_or_any, own, &node, Chosen::ByHint)
    }

    /// Decodes a call's result: the tag decides, and the hint where the tag says nothing better.
    pub(super) fn result(
        self,
        data: &[u8],
        tag: &str,
        types: Option<&[u8]>,
        plan: Option<&Plan>,
    ) -> Result<Bound<'py, PyAny>> {
        let node = self.tree(types)?;
        let tag = Node::tagged(tag);
        let own = node.own.as_ref().or(tag.own.as_ref());
        let class = own.map_or("", |own| own.class.as_str());
        if let Some(plan) = plan.map(Plan::actual)
            && self.helps(plan, class)?
        {
            let known = self.resolve(class)?.is_some();
            let hinted = own.filter(|_| known);
            match self.convert_as(self.parsed(data)?, plan, hinted, &node, Chosen::ByHint) {
                Err(fault) if fault.is_refusal() => {}
                result => return result,
            }
        }
        self.convert_as(self.parsed(data)?, &ANY, own, &node, Chosen::ByTag)
    }

    /// May a return hint shape a result of this tag, which the original would not look at?
    fn helps(self, plan: &Plan, class: &str) -> Result<bool> {
        if plan.tag.as_deref() == Some(class) {
            return Ok(true);
        }
        let builds_class =
            matches!(plan.kind, Kind::Object { .. } | Kind::NamedTuple(_) | Kind::Model { .. });
        let Some(tagged) = self.resolve(class)? else { return Ok(builds_class) };
        Ok(match &plan.kind {
            Kind::Any | Kind::Primitive(_) | Kind::Refused(_) => false,
            Kind::Union(_) | Kind::Literal(_) | Kind::TypedDict { .. } => true,
            _ if class == "dict" && builds_class => true,
            Kind::Array { .. } => matches!(tagged.get().kind, Kind::Array { .. }),
            Kind::Mapping { .. } => matches!(tagged.get().kind, Kind::Mapping { .. }),
            _ => self.is_subclass(tagged.get(), plan),
        })
    }

    pub(super) fn parsed(self, data: &[u8]) -> Result<Bound<'py, PyAny>> {
        parse(self.py, data, &self.codec.limits, self.codec.loads())
    }

    pub(super) fn tree(self, types: Option<&[u8]>) -> Result<Arc<Node>> {
        let Some(types) = types else { return Ok(Arc::new(Node::default())) };
        if let Some(node) = self.codec.tree(types) {
            return Ok(node);
        }
        let node = Arc::new(Node::read(&self.parsed(types)?)?);
        self.codec.keep_tree(types, &node);
        Ok(node)
    }

    /// Takes the wire's own keys off a top-level value.
    fn unwrapped(self, value: Bound<'py, PyAny>) -> Result<(Bound<'py, PyAny>, Option<Own>, Node)> {
        let plain = |value| Ok((value, None, Node::default()));
        let Some(dict) = exact::<PyDict>(&value) else { return plain(value) };
        let tag = dict.get_item(intern!(self.py, tags::TYPE))?;
        let was_tagged = tag.is_some();
        let mut node = Node::default();
        if was_tagged {
            dict.del_item(intern!(self.py, tags::TYPE))?;
            if let Some(types) = dict.get_item(intern!(self.py, tags::TYPES))? {
                dict.del_item(intern!(self.py, tags::TYPES))?;
                node = Node::read(&types)?;
            }
        }
        let tag = match tag.map(Bound::cast_into_exact::<PyString>) {
            Some(Ok(tag)) => Some(tag.to_string_lossy().into_owned()),
            Some(Err(_)) => {
                self.unknown("a tag that is no string")?;
                None
            }
            None => None,
        };
        let own = tag.as_deref().and_then(|tag| Node::tagged(tag).own);
        if let Some(object) = dict.get_item(intern!(self.py, tags::OBJECT))? {
            return Ok((object, own, node));
        }
        // No peer writes this one without a tag: alone it is a user's own key.
        if was_tagged && let Some(list) = dict.get_item(intern!(self.py, tags::LIST))? {
            let node = match tag {
                Some(tag) if !node.has_each() => Node::of_each(&tag),
                _ => node,
            };
            return Ok((list, None, node));
        }
        Ok((value, own, node))
    }

    // ---- one value

    /// Builds what `plan` and `node` make of `value`.
    pub(super) fn convert(
        self,
        value: Bound<'py, PyAny>,
        plan: &Plan,
        node: &Node,
        chosen: Chosen,
    ) -> Result<Bound<'py, PyAny>> {
        self.convert_as(value, plan, node.own.as_ref(), node, chosen)
    }

    /// The same with another tag than the node's own.
    pub(super) fn convert_as(
        self,
        value: Bound<'py, PyAny>,
        plan: &Plan,
        own: Option<&Own>,
        node: &Node,
        chosen: Chosen,
    ) -> Result<Bound<'py, PyAny>> {
        if value.is_none() {
            return Ok(value);
        }
        self.work.step(self.py)?;
        let plan = plan.actual();
        let wanted = Wanted { plan, chosen, keys: None, container: None };
        match own {
            None if plan.is_any() && node.has_no_children() => Ok(value),
            None => self.shape(value, wanted, node),
            Some(own) => self.tagged(value, wanted, own, node),
        }
    }

    fn tagged(
        self,
        value: Bound<'py, PyAny>,
        wanted: Wanted<'_>,
        own: &Own,
        node: &Node,
    ) -> Result<Bound<'py, PyAny>> {
        let class = own.class.as_str();
        let wanted = Wanted { keys: own.keys.as_ref(), ..wanted };
        if wanted.plan.tag.as_deref() == Some(class) {
            return self.shape(value, wanted, node);
        }
        if let Kind::Union(members) = &wanted.plan.kind
            && let Some(member) = self.member_of_class(members, class)
        {
            return self.tagged(value, Wanted { plan: member, ..wanted }, own, node);
        }
        match self.choose(wanted.plan, class, wanted.chosen)? {
            PlanChoice::Hint => self.shape(value, wanted, node),
            PlanChoice::Tag(plan) => {
                let plan = plan.get().actual();
                self.shape(value, Wanted { plan, chosen: Chosen::ByTag, ..wanted }, node)
            }
            PlanChoice::Container(plan) => {
                self.shape(value, Wanted { container: Some(plan.get()), ..wanted }, node)
            }
        }
    }

    /// A list whose elements may be replaced.
    pub(super) fn own_list(self, list: &Bound<'py, PyList>) -> Result<Bound<'py, PyList>> {
        if self.is_shared { Ok(PyList::new(self.py, list.iter())?) } else { Ok(list.clone()) }
    }

    /// A dict whose entries may be replaced.
    pub(super) fn own_dict(self, dict: &Bound<'py, PyDict>) -> Result<Bound<'py, PyDict>> {
        if self.is_shared { Ok(dict.copy()?) } else { Ok(dict.clone()) }
    }

    fn shape(
        self,
        value: Bound<'py, PyAny>,
        wanted: Wanted<'_>,
        node: &Node,
    ) -> Result<Bound<'py, PyAny>> {
        let Wanted { plan, chosen, .. } = wanted;
        match &plan.kind {
            Kind::Any => self.plain(value, wanted, node),
            Kind::Primitive(primitive) => self.primitive(value, plan, *primitive),
            Kind::Scalar { make, rebuild } => {
                let make = rebuild.as_ref().filter(|_| chosen == Chosen::ByTag).unwrap_or(make);
                self.scalar(value, plan, make)
            }
            Kind::Array { into, each, fixed } => {
                let list = expect_list(&value, plan, self.py)?;
                let each = each.as_ref().map(|each| each.get().actual());
                let list = self.elements(list, each, fixed, node, chosen)?;
                let into = match wanted.container.map(|container| &container.kind) {
                    Some(Kind::Array { into, .. }) => into,
                    _ => into,
                };
                self.collect(&list, into)
            }
            Kind::Mapping { key, value: each, make } => {
                let make = match wanted.container.map(|container| &container.kind) {
                    Some(Kind::Mapping { make, .. }) => make,
                    _ => make,
                };
                let dict = self.mapping(value, (key.get(), each.get()), wanted, node)?;
                match make {
                    Some(make) => self.made(plan, make, dict.into_any()),
                    None => Ok(dict.into_any()),
                }
            }
            Kind::Union(members) => self.union(value, plan, members, node, chosen),
            Kind::Literal(values) => self.literal(value, plan, values),
            Kind::NamedTuple(fields) => self.named_tuple(value, plan, fields, node, chosen),
            Kind::TypedDict { fields, required } => {
                self.typed_dict(value, plan, fields, required, node, chosen)
            }
            Kind::Object { fields, build } => self.object(value, plan, fields, build, node, chosen),
            Kind::Model { make } => {
                flood::check_tree(&value, self.codec.number(), self.work)?;
                let fields = self.plain(value, Wanted { plan: &ANY, ..wanted }, node)?;
                self.made(plan, make, fields)
            }
            Kind::Refused(reason) => Err(Fault::new(reason.clone())),
            Kind::Later(_) => Err(Fault::new("the plan of this type is not complete yet")),
        }
    }

    // ---- plain data and scalars

    /// No hint: only the tags below count.
    fn plain(
        self,
        value: Bound<'py, PyAny>,
        wanted: Wanted<'_>,
        node: &Node,
    ) -> Result<Bound<'py, PyAny>> {
        if wanted.keys.is_some() {
            return Ok(self.mapping(value, (&ANY, &ANY), wanted, node)?.into_any());
        }
        if node.has_no_children() {
            return Ok(value);
        }
        if let Some(list) = exact::<PyList>(&value) {
            return Ok(self.elements(list, Some(&ANY), &[], node, wanted.chosen)?.into_any());
        }
        match exact::<PyDict>(&value) {
            Some(dict) => Ok(self.tagged_entries(dict, node)?.into_any()),
            None => Ok(value),
        }
    }

    fn tagged_entries(self, dict: &Bound<'py, PyDict>, node: &Node) -> Result<Bound<'py, PyDict>> {
        if node.has_each() {
            return self.entries(dict, &ANY, node, Chosen::ByTag);
        }
        let dict = self.own_dict(dict)?;
        for (key, child) in node.named() {
            let key = python_name(self.py, key)?;
            if let Some(value) = dict.get_item(&key)? {
                let value = self
                    .convert(value, &ANY, child, Chosen::ByTag)
                    .map_err(|fault| fault.at(key_step(&key)))?;
                dict.set_item(&key, value)?;
            }
        }
        Ok(dict)
    }

    fn primitive(
        self,
        value: Bound<'py, PyAny>,
        plan: &Plan,
        primitive: Primitive,
    ) -> Result<Bound<'py, PyAny>> {
        let is_exact = match primitive {
            Primitive::Str => value.is_exact_instance_of::<PyString>(),
            Primitive::Int => value.is_exact_instance_of::<PyInt>(),
            Primitive::Float => value.is_exact_instance_of::<PyFloat>(),
            Primitive::Bool => value.is_exact_instance_of::<PyBool>(),
        };
        if is_exact {
            return Ok(value);
        }
        if !is_scalar(&value) {
            return Err(unexpected(self.py, plan, &value));
        }
        if primitive == Primitive::Int
            && let Some(text) = exact::<PyString>(&value)
            && text.len()? > LONGEST_NUMBER
        {
            return Err(Fault::new(format!("an integer of more than {MAX_DIGITS} digits")));
        }
        let class = plan.class.as_ref().expect("a primitive's plan has its class");
        self.made(plan, class.as_any(), value)
    }

    pub(super) fn scalar(
        self,
        value: Bound<'py, PyAny>,
        plan: &Plan,
        make: &Py<PyAny>,
    ) -> Result<Bound<'py, PyAny>> {
        match &plan.class {
            Some(class) if value.get_type().is(class) => Ok(value),
            _ => self.made(plan, make, value),
        }
    }

    /// Calls what builds a value; what it raises is the value's fault.
    pub(super) fn made(
        self,
        plan: &Plan,
        make: &Py<PyAny>,
        value: Bound<'py, PyAny>,
    ) -> Result<Bound<'py, PyAny>> {
        make.bind(self.py).call1((value,)).map_err(|error| {
            Fault::caused(self.py, |text| format!("no {}: {text}", plan.name(self.py)), error)
        })
    }

    fn literal(
        self,
        value: Bound<'py, PyAny>,
        plan: &Plan,
        values: &[Py<PyAny>],
    ) -> Result<Bound<'py, PyAny>> {
        for literal in values {
            let literal = literal.bind(self.py);
            let inner = literal.getattr_opt(intern!(self.py, "_value_"))?;
            let inner = inner.as_ref().unwrap_or(literal);
            if inner.get_type().is(value.get_type()) && inner.eq(&value)? {
                return Ok(literal.clone());
            }
        }
        Err(unexpected(self.py, plan, &value))
    }

    fn typed_dict(
        self,
        value: Bound<'py, PyAny>,
        plan: &Plan,
        fields: &Fields,
        required: &[Py<PyString>],
        node: &Node,
        chosen: Chosen,
    ) -> Result<Bound<'py, PyAny>> {
        let dict = value.cast_exact::<PyDict>().map_err(|_| unexpected(self.py, plan, &value))?;
        for name in required {
            if !dict.contains(name)? {
                return Err(Fault::new(format!("the key {name} is missing")));
            }
        }
        let dict = self.own_dict(dict)?;
        self.fields(&dict, fields, node, chosen)?;
        Ok(dict.into_any())
    }

    pub(super) fn class(self, plan: &Plan) -> &Bound<'py, PyType> {
        plan.class.as_ref().expect("a class's plan has its class").bind(self.py)
    }
}

fn expect_list<'a, 'py>(
    value: &'a Bound<'py, PyAny>,
    plan: &Plan,
    py: Python<'py>,
) -> Result<&'a Bound<'py, PyList>> {
    value.cast_exact::<PyList>().map_err(|_| unexpected(py, plan, value))
}

pub(super) fn unexpected(py: Python<'_>, plan: &Plan, value: &Bound<'_, PyAny>) -> Fault {
    Fault::new(format!("expected {}, got {}", plan.name(py), type_name(value)))
}

pub(super) fn key_step(name: &Bound<'_, PyString>) -> Step {
    Step::Key(name.to_string_lossy().into_owned())
}
