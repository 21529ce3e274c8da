//! Names: namespaces, the keys and channels made of them, and glob patterns by Redis's rules.
//!
//! The one invariant: users' names live under `__eventbus:<namespace>:`, as the original has it, and
//! names of ours under `__pymq:<namespace>:`, where no user's pattern reaches. Transports see whole
//! names only and never build one.

use std::fmt;
use std::hash::{Hash, Hasher};

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// The longest name, in bytes, that a topic, queue or function may have.
pub const LONGEST_NAME: usize = 64 * 1024;

/// How long the name of a reply list is.
pub(crate) const REPLY_LIST: usize = 6 + 36;

/// The name space that a bus lives in; programs see each other within one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    users: String,
    ours: String,
}

impl Namespace {
    /// The namespace `name`; the original's default is `global`.
    pub fn new(name: &str) -> Self {
        Self { users: format!("__eventbus:{name}:"), ours: format!("__pymq:{name}:") }
    }

    /// Refuses a name that could not be told from another namespace's: `a:b` with the topic `c` has
    /// the whole name of `a` with `b:c`.
    ///
    /// # Errors
    /// `Config`.
    pub(crate) fn check(&self) -> Result<()> {
        let name = self.name();
        if name.is_empty() || name.contains(':') {
            let why = "a namespace is not empty and has no ':', or its names would be another's; \
                       use '.' or '-'";
            return Err(Error::config(shortened(name), why));
        }
        Ok(())
    }

    /// The name that it was made of.
    pub(crate) fn name(&self) -> &str {
        let name = self.users.strip_prefix("__eventbus:").unwrap_or(&self.users);
        name.strip_suffix(':').unwrap_or(name)
    }

    /// The whole name of a user's topic, queue or function.
    pub fn whole(&self, name: &str) -> String {
        joined([&self.users, name])
    }

    /// The whole pattern for a user's pattern; the namespace itself matches literally.
    pub fn whole_pattern(&self, pattern: &str) -> String {
        literally(&self.users, pattern)
    }

    /// The user's name again, from a whole one; `None` for names outside this namespace.
    pub fn strip<'a>(&self, whole: &'a str) -> Option<&'a str> {
        whole.strip_prefix(&self.users)
    }

    /// The marker topic that every provider of `function` subscribes to.
    pub(crate) fn marker(&self, function: &str) -> String {
        format!("{}marker:{function}", self.ours)
    }

    /// The pattern of all marker topics; the namespace itself matches literally.
    pub(crate) fn whole_marker_pattern(&self) -> String {
        literally(&self.ours, "marker:*")
    }

    /// The pattern of all names of ours; the namespace itself matches literally.
    pub(crate) fn whole_own_pattern(&self) -> String {
        literally(&self.ours, "*")
    }

    /// The function whose marker topic that is; `None` for any other name.
    pub(crate) fn strip_marker<'a>(&self, whole: &'a str) -> Option<&'a str> {
        whole.strip_prefix(&self.ours)?.strip_prefix("marker:")
    }

    /// The topic of one provider of a function.
    pub(crate) fn instance(&self, provider: Id) -> String {
        format!("{}instance:{provider}", self.ours)
    }

    /// A caller's inbox.
    pub(crate) fn inbox(&self, caller: Id) -> Address {
        let name = joined([&self.ours, "inbox:", caller.text(&mut [0; 32])]);
        Address { name, form: Form::Inbox }
    }

    /// The list on which a provider answers a caller of the original.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] unless `name` is `__rpc_` and a hyphenated UUID: a request must not be
    /// able to make anybody write elsewhere.
    pub(crate) fn reply_list(&self, name: &str) -> Result<Address> {
        let uuid = name.strip_prefix("__rpc_").filter(|rest| rest.len() == 36);
        match uuid.map(Uuid::try_parse) {
            Some(Ok(_)) => Ok(Address { name: self.whole(name), form: Form::List }),
            _ => Err(Error::decode(
                shortened(name),
                "not a reply channel; expected \"__rpc_\" and a UUID",
            )),
        }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new("global")
    }
}

/// A random 128-bit identity of a caller, a provider or a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(Uuid);

/// As one number: a slice of bytes would be hashed with its length, in several steps.
impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.0.as_u128());
    }
}

impl Id {
    /// A new identity, never seen before.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Its 32 hexadecimal digits, written into `buffer`.
    pub(crate) fn text(self, buffer: &mut [u8; 32]) -> &str {
        self.0.simple().encode_lower(buffer)
    }

    /// The list on which a caller of the original would await the answers to this call.
    pub(crate) fn reply_list(self, buffer: &mut [u8; REPLY_LIST]) -> &str {
        buffer[..6].copy_from_slice(b"__rpc_");
        self.0.hyphenated().encode_lower(&mut buffer[6..]);
        std::str::from_utf8(buffer).expect("a UUID is written in ASCII")
    }

    /// The identity that [`Display`](fmt::Display) wrote: 32 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| Uuid::try_parse(text).ok().map(Self)).flatten()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; 32]))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Where an addressed message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    name: String,
    form: Form,
}

/// The two forms of a reply address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A live inbox: messages arrive while its owner is connected, and wait for a while otherwise.
    Inbox,
    /// The original's reply list: messages wait in it from the start.
    List,
}

impl Address {
    /// An address of a given form, for transports' own tests.
    pub fn new(name: impl Into<String>, form: Form) -> Self {
        Self { name: name.into(), form }
    }

