//! The top level of a message that is read as a stream: the wire's own keys, and what stands beside them.

use pymq::wire::tags::{self, OBJECT_MEMBER, TYPES_MEMBER};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::decode::Chosen;
use super::message::first;
use super::node::{Node, Own};
use super::plan::{Kind, Plan};
use super::stream::{Expected, Read, Stop, Stream};

impl<'d, 'py> Stream<'_, 'd, 'py> {
    pub(super) fn top_object(&mut self, data: &'d [u8], plan: &Plan) -> Read<Bound<'py, PyAny>> {
        let Some(tag) = tail_tag(data) else { return self.untagged_object(plan) };
        let mut next = self.reader.enter(b'}')?;
        let mut tree = None;
        if next.is_some() && self.reader.takes(first(TYPES_MEMBER)) {
            self.reader.peek()?;
            let types = self.reader.unread()?;
            tree = Some(self.decoder.tree(Some(types)).map_err(|_| Stop::Unclear)?);
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
fn tail_tag(data: &[u8]) -> Option<&str> {
    let body = data.strip_suffix(b"\"}")?;
    let quote = body.iter().rposition(|byte| *byte == b'"')?;
    let (head, tag) = (&body[..quote], &body[quote + 1..]);
    let head = head.strip_suffix(b" ").unwrap_or(head);
    head.strip_suffix(first(tags::TYPE_MEMBER))?;
    std::str::from_utf8(tag).ok().filter(|tag| !tag.contains('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_tag_is_that_of_the_outermost_object() {
        assert_eq!(tail_tag(br#"{"a":1,"__type":"m.A"}"#), Some("m.A"));
        assert_eq!(tail_tag(br#"{"a": 1, "__type": "m.A"}"#), Some("m.A"));
        assert_eq!(tail_tag(br#"{"a":"\"__type\":\"m.A"}"#), None);
        assert_eq!(tail_tag(br#"{"a":"__type","b":"m.A"}"#), None);
        assert_eq!(tail_tag(br#"{"a":{"__type":"m.A"}}"#), None);
        assert_eq!(tail_tag(br#"[{"__type":"m.A"}]"#), None);
    }
}
