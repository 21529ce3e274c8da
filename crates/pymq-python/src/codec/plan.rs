//! How one type hint is built from JSON: what Python found out about the hint, once.
//!
//! `pymq._plans` builds these; the decoder runs them for each message. A plan never changes, except
//! that a `later` plan, which recursive classes need, is filled in once.

use std::collections::HashSet;
use std::sync::OnceLock;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use super::names::is_special;
use super::scalar;

/// A primitive that other primitives are coerced to, as the original does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primitive {
    Str,
    Int,
    Float,
    Bool,
}

/// The collection that an array's elements end up in.
#[derive(Debug)]
pub(super) enum Collection {
    List,
    Tuple,
    Set,
    FrozenSet,
    /// Whatever this makes of a list.
    Made(Py<PyAny>),
}

#[derive(Debug)]
pub(super) enum Kind {
    Any,
    Primitive(Primitive),
    /// Subclasses of primitives, `datetime` and its like, enum members: `make` builds one.
    /// `rebuild` is `make` without running code of the class, where that differs.
    Scalar {
        make: Py<PyAny>,
        rebuild: Option<Py<PyAny>>,
    },
    /// `fixed` plans one by one, or `each` for all elements.
    Array {
        into: Collection,
        each: Option<Py<Plan>>,
        fixed: Vec<Py<Plan>>,
    },
    Mapping {
        key: Py<Plan>,
        value: Py<Plan>,
        make: Option<Py<PyAny>>,
    },
    Union(Vec<Py<Plan>>),
    Literal(Vec<Py<PyAny>>),
    NamedTuple(Fields),
    TypedDict {
        fields: Fields,
        required: Vec<Py<PyString>>,
    },
    Object {
        fields: Fields,
        build: Build,
    },
    /// pydantic and msgspec: `make` validates a dict.
    Model {
        make: Py<PyAny>,
    },
    Refused(String),
    Later(OnceLock<Py<Plan>>),
}

#[derive(Debug)]
struct FieldName {
    text: String,
    /// `"name":`, as most messages have it; none for names that may be the wire's own.
    member: Option<Vec<u8>>,
}

impl FieldName {
    fn new(text: String) -> Self {
        let member = (!is_special(&text)).then(|| {
            let mut member = Vec::new();
            scalar::string(&mut member, &text);
            member.push(b':');
            member
        });
        Self { text, member }
    }
}

/// Fields in order, and what to build them with.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) list: Vec<(Py<PyString>, Py<Plan>)>,
    names: Vec<FieldName>,
    /// For a named tuple.
    pub(super) defaults: Option<Py<PyDict>>,
}

impl Fields {
    fn new(list: FieldList, defaults: Option<Py<PyDict>>, py: Python<'_>) -> Self {
        let text = |name: &Py<PyString>| name.bind(py).to_string_lossy().into_owned();
        let names = list.iter().map(|(name, _)| FieldName::new(text(name))).collect();
        Self { list, names, defaults }
    }

    /// The field of this name; most messages have them in the order of the class, so it is first
    /// looked for at `next`.
    pub(super) fn position(&self, name: &str, next: usize) -> Option<usize> {
        match self.names.get(next) {
            Some(expected) if expected.text == name => Some(next),
            _ => self.names.iter().position(|field| field.text == name),
        }
    }

    /// A field's name as it stands in front of its value, and the colon behind it.
    #[inline]
    pub(super) fn member(&self, index: usize) -> Option<&[u8]> {
        self.names.get(index)?.member.as_deref()
    }

    pub(super) fn name(&self, index: usize) -> &str {
        &self.names[index].text
    }
}

/// How objects of a class come into being.
#[derive(Debug)]
pub(super) struct Build {
    /// The constructor's parameters; none if objects are built without it even under a hint.
    pub(super) parameters: Option<Vec<Parameter>>,
    /// Every argument is named as its attribute.
    pub(super) by_name: bool,
    /// The fields that are the arguments in order, if all may be passed by position.
    pub(super) order: Option<Vec<usize>>,
    /// Assignment does nothing but put the attribute into `__dict__`.
    pub(super) direct: bool,
    pub(super) slots: Vec<Py<PyString>>,
    pub(super) has_dict: bool,
    /// Assignment is overridden to refuse (a frozen dataclass), so go around it.
    pub(super) frozen: bool,
}

#[derive(Debug)]
pub(super) struct Parameter {
    /// The attribute that the argument is found under.
    pub(super) field: Py<PyString>,
    /// The argument's name, which attrs makes from the field's.
    pub(super) name: Py<PyString>,
    pub(super) required: bool,
    pub(super) passed: Passed,
}

/// How an argument may be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    ByPosition,
    ByName,
    Either,
}

