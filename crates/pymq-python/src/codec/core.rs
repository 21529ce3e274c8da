//! The codec as Python sees it.
//!
//! What it has learnt about classes and tags it keeps by class and by tag; everything else is a
//! pure function of its arguments. Safe to use from several threads.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use super::call::{self, CallPlan};
use super::decode::Decoder;
use super::encode::Buffers;
use super::encoding::Encoding;
use super::fault::Result;
use super::message;
use super::node::Node;
use super::parse::Limits;
use super::plan::Plan;
use super::work::Work;

/// Counts declarations of classes, process-wide: a codec forgets its tags when it has changed.
static DECLARATIONS: AtomicU64 = AtomicU64::new(0);

/// Tells all codecs that a tag may now mean another class.
#[pyfunction]
pub(crate) fn forget_tags() {
    DECLARATIONS.fetch_add(1, Ordering::Relaxed);
}

/// Encodes and decodes values; `pymq._codec.Codec` is its public face.
#[pyclass(frozen, subclass, module = "pymq._pymq")]
#[derive(Debug)]
pub struct CodecCore {
    pub(super) limits: Limits,
    pub(super) strict: bool,
    hooks: Hooks,
    tags: Mutex<(u64, HashMap<String, Py<Plan>>)>,
    trees: Mutex<Trees>,
    buffers: Mutex<Option<Buffers>>,
    steps: AtomicU64,
}

/// Messages of one kind have the same tree, so it is read once.
#[derive(Debug, Default)]
struct Trees {
    read: HashMap<Arc<[u8]>, Arc<Node>>,
    /// The one that was asked for last.
    last: Option<(Arc<[u8]>, Arc<Node>)>,
}

/// Trees that are kept, and the size of the largest.
const MOST_TREES: usize = 256;
const LARGEST_TREE: usize = 4096;

/// The encodings of all classes that were sent, by the class's address. Class and encoding are kept
/// for good, so the address is not used again.
static ENCODINGS: Mutex<Encodings> = Mutex::new(Encodings::with_hasher(BuildHasherDefault::new()));

type Encodings = HashMap<usize, &'static Encoding, BuildHasherDefault<AddressHasher>>;

/// Addresses are well spread but for their last bits.
#[derive(Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (self.0 ^ address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// What the codec asks Python, each thing once.
#[derive(Debug)]
struct Hooks {
    /// `(class) -> Encoding`
    encoding: Py<PyAny>,
    /// `(tag) -> Plan | None`
    resolve: Py<PyAny>,
    /// `(tag) -> None`, called for an unknown tag, once for each message.
    unknown: Py<PyAny>,
    /// `(class) -> None`, called where a class does not know a field, once for each message.
    dropped: Py<PyAny>,
    /// `(str) -> number | None`: the number that a model might read from a text.
    number: Py<PyAny>,
    /// `(bytes, digits) -> value`, Python's own parser.
    loads: Py<PyAny>,
    /// `(str) -> bytes`, for strings that are not UTF-8.
    dumps: Py<PyAny>,
}

#[pymethods]
impl CodecCore {
    #[new]
    #[pyo3(signature = (*, encoding, resolve, unknown, dropped, number, loads, dumps, strict, max_bytes, max_depth))]
    #[expect(clippy::too_many_arguments, reason = "all named, and called in one place")]
    fn new(
        encoding: Py<PyAny>,
        resolve: Py<PyAny>,
        unknown: Py<PyAny>,
        dropped: Py<PyAny>,
        number: Py<PyAny>,
        loads: Py<PyAny>,
        dumps: Py<PyAny>,
        strict: bool,
        max_bytes: usize,
        max_depth: usize,
    ) -> Self {
        Self {
            limits: Limits { bytes: max_bytes, depth: max_depth },
            strict,
            hooks: Hooks { encoding, resolve, unknown, dropped, number, loads, dumps },
            tags: Mutex::new((0, HashMap::new())),
            trees: Mutex::default(),
            buffers: Mutex::new(None),
            steps: AtomicU64::new(0),
        }
    }