    /// The whole name, to be used as it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Live inbox or list.
    pub fn form(&self) -> Form {
        self.form
    }
}

/// The parts in a row; their number is known, so that no loop goes over them.
fn joined<const PARTS: usize>(parts: [&str; PARTS]) -> String {
    let mut whole = String::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| whole.push_str(part));
    whole
}

/// The pattern that matches `prefix` as it is, then what `pattern` does.
fn literally(prefix: &str, pattern: &str) -> String {
    let mut whole = String::with_capacity(prefix.len() + pattern.len());
    for character in prefix.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            whole.push('\\');
        }
        whole.push(character);
    }
    whole.push_str(pattern);
    whole
}

/// Refuses names of queues and functions that no transport can carry.
///
/// # Errors
/// [`ErrorKind::Config`] for an empty name and for one over [`LONGEST_NAME`].
pub(crate) fn check(operation: &'static str, name: &str) -> Result<()> {
    if name.is_empty() {
        let why = "the name is empty; give it at least one character";
        return Err(Error::new(ErrorKind::Config, operation, name, why));
    }
    check_topic(operation, name)
}

/// Refuses topics that no transport can carry. The empty one is a topic: the original has it.
///
/// # Errors
/// [`ErrorKind::Config`] for one over [`LONGEST_NAME`].
pub(crate) fn check_topic(operation: &'static str, name: &str) -> Result<()> {
    if name.len() <= LONGEST_NAME {
        return Ok(());
    }
    let why = "the name is longer than 64 KiB; shorten it";
    Err(Error::new(ErrorKind::Config, operation, shortened(name), why))
}

/// A name cut to what fits in a message.
pub(crate) fn shortened(name: &str) -> String {
    shortened_to(80, name)
}

/// A text cut to so many characters.
pub(crate) fn shortened_to(most: usize, text: &str) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whether `text` matches the glob `pattern`, byte for byte as Redis decides it.
///
/// `*` any bytes, `?` one byte, `[abc]`, `[a-z]`, `[^abc]` one byte of (or not of) a set, `\x` the
/// byte `x` itself. The rules, odd corners included, are those of `stringmatchlen` in Redis's
/// `util.c`; a test and a fuzz target compare the two on a live server. They differ in two places: the
/// empty text, which is nobody's name, is matched by `*` here and not there; and the ends of a range
/// beyond ASCII are ordered as bytes here, there as the server's processor takes a C `char`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Where to resume when a byte fails to match: behind the last star, one byte further on.
    // One resumption point suffices, since a later star can absorb whatever an earlier one could.
    let (mut at, mut seen) = (0, 0);
    let mut resume: Option<(usize, usize)> = None;
    loop {
        if at < pattern.len() && pattern[at] == b'*' {
            at += 1;
            resume = Some((at, seen));
            continue;
        }
        if at == pattern.len() && seen == text.len() {
            return true;
        }
        let step = match text.get(seen) {
            Some(&byte) if at < pattern.len() => one(&pattern[at..], byte),
            _ => None,
        };
        match (step, resume) {
            (Some(length), _) => (at, seen) = (at + length, seen + 1),
            (None, Some((star, from))) if from < text.len() => {
                (at, seen) = (star, from + 1);
                resume = Some((star, from + 1));
            }
            (None, _) => return false,
        }
    }
}

/// Matches one byte against the first element of `pattern`; says how long that element is.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', set @ ..] => class(set, byte).map(|length| length + 1),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// Matches one byte against a set, given behind its `[`; a set that nothing closes ends with the
/// pattern, as in Redis.
fn class(set: &[u8], byte: u8) -> Option<usize> {
    let negated = set.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    let length = loop {
        match &set[at..] {
            [] => break at,
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => break at + 1,
            [low, b'-', high, ..] => {
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                at += 3;
            }
            [member, ..] => {
                found |= *member == byte;
                at += 1;
            }
        }
    };
    (found != negated).then_some(length)
}

/// The part of a pattern before its first special byte: every match begins with it.
pub(crate) fn literal_prefix(pattern: &str) -> &str {
    let end = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    &pattern[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes())
    }

    #[test]
    fn globs_follow_the_rules_of_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("shop.*", "shop.OrderPlaced", true),
            ("shop.*", "shop", false),
            ("*.*", "a.b", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXcYb", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a\\", "a\\", true),
            ("[abc", "b", true),
            ("**", "anything", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern:?} against {text:?}");
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        assert!(!glob(&format!("{}b", "a*".repeat(40)), &"a".repeat(4000)));
    }

    #[test]
    fn a_namespace_is_literal_in_patterns() {
        let space = Namespace::new("a*[b]");
        let pattern = space.whole_pattern("x?");
        assert!(glob(&pattern, "__eventbus:a*[b]:xy"));
        assert!(!glob(&pattern, "__eventbus:aZZ[b]:xy"));
    }

    #[test]
    fn only_a_uuid_behind_the_prefix_is_a_reply_list() {
        let space = Namespace::default();
        assert!(space.reply_list("__rpc_6f1c8a34-6f5c-4a43-8f6c-0d0f1e2a3b4c").is_ok());
        for forged in
            ["work", "__rpc_", "__rpc_x", "../x", "__rpc_6f1c8a346f5c4a438f6c0d0f1e2a3b4c"]
        {
            assert!(space.reply_list(forged).is_err(), "{forged}");
        }
    }

    #[test]
    fn an_identity_survives_its_text() {
        let id = Id::random();
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert_eq!(Id::parse("no"), None);
    }
}
