//! What belongs to the shell: contexts, completions, manual pages.

use clap::CommandFactory as _;
use clap_complete::Shell;
use serde::Serialize;

use crate::arguments::{CommandLine, Common};
use crate::context::{Contexts, chosen, shown_path};
use crate::failure::Failure;
use crate::output::Output;
use crate::table::Table;

#[derive(Serialize)]
struct Named<'a> {
    context: &'a str,
    url: String,
    namespace: &'a str,
    used: bool,
}

pub(super) fn contexts(common: &Common, output: &Output) -> Result<(), Failure> {
    let Contexts { contexts, .. } = Contexts::read()?;
    let used = chosen(common)?;
    let mut table = Table::new(&["", "CONTEXT", "ADDRESS", "NAMESPACE"]);
    for (name, context) in &contexts {
        let namespace = context.namespace.as_deref().unwrap_or("global");
        let is_used = context.url == used.url && context.namespace == used.namespace;
        let url = without_password(&context.url);
        let mark = if is_used { "*" } else { "" };
        table.row([mark.to_owned(), name.clone(), url.clone(), namespace.to_owned()]);
        output.object(&Named { context: name, url, namespace, used: is_used })?;
    }
    if contexts.is_empty() {
        output.say(&format!("{} names no context", shown_path()));
        output.say(&format!("used: {}", without_password(&used.url)));
        return Ok(());
    }
    table.lines().iter().try_for_each(|line| output.line(line))
}

/// An address as it may be shown: neither a password before the host, nor one among the options.
fn without_password(url: &str) -> String {
    let (address, options) = match url.split_once('?') {
        Some((address, _)) => (address, "?…"),
        None => (url, ""),
    };
    let shown = match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (None, Some((_, host))) => format!("…@{host}"),
        (_, None) => address.to_owned(),
    };
    shown + options
}

pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "pymq", &mut script);
    print(&script)
}

pub(super) fn manual(command: Option<&str>) -> Result<(), Failure> {
    let mut whole = CommandLine::command();
    whole.build();
    let page = match command {
        None => clap_mangen::Man::new(whole),
        Some(name) => {
            let found = whole.find_subcommand(name).cloned();
            let found = found.ok_or_else(|| Failure::usage(format!("no command {name:?}")))?;
            clap_mangen::Man::new(found)
        }
    };
    let mut text = Vec::new();
    page.render(&mut text)?;
    print(&text)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    Ok(std::io::stdout().lock().write_all(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "redis://me:secret@h:1/0",
            "redis://:secret@h",
            "redis://h/0?pass=secret",
            "redis://u:se@cret@h",
            "me:secret@h",
        ] {
            let shown = without_password(url);
            assert!(!shown.contains("secret") && !shown.contains("cret"), "{shown}");
        }
        assert_eq!(without_password("redis://h:1/0"), "redis://h:1/0");
    }
}
