//! A message's outline: what an envelope's reader wants to know, found in the pass that checks it.
//!
//! It accepts what [`document`](super::document) accepts, and knows no envelope: which key is looked
//! into is its caller's to say.

use std::borrow::Cow;

use super::{Checked, Scanner, Span};

/// What an object holds, found in the pass that checks it: an envelope is read once, however long
/// it is.
#[derive(Debug, Default)]
pub(crate) struct Outline<'a> {
    /// The members of the object and those of the fifth element, in their order: one allocation.
    members: Vec<Member<'a>>,
    elements: Option<Elements<'a>>,
    has_extension: bool,
}

#[derive(Debug)]
struct Member<'a> {
    of_extension: bool,
    name: Cow<'a, str>,
    value: Span<'a>,
}

/// The first elements of an array, as many as an envelope has.
type Elements<'a> = ([Span<'a>; EXTENSION + 1], usize);

/// Which element of an array is looked into.
const EXTENSION: usize = 4;

/// Checks as [`document`] does, and finds on the way what stands in an object and in the array
/// under `key`; `None` for a value that is no object.
pub(crate) fn outline<'a>(text: &'a [u8], key: &str) -> Checked<Option<Outline<'a>>> {
    let mut scanner = Scanner::of(text)?;
    if !scanner.opens(b'{') {
        scanner.value(0)?;
        scanner.end()?;
        return Ok(None);
    }
    let mut outline = Outline { members: Vec::with_capacity(8), ..Outline::default() };
    scanner.each(b'}', |scanner| {
        let name = scanner.key()?.unquoted();
        let is_first = name == key && outline.get(key).is_none();
        let value = match is_first && scanner.opens(b'[') {
            true => outline.array(scanner)?,
            false => scanner.value(1)?,
        };
        outline.members.push(Member { of_extension: false, name, value });
        Ok(())
    })?;
    scanner.end()?;
    Ok(Some(outline))
}

impl<'a> Outline<'a> {
    /// The first member of that name.
    pub(crate) fn get(&self, key: &str) -> Option<Span<'a>> {
        self.find(false, key)
    }

    /// The first elements of the first member that was asked for, if that is an array.
    pub(crate) fn elements(&self) -> Option<&[Span<'a>]> {
        self.elements.as_ref().map(|(first, count)| &first[..*count])
    }

    /// Whether the fifth element is an object.
    pub(crate) fn has_extension(&self) -> bool {
        self.has_extension
    }

    /// The first member of that name in the fifth element.
    pub(crate) fn get_in_extension(&self, key: &str) -> Option<Span<'a>> {
        self.find(true, key)
    }

    fn find(&self, of_extension: bool, key: &str) -> Option<Span<'a>> {
        let is_it =
            |member: &&Member<'a>| member.of_extension == of_extension && member.name == key;
        self.members.iter().find(is_it).map(|member| member.value)
    }

    fn array(&mut self, scanner: &mut Scanner<'a>) -> Checked<Span<'a>> {
        let (array, mut first, mut count) = (scanner.at, [Span::default(); EXTENSION + 1], 0);
        scanner.each(b']', |scanner| {
            let element = match count == EXTENSION && scanner.opens(b'{') {
                true => self.extend(scanner)?,
                false => scanner.value(2)?,
            };
            if let Some(place) = first.get_mut(count) {
                *place = element;
                count += 1;
            }
            Ok(())
        })?;
        self.elements = Some((first, count));
        Ok(scanner.since(array))
    }

    fn extend(&mut self, scanner: &mut Scanner<'a>) -> Checked<Span<'a>> {
        let start = scanner.at;
        self.has_extension = true;
        scanner.each(b'}', |scanner| {
            let (name, value) = scanner.member(3)?;
            self.members.push(Member { of_extension: true, name, value });
            Ok(())
        })?;
        Ok(scanner.since(start))
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
        let get = |key| outline.get(key).map(Span::bytes);
        assert_eq!((get("a"), get("cd")), (Some(&b"[1]"[..]), None));
        let elements = outline.elements().expect("an array").iter();
        let elements: Vec<_> = elements.map(|element| element.bytes()).collect();
        assert_eq!((elements.len(), elements[1], elements[3]), (5, &b"\"[\""[..], &b"[]"[..]));
        assert_eq!(elements[4], br#"{"c\u0064": {"e": 3}}"#);
        let extension = outline.get_in_extension("cd").map(Span::bytes);
        assert_eq!(extension, Some(&br#"{"e": 3}"#[..]));
        assert!(outline.has_extension() && outline.get_in_extension("a").is_none());
    }

    #[test]
    fn only_the_first_member_of_the_name_counts() {
        let outline = outline(br#"{"x": 1, "x": [1]}"#, "x").expect("well-formed");
        let outline = outline.expect("an object");
        assert_eq!(outline.get("x").map(Span::bytes), Some(&b"1"[..]));
        assert_eq!(outline.elements(), None);
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
