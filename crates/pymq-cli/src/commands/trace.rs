//! `trace`: what passes on the bus.

use pymq::Bus;
use pymq::name::matches;
use pymq::transport::Arrival;
use pymq::wire::Passing;
use serde::Serialize;
use serde_json::value::RawValue;

use super::counted;
use crate::arguments::Trace;
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};
use crate::value::{Shown, one_line};

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Traced<'a> {
    Event {
        topic: &'a str,
        #[serde(flatten)]
        shown: Shown,
    },
    Request {
        function: &'a str,
        call: Option<String>,
        args: Option<Box<RawValue>>,
        kwargs: Option<Box<RawValue>>,
    },
    Answer {
        function: &'a str,
        call: Option<String>,
        provider: Option<String>,
        failed: bool,
        value: Option<Box<RawValue>>,
    },
    Talk {
        topic: &'a str,
        word: &'a str,
        call: Option<String>,
    },
}

pub(super) async fn trace(bus: &Bus, trace: Trace, output: &Output) -> Result<(), Failure> {
    let Trace { pattern, talk, count } = trace;
    let fits =
        |name: &str| pattern.as_ref().is_none_or(|it| matches(it.as_bytes(), name.as_bytes()));
    let mut traffic = bus.inspect().traffic().await?;
    output.say("tracing; Ctrl-C ends it");
    let mut left = count;
    while left != Some(0) {
        let Some(arrival) = traffic.recv().await else {
            return Err(Failure::new(Exit::Connection, "the bus was closed"));
        };
        let passing = match arrival {
            Arrival::Message(passing) => passing,
            Arrival::Lagged(missed) => {
                output.say(&format!("pymq: {} missed", counted(missed, "message")));
                continue;
            }
            Arrival::Gap => {
                output.say("pymq: the connection is back; messages in between were missed");
                continue;
            }
            Arrival::Refused(why) => return Err(Failure::new(Exit::Failed, why.to_string())),
        };
        let wanted = match &passing {
            Passing::Event { topic, .. } => fits(topic),
            Passing::Request { function, .. } | Passing::Answer { function, .. } => fits(function),
            _ => talk,
        };
        if wanted {
            show(&passing, output)?;
            left = left.map(|left| left - 1);
        }
    }
    Ok(())
}

fn show(passing: &Passing, output: &Output) -> Result<(), Failure> {
    let named = |id: &Option<pymq::name::Id>| id.map(|id| id.to_string());
    let short = |id: &Option<pymq::name::Id>| {
        let whole = named(id).unwrap_or_else(|| "original".to_owned());
        whole.get(..8).unwrap_or(&whole).to_owned()
    };
    let text = |value: &Option<Box<RawValue>>| {
        value.as_ref().map_or_else(String::new, |value| value.get().to_owned())
    };
    match passing {
        Passing::Event { topic, payload } => {
            let shown = Shown::of(payload);
            let line = format!("event    {}  {}", printable(topic), shown.line());
            output.both(&line, &Traced::Event { topic, shown })
        }
        Passing::Request { function, call, arguments } => {
            let (args, kwargs) = (one_line(&arguments.positional), one_line(&arguments.keywords));
            let line = format!("request  {} {}", short(call), printable(function));
            let line = format!("{line}  {} {}", text(&args), text(&kwargs));
            output.both(&line, &Traced::Request { function, call: named(call), args, kwargs })
        }
        Passing::Answer { function, call, provider, outcome } => {
            let value = one_line(&outcome.value);
            let what = if outcome.failed {
                format!("failed: {} ", outcome.type_name)
            } else {
                String::new()
            };
            let line = format!("answer   {} {}", short(call), printable(function));
            let line = format!("{line}  {}{}", printable(&what), text(&value));
            let (call, provider) = (named(call), named(provider));
            output.both(
                &line,
                &Traced::Answer { function, call, provider, failed: outcome.failed, value },
            )
        }
        Passing::Talk { topic, word, call } => {
            let line = format!("talk     {} {word}  {}", short(call), printable(topic));
            output.both(&line, &Traced::Talk { topic, word, call: named(call) })
        }
        _ => Ok(()),
    }
}
