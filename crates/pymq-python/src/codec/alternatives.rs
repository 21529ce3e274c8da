//! Which alternative of a union a value is: the first that fits, the closest ones first.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::decode::{Chosen, Decoder, unexpected};
use super::fault::Result;
use super::node::Node;
use super::plan::{Kind, Plan};

impl<'py> Decoder<'_, 'py> {
    /// Unions within unions are asked about one part once: each alternative around them asks again,
    /// and that would double the work at each level.
    pub(super) fn union(
        self,
        value: Bound<'py, PyAny>,
        plan: &Plan,
        members: &[Py<Plan>],
        node: &Node,
        chosen: Chosen,
    ) -> Result<Bound<'py, PyAny>> {
        let members: Vec<&Plan> = members.iter().map(|member| member.get().actual()).collect();
        if members.iter().any(|member| self.is_exactly(&value, member)) {
            return Ok(value);
        }
        if !self.is_shared {
            let result = self.alternatives(&value, &members, node, chosen);
            self.work.forget_readings();
            return result?.ok_or_else(|| unexpected(self.py, plan, &value));
        }
        let question =
            (value.as_ptr() as usize, std::ptr::from_ref(plan), std::ptr::from_ref(node), chosen);
        let asked = self.work.reading(self.py, &question).filter(|_| !is_scalar(&value));
        let reading = match asked {
            Some(reading) => reading.map(|value| value.into_bound(self.py)),
            None => {
                let reading = self.alternatives(&value, &members, node, chosen)?;
                // Only what holds others is one part: equal texts may be one object.
                if !is_scalar(&value) {
                    self.work.keep_reading(question, reading.clone().map(Bound::unbind));
                }
                reading
            }
        };
        reading.ok_or_else(|| unexpected(self.py, plan, &value))
    }

    /// What the first alternative that fits makes of the value.
    fn alternatives(
        self,
        value: &Bound<'py, PyAny>,
        members: &[&Plan],
        node: &Node,
        chosen: Chosen,
    ) -> Result<Option<Bound<'py, PyAny>>> {
        let reader = Self { is_shared: true, ..self };
        // A class that knows all the keys goes before one that does not, and coercion goes last.
        for rank in 0..3 {
            for member in members.iter().filter(|member| self.rank(value, member) == rank) {
                match reader.convert_as(value.clone(), member, None, node, chosen) {
                    Err(fault) if fault.is_refusal() => {}
                    result => return result.map(Some),
                }
            }
        }
        Ok(None)
    }

    fn is_exactly(self, value: &Bound<'py, PyAny>, member: &Plan) -> bool {
        matches!(member.kind, Kind::Primitive(_))
            && member.class.as_ref().is_some_and(|class| value.get_type().is(class))
    }

    fn rank(self, value: &Bound<'py, PyAny>, member: &Plan) -> u8 {
        match &member.kind {
            Kind::Primitive(_) => 2,
            Kind::Object { fields, .. } | Kind::TypedDict { fields, .. } => {
                let Ok(dict) = value.cast_exact::<PyDict>() else { return 1 };
                let known = |key: &Bound<'py, PyAny>| {
                    fields.list.iter().any(|(name, _)| key.eq(name).unwrap_or(false))
                };
                u8::from(!dict.keys().iter().all(|key| known(&key)))
            }
            _ => 0,
        }
    }
}

pub(super) fn is_scalar(value: &Bound<'_, PyAny>) -> bool {
    !value.is_exact_instance_of::<PyList>() && !value.is_exact_instance_of::<PyDict>()
}
