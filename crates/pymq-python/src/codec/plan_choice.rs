//! By which plan a place is built: its hint's, or that of the tag that was sent.

use pyo3::prelude::*;

use super::decode::{Chosen, Decoder};
use super::fault::{Fault, Result};
use super::plan::{Kind, Plan};

/// The plan that a tag leaves standing.
pub(super) enum PlanChoice {
    Hint,
    Tag(Py<Plan>),
    /// The hint's elements in the tag's collection.
    Container(Py<Plan>),
}

impl Decoder<'_, '_> {
    pub(super) fn member_of_class<'a>(
        self,
        members: &'a [Py<Plan>],
        class: &str,
    ) -> Option<&'a Plan> {
        members
            .iter()
            .map(|member| member.get().actual())
            .find(|member| member.tag.as_deref() == Some(class))
    }

    /// Hint or tag? The hint wins, except over its own known subclasses; what a field of a class
    /// that only a tag chose says about collections counts less than what was sent.
    pub(super) fn choose(self, hint: &Plan, class: &str, chosen: Chosen) -> Result<PlanChoice> {
        if matches!(hint.kind, Kind::Literal(_) | Kind::TypedDict { .. } | Kind::Refused(_)) {
            return Ok(PlanChoice::Hint);
        }
        let Some(tagged) = self.resolve(class)? else {
            if hint.is_any() {
                self.unknown(class)?;
            }
            return Ok(PlanChoice::Hint);
        };
        let plan = tagged.get().actual();
        Ok(match (&hint.kind, &plan.kind) {
            (Kind::Any, _) => PlanChoice::Tag(tagged),
            (Kind::Union(members), _) => {
                let fits = |member: &Py<Plan>| {
                    let member = member.get().actual();
                    member.is_any() || self.is_subclass(plan, member)
                };
                if members.iter().any(fits) { PlanChoice::Tag(tagged) } else { PlanChoice::Hint }
            }
            (Kind::Array { .. }, Kind::Array { .. })
            | (Kind::Mapping { .. }, Kind::Mapping { .. })
                if hint.class.is_none()
                    || chosen == Chosen::ByTag
                    || self.is_subclass(plan, hint) =>
            {
                PlanChoice::Container(tagged)
            }
            _ if self.is_subclass(plan, hint) => PlanChoice::Tag(tagged),
            _ if self.is_subclass(hint, plan) => PlanChoice::Hint,
            (
                Kind::Object { .. } | Kind::NamedTuple(_) | Kind::Model { .. },
                Kind::Object { .. }
                | Kind::NamedTuple(_)
                | Kind::Model { .. }
                | Kind::Scalar { .. },
            ) => {
                let wanted = hint.name(self.py);
                return Err(Fault::new(format!("expected {wanted}, got the unrelated {class}")));
            }
            _ => PlanChoice::Hint,
        })
    }

    /// By inheritance alone: no class is asked for its opinion.
    pub(super) fn is_subclass(self, plan: &Plan, of: &Plan) -> bool {
        let (Some(class), Some(of)) = (&plan.class, &of.class) else { return false };
        class.bind(self.py).mro().iter().any(|base| base.is(of))
    }

    /// The plan of a tag's class. What is not known once is not known for the whole message.
    pub(super) fn resolve(self, tag: &str) -> Result<Option<Py<Plan>>> {
        if self.work.is_unresolved(tag) {
            return Ok(None);
        }
        let plan = self.codec.resolve(self.py, tag)?;
        if plan.is_none() {
            self.work.note_unresolved(tag);
        }
        Ok(plan)
    }

    pub(super) fn unknown(self, tag: &str) -> Result<()> {
        if self.codec.strict {
            return Err(Fault::showing(
                format!(
                    "unknown type {tag:?}; import its module, or pass the class to pymq.register"
                ),
                "a type that this program does not know",
            ));
        }
        if self.work.tells(tag) { self.codec.unknown(self.py, tag) } else { Ok(()) }
    }
}
