//! Arrays and dicts: their elements, keys and values, in place where nothing changes its place.
//!
//! What a collection becomes is the plan's say; an element's own hint and tag are looked at by the
//! decoder. A dict whose keys were not text is built anew.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFrozenSet, PyList, PySet, PyString};

use super::decode::{Chosen, Decoder, Wanted, key_step};
use super::fault::{Fault, Result, Step};
use super::keys::KeyTypes;
use super::node::Node;
use super::plan::{Collection, Kind, Plan, Primitive};

impl<'py> Decoder<'_, 'py> {
    pub(super) fn elements(
        self,
        list: &Bound<'py, PyList>,
        each: Option<&Plan>,
        fixed: &[Py<Plan>],
        node: &Node,
        chosen: Chosen,
    ) -> Result<()> {
        if each.is_none() && list.len() != fixed.len() {
            let (wanted, got) = (fixed.len(), list.len());
            return Err(Fault::new(format!("expected {wanted} elements, got {got}")));
        }
        if each.is_some_and(Plan::is_any) && node.has_no_children() {
            return Ok(());
        }
        let shared = node.is_shared().then(|| node.index(0));
        for (index, element) in list.iter().enumerate() {
            let plan = each.unwrap_or_else(|| fixed[index].get());
            let child = shared.unwrap_or_else(|| node.index(index));
            let converted = self
                .convert(element.clone(), plan, child, chosen)
                .map_err(|fault| fault.at(Step::Index(index)))?;
            if !converted.is(&element) {
                list.set_item(index, converted)?;
            }
        }
        Ok(())
    }

    /// Converts a dict's values in place.
    pub(super) fn entries(
        self,
        dict: &Bound<'py, PyDict>,
        plan: &Plan,
        node: &Node,
        chosen: Chosen,
    ) -> Result<()> {
        if plan.is_any() && node.has_no_children() {
            return Ok(());
        }
        for (key, value) in dict.iter() {
            let name = key.cast::<PyString>().map_err(PyErr::from)?;
            let child = node.key(name)?;
            let converted = self
                .convert(value.clone(), plan, child, chosen)
                .map_err(|fault| fault.at(key_step(name)))?;
            if !converted.is(&value) {
                dict.set_item(&key, converted)?;
            }
        }
        Ok(())
    }

    pub(super) fn mapping(
        self,
        value: Bound<'py, PyAny>,
        plans: (&Plan, &Plan),
        wanted: Wanted<'_>,
        node: &Node,
    ) -> Result<Bound<'py, PyDict>> {
        let (key_plan, value_plan) = (plans.0.actual(), plans.1.actual());
        if let Some(KeyTypes::Pairs) = wanted.keys {
            return self.pairs(&value, (key_plan, value_plan), wanted, node);
        }
        let Ok(dict) = value.cast_into_exact::<PyDict>() else {
            return Err(Fault::new("expected an object with keys and values"));
        };
        let text_keys =
            key_plan.is_any() || matches!(key_plan.kind, Kind::Primitive(Primitive::Str));
        if wanted.keys.is_none() && text_keys {
            self.entries(&dict, value_plan, node, wanted.chosen)?;
            return Ok(dict);
        }
        let built = PyDict::new(self.py);
        for (index, (key, value)) in dict.iter().enumerate() {
            let name = key.cast_into::<PyString>().map_err(PyErr::from)?;
            let child = node.key(&name)?;
            let step = |fault: Fault| fault.at(key_step(&name));
            let tag = wanted.keys.map(|keys| keys.at(index)).transpose()?;
            let key = self.key(&name, key_plan, tag, wanted.chosen).map_err(step)?;
            let value = self.convert(value, value_plan, child, wanted.chosen).map_err(step)?;
            self.insert(&built, key, value)?;
        }
        Ok(built)
    }

    /// A key is text on the wire, where `null` and `true` are words.
    fn key(
        self,
        text: &Bound<'py, PyString>,
        plan: &Plan,
        tag: Option<&str>,
        chosen: Chosen,
    ) -> Result<Bound<'py, PyAny>> {
        let value = match (tag, text.to_str()) {
            (Some("NoneType"), _) => self.py.None().into_bound(self.py),
            (Some("bool"), Ok(word)) => PyBool::new(self.py, word == "true").to_owned().into_any(),
            (Some(tag), _) => {
                return self.convert(text.clone().into_any(), plan, &Node::tagged(tag), chosen);
            }
            (None, _) => text.clone().into_any(),
        };
        self.convert(value, plan, Node::silent(), chosen)
    }

    fn pairs(
        self,
        value: &Bound<'py, PyAny>,
        (key_plan, value_plan): (&Plan, &Plan),
        wanted: Wanted<'_>,
        node: &Node,
    ) -> Result<Bound<'py, PyDict>> {
        let malformed = || Fault::new("expected an array of pairs");
        let list = value.cast_exact::<PyList>().map_err(|_| malformed())?;
        let built = PyDict::new(self.py);
        for (index, pair) in list.iter().enumerate() {
            let step = |fault: Fault| fault.at(Step::Index(index));
            let pair = pair.cast_into_exact::<PyList>().map_err(|_| step(malformed()))?;
            if pair.len() != 2 {
                return Err(step(malformed()));
            }
            let child = node.index(index);
            let (key, value) = (pair.get_item(0)?, pair.get_item(1)?);
            let key = self.convert(key, key_plan, child.index(0), wanted.chosen).map_err(step)?;
            let value =
                self.convert(value, value_plan, child.index(1), wanted.chosen).map_err(step)?;
            self.insert(&built, key, value)?;
        }
        Ok(built)
    }

    fn insert(
        self,
        dict: &Bound<'py, PyDict>,
        key: Bound<'py, PyAny>,
        value: Bound<'py, PyAny>,
    ) -> Result<()> {
        dict.set_item(key, value)
            .map_err(|error| Fault::caused(self.py, |text| format!("not a key: {text}"), error))
    }

    pub(super) fn collect(
        self,
        list: &Bound<'py, PyList>,
        into: &Collection,
    ) -> Result<Bound<'py, PyAny>> {
        let unhashable =
            |error| Fault::caused(self.py, |text| format!("an element of a set: {text}"), error);
        Ok(match into {
            Collection::List => list.clone().into_any(),
            Collection::Tuple => list.to_tuple().into_any(),
            Collection::Set => PySet::new(self.py, list.iter()).map_err(unhashable)?.into_any(),
            Collection::FrozenSet => {
                PyFrozenSet::new(self.py, list.iter()).map_err(unhashable)?.into_any()
            }
            Collection::Made(make) => make
                .bind(self.py)
                .call1((list,))
                .map_err(|error| Fault::caused(self.py, str::to_owned, error))?,
        })
    }
}