/// How one type hint is built from JSON.
#[pyclass(frozen, module = "pymq._pymq")]
#[derive(Debug)]
pub struct Plan {
    pub(super) kind: Kind,
    /// The tag of exactly this class.
    pub(super) tag: Option<String>,
    pub(super) class: Option<Py<PyType>>,
}

impl Plan {
    fn bare(kind: Kind) -> Self {
        Self { kind, tag: None, class: None }
    }

    /// The plan itself, where a `later` one has been filled in.
    pub(super) fn actual(&self) -> &Self {
        let mut plan = self;
        while let Kind::Later(cell) = &plan.kind {
            match cell.get() {
                Some(target) => plan = target.get(),
                None => return plan,
            }
        }
        plan
    }

    pub(super) fn is_any(&self) -> bool {
        matches!(self.kind, Kind::Any)
    }

    /// Is this one of the class's fields?
    pub(super) fn knows(&self, name: &Bound<'_, PyString>) -> bool {
        match &self.kind {
            Kind::Object { fields, .. } | Kind::NamedTuple(fields) => {
                name.to_str().is_ok_and(|name| fields.position(name, 0).is_some())
            }
            _ => true,
        }
    }

    /// What a value is called in messages.
    pub(super) fn name(&self, py: Python<'_>) -> String {
        if let Some(tag) = &self.tag {
            return tag.clone();
        }
        if let Some(class) = &self.class {
            return class
                .bind(py)
                .name()
                .map_or_else(|_| "a class".into(), |name| name.to_string());
        }
        match &self.kind {
            Kind::Literal(values) => format!("one of {}", listed(py, values)),
            Kind::Union(plans) => {
                let names: Vec<_> = plans.iter().map(|plan| plan.get().actual().name(py)).collect();
                names.join(" | ")
            }
            _ => "a value of the hinted type".to_owned(),
        }
    }
}

fn listed(py: Python<'_>, values: &[Py<PyAny>]) -> String {
    let texts: Vec<String> = values
        .iter()
        .map(|value| value.bind(py).repr().map_or_else(|_| "?".into(), |text| text.to_string()))
        .collect();
    texts.join(", ")
}

impl Parameter {
    fn new((field, name, required, passed): ParameterTuple) -> Self {
        let passed = match passed.as_str() {
            "position" => Passed::ByPosition,
            "name" => Passed::ByName,
            _ => Passed::Either,
        };
        Self { field, name, required, passed }
    }
}

fn order(py: Python<'_>, parameters: &[Parameter], fields: &Fields) -> Option<Vec<usize>> {
    let place = |parameter: &Parameter| match parameter.passed {
        Passed::ByName => None,
        _ => fields.position(&parameter.field.bind(py).to_string_lossy(), 0),
    };
    let order: Vec<usize> = parameters.iter().map(place).collect::<Option<_>>()?;
    // A field may be two arguments of a class made by attrs.
    let distinct: HashSet<_> = order.iter().collect();
    (distinct.len() == order.len()).then_some(order)
}

type ParameterTuple = (Py<PyString>, Py<PyString>, bool, String);
type FieldList = Vec<(Py<PyString>, Py<Plan>)>;

#[pymethods]
impl Plan {
    /// The class that is built, if it is one.
    #[getter]
    fn cls(&self, py: Python<'_>) -> Option<Py<PyType>> {
        self.actual().class.as_ref().map(|class| class.clone_ref(py))
    }

    /// Takes what the message says.
    #[staticmethod]
    fn any() -> Self {
        Self::bare(Kind::Any)
    }

    /// `str`, `int`, `float` or `bool`, coerced as the original does.
    #[staticmethod]
    fn primitive(class: Bound<'_, PyType>) -> PyResult<Self> {
        let name = class.name()?.to_string();
        let kind = match name.as_str() {
            "str" => Primitive::Str,
            "int" => Primitive::Int,
            "float" => Primitive::Float,
            "bool" => Primitive::Bool,
            _ => return Err(PyValueError::new_err(format!("{name} is no JSON primitive"))),
        };
        Ok(Self { kind: Kind::Primitive(kind), tag: Some(name), class: Some(class.unbind()) })
    }

    /// `make(value)` builds an object of `class` from plain data; `rebuild(value)` does so where
    /// only a tag chose the class.
    #[staticmethod]
    #[pyo3(signature = (class, tag, make, rebuild=None))]
    fn scalar(class: Py<PyType>, tag: String, make: Py<PyAny>, rebuild: Option<Py<PyAny>>) -> Self {
        Self { kind: Kind::Scalar { make, rebuild }, tag: Some(tag), class: Some(class) }
    }

