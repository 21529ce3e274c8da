//! How values of one class are written: what Python found out about the class, once.
//!
//! `pymq._types` builds these; the encoder runs them for each message. An encoding never changes.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::names::Names;
use super::scalar;

/// The shape on the wire.
#[derive(Debug)]
pub(super) enum Shape {
    /// A subclass of `str`, `int` or `float`: the plain value.
    Text,
    Integer,
    Float,
    Dict,
    List,
    Tuple,
    Set,
    /// A string that `call` makes of the value.
    Made(Py<PyAny>),
    /// An enum member: its value.
    Member,
    Object(Attributes),
    /// An exception: its arguments.
    Arguments,
    /// A class or a function: its full name.
    Name(Py<PyAny>),
    Refused,
}

/// What an object is made of: what stands in the dicts so named, then the slots.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) dicts: Vec<Py<PyString>>,
    pub(super) slots: Vec<Py<PyString>>,
    /// Those in the first of the dicts.
    pub(super) names: Names,
}

/// A name as it stands in JSON.
#[derive(Debug)]
pub(super) struct Tag {
    pub(super) name: String,
    pub(super) json: Vec<u8>,
}

impl Tag {
    pub(super) fn new(name: &str) -> Self {
        let mut json = Vec::new();
        scalar::string(&mut json, name);
        Self { name: name.to_owned(), json }
    }
}

/// How values of one class are written.
#[pyclass(frozen, module = "pymq._pymq")]
#[derive(Debug)]
pub struct Encoding {
    pub(super) shape: Shape,
    /// What the types tree says; none if the class has no name that could be looked up.
    pub(super) tag: Option<Tag>,
    /// `__type` at the top level: what comes nearest for old peers.
    pub(super) root: Tag,
}

#[pymethods]
impl Encoding {
    /// `shape` is one of the wire's shapes by name; `call` makes the text of a `made` or `name`
    /// value; `dicts` and `slots` are the attributes that an `object` keeps its state in.
    #[new]
    #[pyo3(signature = (shape, tag, root, *, call=None, dicts=Vec::new(), slots=Vec::new()))]
    fn new(
        shape: &str,
        tag: Option<&str>,
        root: &str,
        call: Option<Py<PyAny>>,
        dicts: Vec<Py<PyString>>,
        slots: Vec<Py<PyString>>,
    ) -> PyResult<Self> {
        let callable = || call.ok_or_else(|| PyValueError::new_err("this shape needs call="));
        let shape = match shape {
            "text" => Shape::Text,
            "integer" => Shape::Integer,
            "float" => Shape::Float,
            "dict" => Shape::Dict,
            "list" => Shape::List,
            "tuple" => Shape::Tuple,
            "set" => Shape::Set,
            "made" => Shape::Made(callable()?),
            "member" => Shape::Member,
            "object" => Shape::Object(Attributes { dicts, slots, names: Names::default() }),
            "arguments" => Shape::Arguments,
            "name" => Shape::Name(callable()?),
            "refused" => Shape::Refused,
            other => return Err(PyValueError::new_err(format!("no shape is named {other:?}"))),
        };
        Ok(Self { shape, tag: tag.map(Tag::new), root: Tag::new(root) })
    }

    /// No value of the class is sent.
    #[getter]
    fn is_refused(&self) -> bool {
        matches!(self.shape, Shape::Refused)
    }

    /// The tag that a value has, or what is nearest to it for old decoders.
    #[getter]
    fn name(&self) -> &str {
        &self.tag.as_ref().unwrap_or(&self.root).name
    }
}
