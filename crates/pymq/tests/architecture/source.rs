//! The sources as the compiler sees them: words, paths and texts, without comments and tests.
//!
//! The one invariant: whatever is written so that it compiles is found, in macros too: a path in
//! pieces (`use crate::{rpc::Caller, …}`), one that climbs (`super::super::rpc`), one with spaces.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One file.
pub(crate) struct Source {
    /// Below the folder that was read, e.g. `transport/redis/mod.rs`.
    pub(crate) path: PathBuf,
    /// Every path that it names, from the crate's root if it is one of the crate's own.
    pub(crate) paths: Vec<Vec<String>>,
    /// Every method that it calls.
    pub(crate) methods: Vec<String>,
    /// Every text in it, as it is written.
    pub(crate) texts: Vec<String>,
}

impl Source {
    /// Reads the text of a file.
    pub(crate) fn new(path: impl Into<PathBuf>, text: &str) -> Self {
        let path = path.into();
        let tokens = TokenStream::from_str(text)
            .unwrap_or_else(|error| panic!("{} is no Rust: {error}", path.display()));
        let mut source = Self { path, paths: Vec::new(), methods: Vec::new(), texts: Vec::new() };
        let module = module_of(&source.path);
        source.read(&outside_of_tests(tokens), &module);
        source
    }

    /// The module at the crate's root that it belongs to.
    pub(crate) fn room(&self) -> String {
        module_of(&self.path).first().cloned().unwrap_or_default()
    }

    /// Whether it lies in this folder, or is this file.
    pub(crate) fn is_in(&self, place: &str) -> bool {
        self.path.starts_with(place)
    }

    fn read(&mut self, tokens: &[TokenTree], module: &[String]) {
        let mut place = 0;
        while place < tokens.len() {
            match &tokens[place] {
                TokenTree::Literal(literal) => self.texts.push(literal.to_string()),
                TokenTree::Group(group) if is_documentation(group) => {}
                TokenTree::Group(group) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    let mut deeper = module.to_vec();
                    if let [.., word, name] = &tokens[..place]
                        && word.to_string() == "mod"
                        && group.delimiter() == Delimiter::Brace
                    {
                        deeper.push(name.to_string());
                    }
                    self.read(&inner, &deeper);
                }
                TokenTree::Ident(_) if !continues(&tokens[..place]) => {
                    let (found, after) = paths_at(tokens, place);
                    self.paths.extend(found.into_iter().map(|path| absolute(path, module)));
                    place = after;
                    continue;
                }
                TokenTree::Ident(word) => self.methods.push(word.to_string()),
                TokenTree::Punct(_) => {}
            }
            place += 1;
        }
    }
}

/// Whether what comes next belongs to a path or value before it: `a::b`, `a.b`.
fn continues(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Punct(last)] => match last.as_char() {
            '.' => true,
            // `::name` at the beginning of a path is a crate's.
            ':' => {
                matches!(before, [.., TokenTree::Ident(_), TokenTree::Punct(one), _] if one.as_char() == ':')
            }
            _ => false,
        },
        _ => false,
    }
}

/// The paths that begin at a word, several where it branches, and the place behind them.
fn paths_at(tokens: &[TokenTree], mut place: usize) -> (Vec<Vec<String>>, usize) {
    let mut path = Vec::new();
    loop {
        match tokens.get(place) {
            Some(TokenTree::Ident(word)) => path.push(word.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                return (branches(&path, &inner), place + 1);
            }
            _ => return (vec![path], place),
        }
        match (tokens.get(place + 1), tokens.get(place + 2)) {
            (Some(TokenTree::Punct(one)), Some(TokenTree::Punct(two)))
                if one.as_char() == ':' && two.as_char() == ':' =>
            {
                place += 3;
            }
            _ => return (vec![path], place + 1),
        }
    }
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn branches(stem: &[String], tokens: &[TokenTree]) -> Vec<Vec<String>> {
    let (mut found, mut place) = (Vec::new(), 0);
    while place < tokens.len() {
        if !matches!(tokens[place], TokenTree::Ident(_)) {
            place += 1;
            continue;
        }
        let (ends, after) = paths_at(tokens, place);
        found.extend(ends.into_iter().map(|end| [stem, &end].concat()));
        place = after;
    }
    found
}

/// `self` and `super` in the words of the whole crate.
fn absolute(path: Vec<String>, module: &[String]) -> Vec<String> {
    let climbs = path.iter().take_while(|word| matches!(word.as_str(), "self" | "super"));
    let climbs: Vec<_> = climbs.collect();
    if climbs.is_empty() || (path.len() == 1 && path[0] == "self") {
        return path;
    }
    let up = climbs.iter().filter(|word| **word == "super").count();
    let stay = &module[..module.len().saturating_sub(up)];
    let rest = &path[climbs.len()..];
    [&["crate".to_owned()], stay, rest].concat()
}

/// `transport/redis/mod.rs` is `transport::redis`.
fn module_of(path: &Path) -> Vec<String> {
    let whole = path.with_extension("");
    let mut words: Vec<_> = whole.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        words.pop();
    }
    words
}

/// Takes out every item below `#[cfg(test)]`, and nothing else.
fn outside_of_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let (mut kept, mut skipping) = (Vec::new(), false);
    for token in tokens {
        let ends_item = match &token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        if skipping {
            skipping = !ends_item;
            continue;
        }
        if let TokenTree::Group(group) = &token
            && is_for_tests(group)
        {
            skipping = true;
            continue;
        }
        kept.push(match token {
            TokenTree::Group(group) => {
                let inner = outside_of_tests(group.stream()).into_iter().collect();
                TokenTree::Group(proc_macro2::Group::new(group.delimiter(), inner))
            }
            other => other,
        });
    }
    kept
}

/// `[cfg(test)]` and the likes of it.
fn is_for_tests(group: &proc_macro2::Group) -> bool {
    let text = group.stream().to_string().replace([' ', '\n'], "");
    group.delimiter() == Delimiter::Bracket
        && (matches!(text.as_str(), "test" | "cfg(test)" | "cfg(any(test,fuzzing))")
            || text.starts_with("cfg(all(test,"))
}

/// `[doc = "…"]`, as which the compiler sees `/// …`.
fn is_documentation(group: &proc_macro2::Group) -> bool {
    let first = group.stream().into_iter().next();
    group.delimiter() == Delimiter::Bracket && first.is_some_and(|word| word.to_string() == "doc")
}

/// Every file below a folder.
pub(crate) fn sources(folder: &Path) -> Vec<Source> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        Source::new(path.strip_prefix(folder).expect("below the folder"), &text)
    };
    files(folder).into_iter().map(read).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