    /// An array whose elements all follow `each`. `class` is None for an abstract collection,
    /// which a tag may make a tuple or a set; `make` turns a list into another class.
    #[staticmethod]
    #[pyo3(signature = (class, tag, each, make=None))]
    fn array(
        class: Option<Bound<'_, PyType>>,
        tag: Option<String>,
        each: Py<Plan>,
        make: Option<Py<PyAny>>,
    ) -> Self {
        let into = match (make, tag.as_deref()) {
            (Some(make), _) => Collection::Made(make),
            (None, Some("tuple")) => Collection::Tuple,
            (None, Some("set")) => Collection::Set,
            (None, Some("frozenset")) => Collection::FrozenSet,
            (None, _) => Collection::List,
        };
        let kind = Kind::Array { into, each: Some(each), fixed: Vec::new() };
        Self { kind, tag, class: class.map(Bound::unbind) }
    }

    /// A tuple whose elements follow these plans one by one.
    #[staticmethod]
    fn fixed_tuple(class: Py<PyType>, fixed: Vec<Py<Plan>>) -> Self {
        let kind = Kind::Array { into: Collection::Tuple, each: None, fixed };
        Self { kind, tag: Some("tuple".to_owned()), class: Some(class) }
    }

    /// A dict; `make` turns it into another class.
    #[staticmethod]
    #[pyo3(signature = (class, tag, key, value, make=None))]
    fn mapping(
        class: Option<Py<PyType>>,
        tag: Option<String>,
        key: Py<Plan>,
        value: Py<Plan>,
        make: Option<Py<PyAny>>,
    ) -> Self {
        Self { kind: Kind::Mapping { key, value, make }, tag, class }
    }

    /// The first of these plans that fits.
    #[staticmethod]
    fn union(plans: Vec<Py<Plan>>) -> Self {
        Self::bare(Kind::Union(plans))
    }

    /// One of these values.
    #[staticmethod]
    fn literal(values: Vec<Py<PyAny>>) -> Self {
        Self::bare(Kind::Literal(values))
    }

    /// A tuple with names.
    #[staticmethod]
    fn named_tuple(
        py: Python<'_>,
        class: Py<PyType>,
        tag: String,
        fields: FieldList,
        defaults: Py<PyDict>,
    ) -> Self {
        let fields = Fields::new(fields, Some(defaults), py);
        Self { kind: Kind::NamedTuple(fields), tag: Some(tag), class: Some(class) }
    }

    /// A dict with known keys.
    #[staticmethod]
    fn typed_dict(py: Python<'_>, fields: FieldList, required: Vec<Py<PyString>>) -> Self {
        let fields = Fields::new(fields, None, py);
        Self::bare(Kind::TypedDict { fields, required })
    }

    /// An object with attributes. `parameters` are the constructor's as (attribute, argument name,
    /// required, `position`, `name` or `either`); None builds without the constructor.
    #[staticmethod]
    #[pyo3(signature = (class, tag, fields, parameters, *, direct, slots, has_dict, frozen))]
    #[expect(clippy::too_many_arguments, reason = "mirrors the struct; named in Python")]
    fn object(
        py: Python<'_>,
        class: Py<PyType>,
        tag: String,
        fields: FieldList,
        parameters: Option<Vec<ParameterTuple>>,
        direct: bool,
        slots: Vec<Py<PyString>>,
        has_dict: bool,
        frozen: bool,
    ) -> Self {
        let fields = Fields::new(fields, None, py);
        let parameters: Option<Vec<Parameter>> =
            parameters.map(|parameters| parameters.into_iter().map(Parameter::new).collect());
        let by_name = parameters.iter().flatten().all(|parameter| {
            parameter.passed != Passed::ByPosition && parameter.field.is(&parameter.name)
        });
        let order = parameters.as_deref().and_then(|parameters| order(py, parameters, &fields));
        let build = Build { parameters, by_name, order, direct, slots, has_dict, frozen };
        Self { kind: Kind::Object { fields, build }, tag: Some(tag), class: Some(class) }
    }

    /// An object that `make` validates and builds from a dict of its fields.
    #[staticmethod]
    fn model(class: Py<PyType>, tag: String, make: Py<PyAny>) -> Self {
        Self { kind: Kind::Model { make }, tag: Some(tag), class: Some(class) }
    }

    /// A hint that no message may build.
    #[staticmethod]
    fn refused(reason: String) -> Self {
        Self::bare(Kind::Refused(reason))
    }

    /// A plan that `fill` completes: for classes that refer to themselves.
    #[staticmethod]
    fn later() -> Self {
        Self::bare(Kind::Later(OnceLock::new()))
    }

    /// Completes a `later` plan, once.
    fn fill(&self, plan: Py<Plan>) -> PyResult<()> {
        let Kind::Later(cell) = &self.kind else {
            return Err(PyRuntimeError::new_err("only a later plan can be filled"));
        };
        cell.set(plan).map_err(|_| PyRuntimeError::new_err("the plan is already filled"))
    }
}
