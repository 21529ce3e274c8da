//! Objects and named tuples from their fields.
//!
//! What a hint chose goes through its constructor, as the original does; what only a tag chose is
//! rebuilt as `copy` does it, and no code of the class runs. Dunder names are never set.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use pyo3::{ffi, intern};

use super::decode::{ANY, Chosen, Decoder, unexpected};
use super::entries::is_dunder;
use super::exact::exact;
use super::fault::{Fault, Result, Step, shortened};
use super::node::{Node, python_name};
use super::plan::{Build, Fields, Passed, Plan};

static OBJECT_NEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static OBJECT_SETATTR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn builtin<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    class: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let load = || -> PyResult<Py<PyAny>> {
        Ok(py.import("builtins")?.getattr(class)?.getattr(name)?.unbind())
    };
    Ok(cell.get_or_try_init(py, load)?.bind(py).clone())
}

impl<'py> Decoder<'_, 'py> {
    pub(super) fn object(
        self,
        value: Bound<'py, PyAny>,
        plan: &Plan,
        fields: &Fields,
        build: &Build,
        node: &Node,
        chosen: Chosen,
    ) -> Result<Bound<'py, PyAny>> {
        let constructed = chosen == Chosen::ByHint && build.parameters.is_some();
        let attributes = if let Some(dict) = exact::<PyDict>(&value) {
            self.own_dict(dict)?
        } else if let Some(list) = exact::<PyList>(&value) {
            self.by_position(list, plan, fields)?
        } else if value.get_type().is(self.class(plan)) {
            return Ok(value);
        } else if constructed {
            return self.made(plan, self.class(plan).as_any().as_unbound(), value);
        } else {
            return Err(unexpected(self.py, plan, &value));
        };
        self.fields(&attributes, fields, node, chosen)?;
        self.without_dunders(&attributes, plan)?;
        if constructed {
            self.construct(plan, build, &attributes)
        } else {
            self.rebuild(plan, build, attributes)
        }
    }

    fn by_position(
        self,
        list: &Bound<'py, PyList>,
        plan: &Plan,
        fields: &Fields,
    ) -> Result<Bound<'py, PyDict>> {
        if list.len() > fields.list.len() {
            return Err(unexpected(self.py, plan, list.as_any()));
        }
        let attributes = PyDict::new(self.py);
        for ((name, _), value) in fields.list.iter().zip(list.iter()) {
            attributes.set_item(name, value)?;
        }
        Ok(attributes)
    }

    /// Converts fields in place: the hinted ones, and those that a tag speaks of.
    pub(super) fn fields(
        self,
        attributes: &Bound<'py, PyDict>,
        fields: &Fields,
        node: &Node,
        chosen: Chosen,
    ) -> Result<()> {
        let silent = node.has_no_children();
        for (name, plan) in &fields.list {
            let plan = plan.get().actual();
            if silent && plan.is_any() {
                continue;
            }
            let name = name.bind(self.py);
            let step = Step::Field(name.to_string_lossy().into_owned());
            self.field(attributes, name, plan, node.key(name)?, chosen, step)?;
        }
        for (name, child) in node.named() {
            let name = python_name(self.py, name)?;
            if !fields.list.iter().any(|(field, _)| name.as_any().eq(field).unwrap_or(false)) {
                let step = Step::Beside(name.to_string_lossy().into_owned());
                self.field(attributes, &name, &ANY, child, Chosen::ByTag, step)?;
            }
        }
        Ok(())
    }

    fn field(
        self,
        attributes: &Bound<'py, PyDict>,
        name: &Bound<'py, PyString>,
        plan: &Plan,
        node: &Node,
        chosen: Chosen,
        step: Step,
    ) -> Result<()> {
        let Some(value) = attributes.get_item(name)? else { return Ok(()) };
        let converted =
            self.convert(value.clone(), plan, node, chosen).map_err(|fault| fault.at(step))?;
        if !converted.is(&value) {
            attributes.set_item(name, converted)?;
        }
        Ok(())
    }

    fn without_dunders(self, attributes: &Bound<'py, PyDict>, plan: &Plan) -> Result<()> {
        let dunders: Vec<_> = attributes
            .keys()
            .iter()
            .filter(|key| key.cast::<PyString>().is_ok_and(is_dunder))
            .collect();
        for name in dunders {
            if self.codec.strict {
                let class = plan.name(self.py);
                return Err(Fault::showing(
                    format!("{class} cannot be sent an attribute {name}"),
                    format!("{class} cannot be sent an attribute of the message"),
                ));
            }
            attributes.del_item(name)?;
        }
        Ok(())
    }

    // ---- through the constructor

    pub(super) fn construct(
        self,
        plan: &Plan,
        build: &Build,
        attributes: &Bound<'py, PyDict>,
    ) -> Result<Bound<'py, PyAny>> {
        let class = self.class(plan);
        let mut given = 0;
        for parameter in build.parameters.iter().flatten() {
            if attributes.contains(&parameter.field)? {
                given += 1;
            } else if parameter.required {
                let (class, field) = (plan.name(self.py), &parameter.field);
                return Err(Fault::new(format!("{class} needs a field {field}, which is missing")));
            }
        }
        let raised = |error: PyErr| {
            Fault::caused(self.py, |text| format!("no {}: {text}", plan.name(self.py)), error)
        };
        if given == attributes.len() && build.by_name {
            return class.call((), Some(attributes)).map_err(raised);
        }
        let (args, kwargs) = (PyList::empty(self.py), PyDict::new(self.py));
        for parameter in build.parameters.iter().flatten() {
            let Some(value) = attributes.get_item(&parameter.field)? else { continue };
            if parameter.passed == Passed::ByPosition {
                args.append(value)?;
            } else {
                kwargs.set_item(&parameter.name, value)?;
            }
        }
        for parameter in build.parameters.iter().flatten() {
            if attributes.contains(&parameter.field)? {
                attributes.del_item(&parameter.field)?;
            }
        }
        let object = class.call(args.to_tuple(), Some(&kwargs)).map_err(raised)?;
        self.assign(&object, plan, build, attributes)?;
        Ok(object)
    }

    /// Calls the constructor with arguments by position.
    pub(super) fn call(
        self,
        plan: &Plan,
        arguments: Bound<'py, PyTuple>,
    ) -> Result<Bound<'py, PyAny>> {
        self.class(plan).call1(arguments).map_err(|error| {
            Fault::caused(self.py, |text| format!("no {}: {text}", plan.name(self.py)), error)
        })
    }

    /// Sets what the constructor did not take. What the class has no place for is dropped: a sender
    /// may know more fields than this receiver.
    fn assign(
        self,
        object: &Bound<'py, PyAny>,
        plan: &Plan,
        build: &Build,
        attributes: &Bound<'py, PyDict>,
    ) -> Result<()> {
        if build.direct {
            let own = object.getattr(intern!(self.py, "__dict__"))?;
            own.cast::<PyDict>().map_err(PyErr::from)?.update(attributes.as_mapping())?;
            return Ok(());
        }
        for (name, value) in attributes.iter() {
            let name = name.cast_into::<PyString>().map_err(PyErr::from)?;
            let set = if build.frozen {
                let setattr = builtin(self.py, &OBJECT_SETATTR, "object", "__setattr__")?;
                setattr.call1((object, &name, value)).map(drop)
            } else {
                object.setattr(&name, value)
            };
            match set {
                Err(error)
                    if error.is_instance_of::<PyAttributeError>(self.py) && !plan.knows(&name) =>
                {
                    self.drop_unknown(plan, &name)?;
                }
                set => set.map_err(|error| {
                    Fault::caused(self.py, |text| format!("cannot be set: {text}"), error)
                        .at(Step::Field(name.to_string_lossy().into_owned()))
                })?,
            }
        }
        Ok(())
    }

    /// Passes over what the plan's class has no place for; says so once for each class.
    fn drop_unknown(self, plan: &Plan, name: &Bound<'py, PyString>) -> Result<()> {
        let class = plan.name(self.py);
        if self.codec.strict {
            return Err(Fault::showing(
                format!("{class} has no attribute {}", shortened(&name.to_string_lossy(), 60)),
                format!("{class} has no such attribute"),
            ));
        }
        if self.work.tells(&format!("{class}.")) {
            self.codec.dropped(self.py, &class)
        } else {
            Ok(())
        }
    }

    // ---- without it

    pub(super) fn rebuild(
        self,
        plan: &Plan,
        build: &Build,
        attributes: Bound<'py, PyDict>,
    ) -> Result<Bound<'py, PyAny>> {
        let new = builtin(self.py, &OBJECT_NEW, "object", "__new__")?;
        let setattr = builtin(self.py, &OBJECT_SETATTR, "object", "__setattr__")?;
        let object = new.call1((self.class(plan),)).map_err(|error| {
            Fault::caused(self.py, |text| format!("no {}: {text}", plan.name(self.py)), error)
        })?;
        for name in &build.slots {
            if let Some(value) = attributes.get_item(name)? {
                attributes.del_item(name)?;
                setattr.call1((&object, name, value))?;
            }
        }
        if build.has_dict {
            setattr.call1((&object, intern!(self.py, "__dict__"), attributes))?;
        } else if !attributes.is_empty() {
            let name = attributes.keys().get_item(0)?.cast_into().map_err(PyErr::from)?;
            self.drop_unknown(plan, &name)?;
        }
        Ok(object)
    }

    // ---- named tuples

    /// Elements beyond the fields are dropped, as the original does.
    pub(super) fn named_tuple(
        self,
        value: Bound<'py, PyAny>,
        plan: &Plan,
        fields: &Fields,
        node: &Node,
        chosen: Chosen,
    ) -> Result<Bound<'py, PyAny>> {
        let mut elements = Vec::with_capacity(fields.list.len());
        if exact::<PyList>(&value).is_some_and(|list| list.len() > fields.list.len()) {
            self.drop_unknown(plan, &PyString::new(self.py, "beyond its fields"))?;
        } else if let Some(dict) = exact::<PyDict>(&value) {
            for name in dict.keys() {
                let name = name.cast_into::<PyString>().map_err(PyErr::from)?;
                if !plan.knows(&name) {
                    self.drop_unknown(plan, &name)?;
                }
            }
        }
        for (index, (name, field)) in fields.list.iter().enumerate() {
            let name = name.bind(self.py);
            let (element, child) = if let Some(list) = exact::<PyList>(&value) {
                (list.get_item(index).ok(), node.index(index))
            } else if let Some(dict) = exact::<PyDict>(&value) {
                (dict.get_item(name)?, node.key(name)?)
            } else if value.get_type().is(self.class(plan)) {
                return Ok(value);
            } else {
                return Err(unexpected(self.py, plan, &value));
            };
            let step = |fault: Fault| fault.at(Step::Field(name.to_string_lossy().into_owned()));
            elements.push(match element {
                Some(element) => self.convert(element, field.get(), child, chosen).map_err(step)?,
                None => self.default(plan, fields, name)?,
            });
        }
        self.new_named_tuple(plan, elements.into_iter())
    }

    /// As `tuple.__new__` makes it: no code of the class runs.
    #[allow(unsafe_code)]
    pub(super) fn new_named_tuple(
        self,
        plan: &Plan,
        elements: impl ExactSizeIterator<Item = Bound<'py, PyAny>>,
    ) -> Result<Bound<'py, PyAny>> {
        let class = self.class(plan);
        let len = ffi::Py_ssize_t::try_from(elements.len()).expect("a length fits into isize");
        // SAFETY: the plan's class is a subclass of tuple made by a class statement, so its objects
        // are allocated generically, with `len` empty places, each of which is filled here before
        // anything else sees the object. Through `tuple.__new__` it takes three times as long.
        unsafe {
            let made = ffi::PyType_GenericAlloc(class.as_type_ptr(), len);
            let made = Bound::from_owned_ptr_or_err(self.py, made)?;
            for (index, element) in (0..len).zip(elements) {
                if ffi::PyTuple_SetItem(made.as_ptr(), index, element.into_ptr()) != 0 {
                    return Err(PyErr::fetch(self.py).into());
                }
            }
            Ok(made)
        }
    }

    pub(super) fn default(
        self,
        plan: &Plan,
        fields: &Fields,
        name: &Bound<'py, PyString>,
    ) -> Result<Bound<'py, PyAny>> {
        let default = match &fields.defaults {
            Some(defaults) => defaults.bind(self.py).get_item(name)?,
            None => None,
        };
        default.ok_or_else(|| {
            let class = plan.name(self.py);
            Fault::new(format!("{class} needs a field {name}, which is missing"))
        })
    }
}
