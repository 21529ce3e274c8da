//! Arguments and results of remote calls.
//!
//! The parts of the envelope are separate byte strings here; where they go is the envelope's
//! business. A call is bound to the function's parameters before anything is converted.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::core::CodecCore;
use super::decode::{ANY, Chosen, Decoder};
use super::encode::Encoder;
use super::encoding::Shape;
use super::exact::exact;
use super::fault::{Fault, Result, shortened, type_name};
use super::node::{Branch, ChildKey, Node};
use super::plan::Plan;

/// Levels of an envelope around arguments and results.
const ENVELOPE: usize = 2;

pub(super) type CallParts<'py> =
    (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>);

pub(super) type ResultParts<'py> = (Bound<'py, PyBytes>, String, Option<Bound<'py, PyBytes>>);

/// The parameters of a function, with plans for their hints.
#[pyclass(frozen, module = "pymq._pymq")]
#[derive(Debug)]
pub struct CallPlan {
    /// The function's name, for errors.
    #[pyo3(get)]
    name: String,
    /// The plan of the return hint.
    #[pyo3(get)]
    returns: Option<Py<Plan>>,
    /// The `inspect.Signature`, without `self`.
    #[pyo3(get)]
    signature: Py<PyAny>,
    parameters: Vec<Parameter>,
    positional_only: usize,
    positional: usize,
    rest: Option<Py<Plan>>,
    keywords: Option<Py<Plan>>,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    plan: Py<Plan>,
    required: bool,
}

#[pymethods]
impl CallPlan {
    /// `parameters` are (name, plan, required): positional ones first, of which the first
    /// `positional_only` have no name for callers, then those that are keywords only. `rest` and
    /// `keywords` are the plans of `*args` and `**kwargs`.
    #[new]
    #[expect(clippy::too_many_arguments, reason = "all named, and called in one place")]
    #[pyo3(signature = (
        name, signature, parameters, *, positional_only, positional, rest, keywords, returns
    ))]
    fn new(
        name: String,
        signature: Py<PyAny>,
        parameters: Vec<(String, Py<Plan>, bool)>,
        positional_only: usize,
        positional: usize,
        rest: Option<Py<Plan>>,
        keywords: Option<Py<Plan>>,
        returns: Option<Py<Plan>>,
    ) -> Self {
        let parameters = parameters
            .into_iter()
            .map(|(name, plan, required)| Parameter { name, plan, required })
            .collect();
        Self { name, returns, signature, parameters, positional_only, positional, rest, keywords }
    }

    /// Raises `TypeError` if the function cannot be called like this.
    fn bind(&self, args: &Bound<'_, PyTuple>, kwargs: &Bound<'_, PyDict>) -> PyResult<()> {
        if self.fits(args.len(), kwargs)? {
            return Ok(());
        }
        // Python's own words for what is wrong.
        let binding = self.signature.bind(args.py()).call_method("bind", args, Some(kwargs));
        let text = match binding {
            Err(error) => error.value(args.py()).str()?.to_string(),
            Ok(_) => "cannot be called like this".to_owned(),
        };
        Err(PyTypeError::new_err(format!("{}(): {text}", self.name)))
    }
}

impl CallPlan {
    fn fits(&self, given: usize, kwargs: &Bound<'_, PyDict>) -> PyResult<bool> {
        if given > self.positional && self.rest.is_none() {
            return Ok(false);
        }
        let mut named = 0;
        for (index, parameter) in self.parameters.iter().enumerate() {
            let by_position = index < given.min(self.positional);
            let by_name = index >= self.positional_only && kwargs.contains(&parameter.name)?;
            if by_position && by_name || parameter.required && !by_position && !by_name {
                return Ok(false);
            }
            named += usize::from(by_name);
        }
        Ok(named == kwargs.len() || self.keywords.is_some())
    }

    fn position(&self, index: usize) -> (&str, &Plan) {
        match self.parameters[..self.positional].get(index) {
            Some(parameter) => (&parameter.name, parameter.plan.get()),
            None => ("*", self.rest.as_ref().map_or(&ANY, |plan| plan.get())),
        }
    }

    fn keyword(&self, name: &str) -> &Plan {
        let found =
            self.parameters[self.positional_only..].iter().find(|parameter| parameter.name == name);
        match (found, &self.keywords) {
            (Some(parameter), _) => parameter.plan.get(),
            (None, Some(plan)) => plan.get(),
            (None, None) => &ANY,
        }
    }
}

/// Encodes a call's arguments.
pub(super) fn encode<'py>(
    codec: &CodecCore,
    args: &Bound<'py, PyTuple>,
    kwargs: &Bound<'py, PyDict>,
) -> PyResult<CallParts<'py>> {
    let py = args.py();
    let mut encoder = Encoder::new(codec, py, ENVELOPE);
    let mut tree = Branch::named(&encoder.types);
    let mut part = |encoder: &mut Encoder<'_, 'py>, index: usize, root: &str| {
        let key = ChildKey::Index(index);
        let start = encoder.types.len();
        let written = match index {
            0 => encoder.tuple(args, None),
            _ => encoder.dict(kwargs, None),
        };
        let is_node =
            written.map_err(|fault| encoder.explain(fault).into_encode_error(py, root))?;
        tree.end(&mut encoder.types, key, start, is_node);
        Ok::<_, PyErr>(std::mem::take(&mut encoder.out))
    };
    let (args, kwargs) = (part(&mut encoder, 0, "args")?, part(&mut encoder, 1, "kwargs")?);
    let has_tree = tree.close(&mut encoder.types, None);
    codec
        .limits
        .check_size(args.len() + kwargs.len() + encoder.types.len())
        .map_err(|fault| fault.into_encode_error(py, "args"))?;
    let types = has_tree.then(|| PyBytes::new(py, &encoder.types));
    Ok((PyBytes::new(py, &args), PyBytes::new(py, &kwargs), types))
}

