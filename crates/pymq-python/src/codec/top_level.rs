//! The top level of a message that is read as a stream: the wire's own keys, and what stands beside them.

use jiter::Peek;
use pymq::wire::tags;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::decode::Chosen;
use super::node::{Node, Own};
use super::plan::{Kind, Plan};
use super::stream::{Expected, Read, Stop, Stream};

impl<'py> Stream<'_, '_, 'py> {
    pub(super) fn top_object(&mut self, plan: &Plan) -> Read<Bound<'py, PyAny>> {
        let Some(tag) = tail_tag(self.data) else { return self.untagged_object(plan) };
        let before = self.jiter.clone();
        let mut tree = None;
        let mut first = self.jiter.known_object()?;
        if first == Some(tags::TYPES) {
            let peek = self.jiter.peek()?;
            let start = self.jiter.current_index();
            self.jiter.known_skip(peek)?;
            tree = Some(self.decoder.tree(Some(self.jiter.slice_to_current(start)))?);
            first = self.jiter.next_key()?;
        }
        let node = tree.as_deref().unwrap_or(Node::silent());
        if first == Some(tags::OBJECT) {
            return self.wrapped_value(plan, tag, node);
        }
        self.jiter = before;
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
        let target = Expected { plan, node, chosen, root: Some(tag), is_root: true };
        self.object(target, fields, build)
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
        let peek = self.jiter.peek()?;
        let value = self.value(peek, plan, own, node, Chosen::ByHint)?;
        if self.jiter.next_key()? != Some(tags::TYPE)
            || self.jiter.next_str()? != tag
            || self.jiter.next_key()?.is_some()
        {
            return Err(Stop::Unclear);
        }
        Ok(value)
    }

    fn untagged_object(&mut self, plan: &Plan) -> Read<Bound<'py, PyAny>> {
        let (node, chosen) = (Node::silent(), Chosen::ByHint);
        match &plan.kind {
            Kind::Any => {
                let value = self.any(Peek::Object)?;
                let dict = value.cast_exact::<PyDict>().map_err(PyErr::from)?;
                for key in tags::KEYS {
                    if dict.contains(key)? {
                        return Err(Stop::Unclear);
                    }
                }
                Ok(value)
            }
            Kind::Object { fields, build } => {
                let target = Expected { plan, node, chosen, root: None, is_root: true };
                self.object(target, fields, build)
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
    head.strip_suffix(&tags::TYPE_MEMBER.as_bytes()[1..])?;
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
