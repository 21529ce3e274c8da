//! Arguments: how those of a call bind to the parameters of `function(a, b, c=None)`.

use bytes::Bytes;

use super::rendering::{Numbers, of_spans};
use super::{Line, Rendered};
use crate::error::ErrorKind;
use crate::rpc::BoundArguments;
use crate::wire::Arguments;
use crate::{codec, json};

/// How two texts of JSON bind, as positional and keyword arguments.
#[derive(Debug, PartialEq, Eq)]
pub enum Bound {
    /// The three values, as one line.
    To(Line),
    /// They do not fit.
    Misfit,
    /// No question of binding: no arguments at all, an equal keyword twice, or a value that Rust's
    /// types cannot hold.
    Beside,
}

/// Binds, and takes the three values.
pub fn bind(positional: &[u8], keywords: &[u8]) -> Bound {
    let (Ok(positional), Ok(keywords)) = (json::document(positional), json::document(keywords))
    else {
        return Bound::Beside;
    };
    let (Some(elements), Some(members)) = (json::elements(positional), json::members(keywords))
    else {
        return Bound::Beside;
    };
    let twice = (1..members.len())
        .any(|place| members[..place].iter().any(|(key, _)| *key == members[place].0));
    // One by one, as the parameters take them.
    let mut values = elements.into_iter().chain(members.iter().map(|(_, value)| *value));
    // Whether they are read rightly is the business of `values`.
    let held = values.all(|value| {
        let read = codec::decode_plain::<Rendered>("value", value).ok();
        read.map(|Rendered(line)| line) == of_spans(value, Numbers::Exact)
    });
    if twice || !held {
        return Bound::Beside;
    }
    let arguments = Arguments {
        positional: Bytes::copy_from_slice(positional),
        keywords: Bytes::copy_from_slice(keywords),
        types: None,
    };
    match take_all(&arguments) {
        Ok(line) => Bound::To(line),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
            assert!(error.message().contains("the function is function(a, b, c)"), "{error}");
            Bound::Misfit
        }
    }
}

fn take_all(arguments: &Arguments) -> crate::Result<Line> {
    let mut bound = BoundArguments::bind("function", &["a", "b", "c"], arguments)?;
    let (Rendered(a), Rendered(b)) = (bound.take()?, bound.take()?);
    let c = bound.take::<Option<Rendered>>()?.map_or("n".to_owned(), |Rendered(line)| line);
    Ok(format!("[{a},{b},{c},]"))
}