    /// How many values `decode` has looked at: what messages have cost, for tests.
    #[getter(_steps)]
    fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Encodes an event or a queue item; `what` names it in errors.
    #[pyo3(signature = (value, what="event"))]
    fn encode<'py>(&self, value: &Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyBytes>> {
        message::encode(self, value).map_err(|fault| fault.into_encode_error(value.py(), what))
    }

    /// Decodes an event or a queue item, into what the plan says if there is one.
    #[pyo3(signature = (data, plan=None, what="event"))]
    pub(crate) fn decode<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        plan: Option<&Bound<'py, Plan>>,
        what: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = Work::default();
        let value = Decoder::new(self, py, &work).message(data, plan.map(Bound::get));
        self.steps.fetch_add(work.steps(), Ordering::Relaxed);
        value.map_err(|fault| fault.into_decode_error(py, what))
    }

    /// Encodes a call's arguments: the args as an array, the kwargs as an object, and their types
    /// tree, whose root has the children `0` (args) and `1` (kwargs).
    fn encode_call<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<call::CallParts<'py>> {
        call::encode(self, args, kwargs)
    }

    /// Decodes and binds a call's arguments; `TypeError` for a wrong call.
    #[pyo3(signature = (args, kwargs, types, plan))]
    fn decode_call<'py>(
        &self,
        py: Python<'py>,
        args: &[u8],
        kwargs: &[u8],
        types: Option<&[u8]>,
        plan: &Bound<'py, CallPlan>,
    ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        call::decode(Decoder::new(self, py, &Work::default()), args, kwargs, types, plan.get())
    }

    /// Encodes a call's result: its JSON, `result_type`, and its types tree.
    fn encode_result<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<call::ResultParts<'py>> {
        call::encode_result(self, value)
            .map_err(|fault| fault.into_encode_error(value.py(), "result"))
    }

    /// Decodes a call's result: `result_type` decides, the plan of the return hint helps.
    #[pyo3(signature = (result, result_type, types=None, plan=None))]
    fn decode_result<'py>(
        &self,
        py: Python<'py>,
        result: &[u8],
        result_type: &str,
        types: Option<&[u8]>,
        plan: Option<&Bound<'py, Plan>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Decoder::new(self, py, &Work::default())
            .result(result, result_type, types, plan.map(Bound::get))
            .map_err(|fault| fault.into_decode_error(py, "result"))
    }
}

impl CodecCore {
    /// The encoding of a value's class; `class` is the class's address.
    pub(super) fn encoding(
        &self,
        class: usize,
        value: &Bound<'_, PyAny>,
    ) -> Result<&'static Encoding> {
        if let Some(encoding) = lock(&ENCODINGS).get(&class) {
            return Ok(encoding);
        }
        // The lock is not held while Python runs.
        let made = self.hooks.encoding.bind(value.py()).call1((value.get_type(),))?;
        let made = made.cast_into::<Encoding>().map_err(PyErr::from)?.unbind();
        let kept: &'static (Py<Encoding>, Py<PyType>) =
            Box::leak(Box::new((made, value.get_type().unbind())));
        let encoding = kept.0.get();
        lock(&ENCODINGS).insert(class, encoding);
        Ok(encoding)
    }

    /// The plan of a tag's class, if the tag is known and trusted.
    pub(super) fn resolve(&self, py: Python<'_>, tag: &str) -> Result<Option<Py<Plan>>> {
        let now = DECLARATIONS.load(Ordering::Relaxed);
        {
            let mut tags = lock(&self.tags);
            if tags.0 != now {
                *tags = (now, HashMap::new());
            }
            if let Some(plan) = tags.1.get(tag) {
                return Ok(Some(plan.clone_ref(py)));
            }
        }
        let plan = self.hooks.resolve.bind(py).call1((tag,))?;
        if plan.is_none() {
            // Not kept: the class may be imported later.
            return Ok(None);
        }
        let plan = plan.cast_into::<Plan>().map_err(PyErr::from)?.unbind();
        lock(&self.tags).1.insert(tag.to_owned(), plan.clone_ref(py));
        Ok(Some(plan))
    }

    /// The memory of the last encoder, unless another has it.
    pub(super) fn buffers(&self) -> Buffers {
        lock(&self.buffers).take().unwrap_or_default()
    }

    pub(super) fn give_back(&self, buffers: Buffers) {
        *lock(&self.buffers) = Some(buffers);
    }

    /// A types tree that has been read before.
    pub(super) fn tree(&self, types: &[u8]) -> Option<Arc<Node>> {
        let mut trees = lock(&self.trees);
        let (types, node) = trees.read.get_key_value(types)?;
        let (types, node) = (Arc::clone(types), Arc::clone(node));
        trees.last = Some((types, Arc::clone(&node)));
        Some(node)
    }

    /// The last tree, and its length, if the text begins with it.
    pub(super) fn tree_before(&self, text: &[u8]) -> Option<(Arc<Node>, usize)> {
        let trees = lock(&self.trees);
        let (types, node) = trees.last.as_ref()?;
        text.starts_with(types).then(|| (Arc::clone(node), types.len()))
    }

    pub(super) fn keep_tree(&self, types: &[u8], node: &Arc<Node>) {
        if types.len() > LARGEST_TREE {
            return;
        }
        let mut trees = lock(&self.trees);
        if trees.read.len() >= MOST_TREES {
            trees.read.clear();
        }
        trees.read.insert(types.into(), Arc::clone(node));
    }

    pub(super) fn unknown(&self, py: Python<'_>, tag: &str) -> Result<()> {
        self.hooks.unknown.bind(py).call1((tag,))?;
        Ok(())
    }

    pub(super) fn dropped(&self, py: Python<'_>, class: &str) -> Result<()> {
        self.hooks.dropped.bind(py).call1((class,))?;
        Ok(())
    }

    pub(super) fn number(&self) -> &Py<PyAny> {
        &self.hooks.number
    }

    pub(super) fn loads(&self) -> &Py<PyAny> {
        &self.hooks.loads
    }

    /// A string with lone surrogates as JSON.
    pub(super) fn surrogates(&self, text: &Bound<'_, PyString>) -> Result<Vec<u8>> {
        Ok(self.hooks.dumps.bind(text.py()).call1((text,))?.extract()?)
    }
}

/// The maps stay whole whatever panics, as each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
