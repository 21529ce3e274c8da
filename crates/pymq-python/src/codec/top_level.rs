//! The top level of a message that is read as a stream: the wire's own keys, and what stands beside them.

use std::sync::Arc;

use pymq::wire::tags::{self, OBJECT_MEMBER, TYPES_MEMBER};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::decode::Chosen;
use super::message::first;
use super::node::{Node, Own};
use super::plan::{Kind, Plan};
use super::stream::{Expected, Read, Stop, Stream};

impl<'py> Stream<'_, '_, 'py> {
    pub(super) fn top_object(&mut self, plan: &Plan) -> Read<Bound<'py, PyAny>> {
        let Some(tag) = tail_tag(self.reader.text()) else { return self.untagged_object(plan) };
        let mut next = self.reader.enter(b'}')?;
        let mut tree = None;
        if next.is_some() && self.reader.takes(first(TYPES_MEMBER)) {
            tree = Some(self.types()?);
            next = self.reader.next(b'}')?;
        }
        let node = tree.as_deref().unwrap_or(Node::silent());
        if next.is_some() && self.reader.takes(first(OBJECT_MEMBER)) {
            return self.wrapped_value(plan, tag, node);
        }
        let class = match &node.own {
            None => tag,
            Some(Own { class, keys: None }) => class,
            Some(_) => return Err(Stop::Unclear),
        };
        let resolved;
        let (plan, chosen) = if plan.tag.as_deref() == Some(class) {
            (plan, Chosen::ByHint)
        } else if plan.is_any() {
            let found = self.decoder.resolve(class)?;
            resolved = found.ok_or(Stop::Unclear)?;
            (resolved.get().actual(), Chosen::ByTag)
        } else {
            return Err(Stop::Unclear);
        };
        let Kind::Object { fields, build } = &plan.kind else { return Err(Stop::Unclear) };
        let target = Expected { plan, node, chosen, root: Some(tag) };
        self.object(&target, fields, build, next)
    }

    fn types(&mut self) -> Read<Arc<Node>> {
        self.reader.peek()?;
        if let Some((node, len)) = self.decoder.codec.tree_before(self.reader.rest()) {
            self.reader.pass(len);
            return Ok(node);
        }
        let types = self.reader.unread()?;
        // One that is refused is told where the whole is looked at; what interrupts is no refusal.
        self.decoder.tree(Some(types)).map_err(|fault| match fault.is_refusal() {
            true => Stop::Unclear,
            false => fault.into(),
        })
    }

    /// What stands under `__obj`; the message must end as expected.
    fn wrapped_value(&mut self, plan: &Plan, tag: &str, node: &Node) -> Read<Bound<'py, PyAny>> {
        let said;
        let own = match &node.own {
            Some(own) => Some(own),
            None => {
                said = Node::tagged(tag);
                said.own.as_ref()
            }
        };
        let first = self.reader.peek()?;
        let value = self.value(first, plan, own, node, Chosen::ByHint)?;
        if self.reader.next(b'}')?.is_none()
            || self.reader.key()? != tags::TYPE
            || self.reader.peek()? != b'"'
            || self.reader.string()? != tag
            || self.reader.next(b'}')?.is_some()
        {
            return Err(Stop::Unclear);
        }
        Ok(value)
    }

    fn untagged_object(&mut self, plan: &Plan) -> Read<Bound<'py, PyAny>> {
        let (node, chosen) = (Node::silent(), Chosen::ByHint);
        match &plan.kind {
            Kind::Any => {
                let value = self.any(b'{')?;
                let dict = value.cast_exact::<PyDict>().map_err(PyErr::from)?;
                for key in tags::KEYS {
                    if dict.contains(key)? {
                        return Err(Stop::Unclear);
                    }
                }
                Ok(value)
            }
            Kind::Object { fields, build } => {
                let next = self.reader.enter(b'}')?;
                let target = Expected { plan, node, chosen, root: None };
                self.object(&target, fields, build, next)
            }
            _ => Err(Stop::Unclear),
        }
    }
}

/// The tag that the message's last bytes give, as both we and the original write it. As they close
/// the outermost object, they can belong to nothing else; reading up to them proves it.
fn tail_tag(text: &str) -> Option<&str> {
    let body = text.strip_suffix("\"}")?;
    let (head, tag) = body.split_at(body.as_bytes().iter().rposition(|byte| *byte == b'"')? + 1);
    let head = head.strip_suffix('"')?;
    let head = head.strip_suffix(' ').unwrap_or(head);
    head.as_bytes().strip_suffix(first(tags::TYPE_MEMBER))?;
    (!tag.contains('\\')).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_tag_is_that_of_the_outermost_object() {
        assert_eq!(tail_tag(r#"{"a":1,"__type":"m.A"}"#), Some("m.A"));
        assert_eq!(tail_tag(r#"{"a": 1, "__type": "m.A"}"#), Some("m.A"));
        assert_eq!(tail_tag(r#"{"a":"\"__type\":\"m.A"}"#), None);
        assert_eq!(tail_tag(r#"{"a":"__type","b":"m.A"}"#), None);
        assert_eq!(tail_tag(r#"{"a":{"__type":"m.A"}}"#), None);
        assert_eq!(tail_tag(r#"[{"__type":"m.A"}]"#), None);
    }
}
