//! `call`.

use bytes::Bytes;
use pymq::rpc::{AllReplies, Reply};
use pymq::wire::{Arguments, Outcome};
use pymq::{Bus, CallOptions};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{counted, metadata};
use crate::arguments::Call;
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};
use crate::value::{keyword, one_line, written};

/// What one provider answered.
#[derive(Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Wrong>,
}

/// Why there is no result.
#[derive(Serialize)]
struct Wrong {
    #[serde(rename = "type")]
    type_name: String,
    arguments: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceback: Option<String>,
}

pub(super) async fn call(bus: &Bus, call: Call, output: &Output) -> Result<(), Failure> {
    let Call { function, arguments, all, timeout, beside } = call;
    let arguments = read_arguments(&arguments, beside.text)?;
    let mut options = CallOptions::default();
    if let Some(timeout) = timeout {
        options = options.timeout(timeout);
    }
    let metadata = metadata(&beside);
    if all {
        let replies = bus.call_all_bytes(&function, arguments, metadata, options).await?;
        return show_all(&function, replies, output);
    }
    let reply = bus.call_bytes(&function, arguments, metadata, options).await?;
    let answer = Answer::of(&reply);
    output.object(&answer)?;
    match (answer.result, answer.error) {
        (Some(result), _) => output.line(result.get()),
        (None, error) => {
            if let Some(traceback) = error.and_then(|error| error.traceback) {
                traceback.lines().for_each(|line| output.say(&printable(line)));
            }
            let words = format!("{function} failed: {}", remote(&reply.outcome));
            Err(Failure::new(Exit::Failed, words))
        }
    }
}

fn show_all(function: &str, all: AllReplies, output: &Output) -> Result<(), Failure> {
    let mut failed = 0;
    for reply in &all.replies {
        let answer = Answer::of(reply);
        let provider = answer.provider.as_deref().unwrap_or("original");
        let line = match &answer.result {
            Some(result) => format!("{provider}  {}", result.get()),
            None => {
                failed += 1;
                format!("{provider}  failed: {}", printable(&remote(&reply.outcome)))
            }
        };
        output.both(&line, &answer)?;
    }
    for missing in &all.missing {
        let provider = missing.provider.map(|id| id.to_string());
        let why = if missing.lost { "ProviderLost" } else { "NoAnswer" };
        let line = format!("{}  {why}", provider.as_deref().unwrap_or("original"));
        let error = Wrong { type_name: why.to_owned(), arguments: None, traceback: None };
        let answer = Answer { provider, type_name: None, result: None, error: Some(error) };
        output.both(&line, &answer)?;
    }
    match (all.replies.len(), all.missing.len(), failed) {
        (0, 0, _) => Err(Failure::nothing(format!("nobody provides {function:?}"))),
        (_, 0, 0) => Ok(()),
        (_, 0, failed) => {
            let words = format!("{} failed", counted(failed, "provider"));
            Err(Failure::new(Exit::Failed, words))
        }
        (_, missing, _) => {
            let words = format!("{} did not answer", counted(missing, "provider"));
            Err(Failure::new(Exit::Timeout, words))
        }
    }
}

impl Answer {
    fn of(reply: &Reply) -> Self {
        let Outcome { value, type_name, failed, traceback, .. } = &reply.outcome;
        let value = one_line(value);
        let (result, error) = match failed {
            false => (Some(value.unwrap_or_else(unreadable)), None),
            true => {
                let (type_name, traceback) = (type_name.clone(), traceback.clone());
                (None, Some(Wrong { type_name, arguments: value, traceback }))
            }
        };
        Self {
            provider: reply.provider.map(|id| id.to_string()),
            type_name: (!failed).then(|| type_name.clone()),
            result,
            error,
        }
    }
}

/// Stands for a result that is no JSON, which no peer sends.
fn unreadable() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

fn remote(outcome: &Outcome) -> String {
    outcome.remote_error(None).to_string()
}

/// Arguments by place, then by name.
fn read_arguments(words: &[String], as_text: bool) -> Result<Arguments, Failure> {
    let (mut positional, mut keywords) = (Vec::new(), Vec::new());
    for (place, word) in words.iter().enumerate() {
        let what = format!("argument {}", place + 1);
        match keyword(word) {
            Some((name, value)) => {
                let what = format!("argument {name}");
                let value = written(value, as_text, &what)?;
                if keywords.iter().any(|(other, _)| *other == name) {
                    return Err(Failure::usage(format!("{what} is given twice")));
                }
                keywords.push((name, value));
            }
            None if keywords.is_empty() => positional.push(written(word, as_text, &what)?),
            None => {
                let words = format!("{what} stands behind one by name; those by place come first");
                return Err(Failure::usage(words));
            }
        }
    }
    let positional = positional.join(&b","[..]);
    let named = |(name, value): &(&str, Bytes)| [b"\"", name.as_bytes(), b"\":", value].concat();
    let keywords = keywords.iter().map(named).collect::<Vec<_>>().join(&b","[..]);
    let mut arguments = Arguments::positional([b"[", &positional[..], b"]"].concat().into());
    arguments.keywords = [b"{", &keywords[..], b"}"].concat().into();
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Arguments, Failure> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        read_arguments(&words, false)
    }

    #[test]
    fn arguments_go_by_place_and_by_name() {
        let arguments = read(&["1", "[2, 3]", "b=\"x\"", "c=null"]).expect("JSON");
        assert_eq!(&arguments.positional[..], b"[1,[2, 3]]");
        assert_eq!(&arguments.keywords[..], br#"{"b":"x","c":null}"#);
    }

    #[test]
    fn what_is_no_json_twice_or_out_of_place_is_named() {
        for (words, named) in [
            (&["tea"][..], "argument 1 is no JSON"),
            (&["a=tea"], "argument a is no JSON"),
            (&["a=1", "a=2"], "argument a is given twice"),
            (&["a=1", "2"], "argument 2 stands behind"),
        ] {
            let failure = read(words).expect_err(named);
            assert!(failure.words().contains(named), "{failure}");
            assert_eq!(failure.exit(), Exit::Usage);
        }
    }
}
