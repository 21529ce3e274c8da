//! Arrays and dicts: their elements, keys and values, in place where nothing changes its place.
//!
//! What a collection becomes is the plan's say; an element's own hint and tag are looked at by the
//! decoder. A dict whose keys were not text is built anew.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFrozenSet, PyList, PyString};

use super::decode::{Chosen, Decoder, Wanted, key_step};
use super::fault::{Fault, Result, Step};
use super::flood::{self, Hashes, MOST_OF_ONE_HASH};
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
    ) -> Result<Bound<'py, PyList>> {
        if each.is_none() && list.len() != fixed.len() {
            let (wanted, got) = (fixed.len(), list.len());
            return Err(Fault::new(format!("expected {wanted} elements, got {got}")));
        }
        if each.is_some_and(Plan::is_any) && node.has_no_children() {
            return Ok(list.clone());
        }
        let list = self.own_list(list)?;
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
        Ok(list)
    }

    /// Converts a dict's values in place.
    pub(super) fn entries(
        self,
        dict: &Bound<'py, PyDict>,
        plan: &Plan,
        node: &Node,
        chosen: Chosen,
    ) -> Result<Bound<'py, PyDict>> {
        if plan.is_any() && node.has_no_children() {
            return Ok(dict.clone());
        }
        let dict = self.own_dict(dict)?;
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
        Ok(dict)
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
            return self.entries(&dict, value_plan, node, wanted.chosen);
        }
        let built = PyDict::new(self.py);
        let mut hashes = (dict.len() > MOST_OF_ONE_HASH).then(Hashes::default);
        for (index, (key, value)) in dict.iter().enumerate() {
            let name = key.cast_into::<PyString>().map_err(PyErr::from)?;
            let child = node.key(&name)?;
            let step = |fault: Fault| fault.at(key_step(&name));
            let tag = wanted.keys.map(|keys| keys.at(index)).transpose()?;
            let key = self.key(&name, key_plan, tag, wanted.chosen).map_err(step)?;
            let value = self.convert(value, value_plan, child, wanted.chosen).map_err(step)?;
            self.insert(&built, key, value, hashes.as_mut()).map_err(step)?;
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
        let mut hashes = (list.len() > MOST_OF_ONE_HASH).then(Hashes::default);
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
            self.insert(&built, key, value, hashes.as_mut()).map_err(step)?;
        }
        Ok(built)
    }

    fn insert(
        self,
        dict: &Bound<'py, PyDict>,
        key: Bound<'py, PyAny>,
        value: Bound<'py, PyAny>,
        hashes: Option<&mut Hashes>,
    ) -> Result<()> {
        let size = dict.len();
        dict.set_item(&key, value)
            .map_err(|error| Fault::caused(self.py, |text| format!("not a key: {text}"), error))?;
        match hashes {
            Some(hashes) if dict.len() > size => hashes.add(key.hash()?),
            _ => Ok(()),
        }
    }

    pub(super) fn collect(
        self,
        list: &Bound<'py, PyList>,
        into: &Collection,
    ) -> Result<Bound<'py, PyAny>> {
        Ok(match into {
            Collection::List => list.clone().into_any(),
            Collection::Tuple => list.to_tuple().into_any(),
            Collection::Set => flood::set(list, self.work)?.into_any(),
            Collection::FrozenSet => {
                let set = flood::set(list, self.work)?;
                self.py.get_type::<PyFrozenSet>().call1((set,))?
            }
            Collection::Made(make) => make
                .bind(self.py)
                .call1((list,))
                .map_err(|error| Fault::caused(self.py, str::to_owned, error))?,
        })
    }
}
