//! Asks before something is deleted or moved.

use std::io::{self, BufRead, IsTerminal};
use std::thread;

use tokio::sync::oneshot;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Returns if somebody says yes: `--yes`, or a person at a terminal.
pub(crate) async fn confirm(output: &Output, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let words = format!("{question} Nobody can be asked here: say --yes");
        return Err(Failure::usage(words));
    }
    output.say(&format!("{question} [y/N]"));
    let (answer, answered) = oneshot::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        // An error says that the command was interrupted meanwhile.
        let _ = answer.send(read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes"));
    });
    match answered.await {
        Ok(true) => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "nothing was changed")),
    }
}
