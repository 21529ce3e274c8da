//! `ls`: who is there.

use pymq::name::matches;
use pymq::{Bus, FunctionFacts, TopicFacts};
use serde::Serialize;

use super::{all_is_shown, counted};
use crate::failure::Failure;
use crate::output::Output;
use crate::table::Table;

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Thing<'a> {
    Topic { name: &'a str, subscribers: usize },
    Function { name: &'a str, providers: Vec<Provider>, silent: usize, others: usize },
    Queue { name: &'a str },
}

#[derive(Serialize)]
struct Provider {
    id: String,
    open_calls: Option<usize>,
}

pub(super) async fn ls(bus: &Bus, pattern: Option<&str>, output: &Output) -> Result<(), Failure> {
    let inspection = bus.inspect();
    let (topics, functions, queues) =
        (inspection.topics().await?, inspection.functions().await?, inspection.queues().await?);
    let fits = |name: &str| pattern.is_none_or(|it| matches(it.as_bytes(), name.as_bytes()));
    let mut table = Table::new(&["KIND", "NAME", "WHO"]);
    let mut some = false;
    for TopicFacts { name, subscribers, .. } in topics.iter().filter(|topic| fits(&topic.name)) {
        some = true;
        output.object(&Thing::Topic { name, subscribers: *subscribers })?;
        table.row(["topic".to_owned(), name.clone(), counted(*subscribers, "subscriber")]);
    }
    for function in functions.iter().filter(|function| fits(&function.name)) {
        some = true;
        let FunctionFacts { name, providers, silent, others, .. } = function;
        let all = providers.iter().map(|provider| Provider {
            id: provider.id.to_string(),
            open_calls: provider.open_calls,
        });
        let (silent, others) = (*silent, *others);
        output.object(&Thing::Function { name, providers: all.collect(), silent, others })?;
        table.row(["function".to_owned(), name.clone(), who(function)]);
    }
    for name in queues.iter().filter(|name| fits(name)) {
        some = true;
        output.object(&Thing::Queue { name })?;
        table.row(["queue".to_owned(), name.clone(), String::new()]);
    }
    if !some {
        output.say("nobody is there");
        return all_is_shown(bus);
    }
    table.lines().iter().try_for_each(|line| output.line(line))?;
    all_is_shown(bus)
}

/// Who provides a function: each with its open calls, and what is not as it should be.
fn who(function: &FunctionFacts) -> String {
    let FunctionFacts { providers, silent, others, .. } = function;
    let mut words = counted(providers.len(), "provider");
    let open: usize = providers.iter().filter_map(|provider| provider.open_calls).sum();
    words.push_str(&format!(", {} open", counted(open, "call")));
    if *silent > 0 {
        words.push_str(&format!("; {} DOES NOT ANSWER", counted(*silent, "provider")));
    }
    if *others > 0 {
        words.push_str(&format!("; {others} of the original, or other subscribers"));
    }
    words
}
