//! A message's outline: what an envelope's reader wants to know, found in the pass that checks it.
//!
//! It accepts what [`document`](super::document) accepts, and knows no envelope: which key is looked
//! into is its caller's to say.

use super::{Checked, Members, Scanner};

/// What an object holds, found in the pass that checks it: an envelope is read once, however long
/// it is.
#[derive(Debug, Default)]
pub(crate) struct Outline<'a> {
    /// Its members, in order.
    pub(crate) members: Members<'a>,
    /// The elements of the first member that was asked for, if that is an array.
    pub(crate) elements: Option<Vec<&'a [u8]>>,
    /// The members of the fifth element, if that is an object.
    pub(crate) extension: Option<Members<'a>>,
}

/// Which element of an array is looked into.
const EXTENSION: usize = 4;

/// Checks as [`document`] does, and finds on the way what stands in an object and in the array
/// under `key`; `None` for a value that is no object.
pub(crate) fn outline<'a>(text: &'a [u8], key: &str) -> Checked<Option<Outline<'a>>> {
    let mut scanner = Scanner::of(text)?;
    scanner.space();
    if scanner.peek() != Some(b'{') {
        scanner.value(0)?;
        scanner.end()?;
        return Ok(None);
    }
    let mut outline = Outline { members: Vec::with_capacity(4), ..Outline::default() };
    scanner.each(b'}', |scanner| {
        let name = scanner.key()?.text();
        scanner.space();
        let start = scanner.at;
        let is_first = name == key && outline.get(key).is_none();
        if is_first && scanner.peek() == Some(b'[') {
            outline.array(scanner)?;
        } else {
            scanner.value(1)?;
        }
        outline.members.push((name, scanner.since(start)));
        Ok(())
    })?;
    scanner.end()?;
    Ok(Some(outline))
}

impl<'a> Outline<'a> {
    /// The first member of that name.
    pub(crate) fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, raw)| *raw)
    }

    fn array(&mut self, scanner: &mut Scanner<'a>) -> Checked<()> {
        let mut elements = Vec::with_capacity(8);
        scanner.each(b']', |scanner| {
            scanner.space();
            let start = scanner.at;
            if elements.len() == EXTENSION && scanner.peek() == Some(b'{') {
                self.extension = Some(scanner.members(2)?);
            } else {
                scanner.value(2)?;
            }
            elements.push(scanner.since(start));
            Ok(())
        })?;
        self.elements = Some(elements);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;

    #[test]
    fn an_outline_has_members_elements_and_the_fifth_elements_members() {
        let text =
            br#" {"a": [1], "x": [1, "[", {"b": 2}, [], {"c\u0064": {"e": 3}}, 6], "x": 7} "#;
        let outline = outline(text, "x").expect("well-formed").expect("an object");
        let keys: Vec<_> = outline.members.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, ["a", "x", "x"]);
        let elements = outline.elements.expect("an array");
        assert_eq!((elements.len(), elements[1], elements[5]), (6, &b"\"[\""[..], &b"6"[..]));
        let extension = outline.extension.expect("an object");
        assert_eq!(extension, [("cd".into(), &br#"{"e": 3}"#[..])]);
    }

    #[test]
    fn only_the_first_member_of_the_name_counts() {
        let outline = outline(br#"{"x": 1, "x": [1]}"#, "x").expect("well-formed");
        let outline = outline.expect("an object");
        assert_eq!((outline.get("x"), outline.elements), (Some(&b"1"[..]), None));
    }

    #[test]
    fn an_outline_is_taken_of_what_is_a_document_and_of_nothing_else() {
        let deep = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            [
                format!(r#"{{"x": [0, 0, 0, 0, {{"y": {open}{close}}}]}}"#),
                format!(r#"{{"x": [{open}{close}]}}"#),
                format!(r#"{{"y": {open}{close}}}"#),
            ]
        };
        let levels = [1, 196, 197, 198, 199, 200, 201].map(deep).concat();
        let broken =
            ["", "1", "[1]", "{", r#"{"x": [1}"#, r#"{"x": [}"#, r#"{"x": []} 1"#, "{1: 2}"];
        let broken = broken.map(str::to_owned);
        for text in levels.iter().chain(&broken) {
            let (found, checked) = (outline(text.as_bytes(), "x"), document(text.as_bytes()));
            assert_eq!(found.err(), checked.err(), "{text}");
        }
    }
}
