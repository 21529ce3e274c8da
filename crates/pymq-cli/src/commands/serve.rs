//! `serve`: a command of this machine as a function.

use std::process::Stdio;
use std::sync::Arc;

use pymq::Bus;
use pymq::rpc::Call;
use pymq::wire::Outcome;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::arguments::Serve;
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};
use crate::value::one_line;

/// The most that a command may print as a result, in bytes.
const MOST_PRINTED: usize = 16 << 20;

pub(super) async fn serve(bus: &Bus, serve: Serve, output: &Output) -> Result<(), Failure> {
    let Serve { function, command, concurrency, count } = serve;
    if concurrency == 0 {
        return Err(Failure::usage("--concurrency is at least 1"));
    }
    let mut provider = bus.provide(&function).await?;
    output.say(&format!("serving {}; Ctrl-C ends it", printable(&function)));
    let places = Arc::new(Semaphore::new(concurrency));
    let command = Arc::new(command);
    let mut running = JoinSet::new();
    let mut left = count;
    while left != Some(0) {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let Some(call) = provider.recv().await else { break };
        left = left.map(|left| left - 1);
        let shown = String::from_utf8_lossy(&call.arguments().positional).into_owned();
        output.both(
            &format!("{}  {}", printable(&function), printable(&shown)),
            &Called {
                function: &function,
                args: one_line(&call.arguments().positional),
                kwargs: one_line(&call.arguments().keywords),
            },
        )?;
        let command = Arc::clone(&command);
        running.spawn(async move {
            let _place = place;
            answer(&command, call).await;
        });
    }
    while running.join_next().await.is_some() {}
    let ended = provider.end().await;
    match left {
        Some(0) => Ok(ended?),
        _ => Err(Failure::new(Exit::Connection, "the bus was closed")),
    }
}

#[derive(serde::Serialize)]
struct Called<'a> {
    function: &'a str,
    args: Option<Box<serde_json::value::RawValue>>,
    kwargs: Option<Box<serde_json::value::RawValue>>,
}

/// Runs the command for a call; a caller that gives up ends it.
async fn answer(command: &[String], call: Call) {
    let cancelled = call.cancelled();
    let outcome = tokio::select! {
        outcome = run(command, &call) => outcome,
        () = cancelled => Outcome::failure("Cancelled", "the caller gave up"),
    };
    call.answer(outcome);
}

async fn run(command: &[String], call: &Call) -> Outcome {
    let failed = |words: String| Outcome::failure("CommandFailed", &words);
    let mut process = match prepared(command).spawn() {
        Ok(process) => process,
        Err(error) => {
            let program = command.first().map_or("", String::as_str);
            return failed(format!("cannot run {program:?}: {error}"));
        }
    };
    let arguments = call.arguments();
    let input =
        [b"{\"args\": ", &arguments.positional[..], b", \"kwargs\": ", &arguments.keywords, b"}\n"];
    let input = input.concat();
    let stdin = process.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input has its reasons.
            let _ = stdin.write_all(&input).await;
        }
    };
    let ((), ended) = tokio::join!(feed, process.wait_with_output());
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => return failed(error.to_string()),
    };
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        let last = said.lines().last().unwrap_or_default();
        return failed(format!("{}: {last}", ended.status));
    }
    if ended.stdout.len() > MOST_PRINTED {
        return failed("it printed more than 16 MiB".to_owned());
    }
    result(&String::from_utf8_lossy(&ended.stdout))
}

/// Several words are a program and its arguments, a single one is the shell's to read.
fn prepared(words: &[String]) -> Command {
    let mut command = match words {
        [line] => {
            let mut shell = Command::new("sh");
            shell.args(["-c", line]);
            shell
        }
        words => {
            let mut program = Command::new(words.first().map_or("", String::as_str));
            program.args(&words[1..]);
            program
        }
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What was printed: JSON as it is, nothing as null, anything else as text.
fn result(printed: &str) -> Outcome {
    let printed = printed.trim();
    let value = match printed {
        "" => "null".to_owned(),
        json if serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok() => {
            json.to_owned()
        }
        text => serde_json::Value::from(text).to_string(),
    };
    let type_name = match value.as_bytes().first() {
        Some(b'{') => "dict",
        Some(b'[') => "list",
        Some(b'"') => "str",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "NoneType",
        _ if value.contains(['.', 'e', 'E']) => "float",
        _ => "int",
    };
    Outcome::result(value.into(), type_name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_json_or_text() {
        for (printed, value, type_name) in [
            ("8\n", "8", "int"),
            ("{\"a\": 1.5}", "{\"a\": 1.5}", "dict"),
            ("hello world\n", "\"hello world\"", "str"),
            ("", "null", "NoneType"),
            ("1.5", "1.5", "float"),
        ] {
            let outcome = result(printed);
            assert_eq!((&outcome.value[..], &*outcome.type_name), (value.as_bytes(), type_name));
        }
    }
}