/// Decodes a call's arguments for the function of `plan`.
pub(super) fn decode<'py>(
    decoder: Decoder<'_, 'py>,
    args: &[u8],
    kwargs: &[u8],
    types: Option<&[u8]>,
    plan: &CallPlan,
) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
    let py = decoder.py;
    let at = |root: &'static str| move |fault: Fault| fault.into_decode_error(py, root);
    let tree = decoder.tree(types).map_err(at("types"))?;
    let list = or_empty(decoder, args, "an array", PyList::empty(py)).map_err(at("args"))?;
    let dict = or_empty(decoder, kwargs, "an object", PyDict::new(py)).map_err(at("kwargs"))?;
    plan.bind(&list.to_tuple(), &dict)?;
    let node = tree.index(0);
    for index in 0..list.len() {
        let (name, plan) = plan.position(index);
        let child = node.index(index);
        let value = argument(decoder, list.get_item(index)?, plan, child, name)?;
        list.set_item(index, value)?;
    }
    let node = tree.index(1);
    for (key, value) in dict.iter() {
        let name = key.cast::<PyString>()?;
        let child = node.key(name).map_err(at("types"))?;
        let text = name.to_string_lossy();
        let value = argument(decoder, value, plan.keyword(&text), child, &text)?;
        dict.set_item(&key, value)?;
    }
    Ok((list.to_tuple(), dict))
}

fn argument<'py>(
    decoder: Decoder<'_, 'py>,
    value: Bound<'py, PyAny>,
    plan: &Plan,
    node: &Node,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    decoder
        .convert(value, plan, node, Chosen::ByHint)
        .map_err(|fault| fault.into_decode_error(decoder.py, &format!("argument {name}")))
}

/// An old caller may write `null` for none.
fn or_empty<'py, T: pyo3::PyTypeInfo>(
    decoder: Decoder<'_, 'py>,
    data: &[u8],
    expected: &str,
    empty: Bound<'py, T>,
) -> Result<Bound<'py, T>> {
    let value = decoder.parsed(data)?;
    if value.is_none() {
        return Ok(empty);
    }
    value.cast_into::<T>().map_err(|_| Fault::new(format!("expected {expected}")))
}

/// Encodes what a function returned or raised.
pub(super) fn encode_result<'py>(
    codec: &CodecCore,
    value: &Bound<'py, PyAny>,
) -> Result<ResultParts<'py>> {
    let py = value.py();
    let mut encoder = Encoder::new(codec, py, ENVELOPE);
    let (result_type, written) = if encoder.primitive(value)? {
        (value.get_type().name()?.to_string(), Ok(false))
    } else if let Some(dict) = exact::<PyDict>(value) {
        ("dict".to_owned(), encoder.dict(dict, None))
    } else if let Some(list) = exact::<PyList>(value) {
        ("list".to_owned(), encoder.list(list, None))
    } else if let Some(tuple) = exact::<PyTuple>(value) {
        ("tuple".to_owned(), encoder.tuple(tuple, None))
    } else {
        let encoding = encoder.encoding(value)?;
        let own = encoding.tag.as_ref().filter(|tag| tag.name != encoding.root.name);
        let own = own.map(|tag| tag.json.as_slice());
        let written = encoder.shaped(value, encoding, own);
        if matches!(encoding.shape, Shape::Arguments) {
            let size = encoder.out.len() + encoder.types.len();
            if written.is_err() || codec.limits.check_size(size).is_err() {
                return raised(codec, value, &encoding.root.name);
            }
        }
        (encoding.root.name.clone(), written)
    };
    let has_tree = written.map_err(|fault| encoder.explain(fault))?;
    codec.limits.check_size(encoder.out.len() + encoder.types.len())?;
    let types = has_tree.then(|| PyBytes::new(py, &encoder.types));
    Ok((PyBytes::new(py, &encoder.out), result_type, types))
}

/// An exception must reach the caller, whatever its arguments are: as their texts then, cut short.
fn raised<'py>(
    codec: &CodecCore,
    error: &Bound<'py, PyAny>,
    result_type: &str,
) -> Result<ResultParts<'py>> {
    let py = error.py();
    let texts = argument_texts(error).unwrap_or_default();
    let mut encoder = Encoder::new(codec, py, ENVELOPE);
    encoder.list(&PyList::new(py, texts)?, None)?;
    Ok((PyBytes::new(py, &encoder.out), result_type.to_owned(), None))
}

/// How many arguments, and how much of each, an error takes along in words.
const MOST_ARGUMENTS: usize = 20;
const LONGEST_ARGUMENT: usize = 1000;

fn argument_texts(error: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let arguments = error.getattr(intern!(error.py(), "args"))?.cast_into::<PyTuple>()?;
    let text = |argument: Bound<'_, PyAny>| match argument.repr() {
        Ok(text) => shortened(&text.to_string_lossy(), LONGEST_ARGUMENT).into_owned(),
        // It is the error path already: whatever this raises must not hide the error.
        Err(_) => format!("<{} that cannot be shown>", type_name(&argument)),
    };
    Ok(arguments.iter().take(MOST_ARGUMENTS).map(text).collect())
}
