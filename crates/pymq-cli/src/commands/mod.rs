//! The commands: each connects, does one thing, shows it.

mod bench;
mod call;
mod check;
mod dead;
mod doctor;
mod events;
mod ls;
mod queues;
mod serve;
mod shell;
mod top;
mod trace;

use pymq::Bus;
use pymq::wire::Metadata;

use crate::arguments::{Beside, Command, CommandLine};
use crate::context::connect;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// What the Python package's program does itself, unless something stands before the word.
const NO_PYTHON: &str = "`work` runs Python's handlers: install the Python package, and let `work` come first: \
    `pymq work MODULE --url URL`, or `python -m pymq work MODULE`";

/// Does what a command line says.
pub(crate) async fn run(line: CommandLine, output: &Output) -> Result<(), Failure> {
    let CommandLine { common, command } = line;
    match command {
        Command::Contexts => return shell::contexts(&common, output),
        Command::Completions { shell } => return shell::completions(shell),
        Command::Man { command } => return shell::manual(command.as_deref()),
        Command::Work { .. } => return Err(Failure::usage(NO_PYTHON)),
        _ => {}
    }
    if let Command::Check(check) = command {
        return check::check(&common, check, output).await;
    }
    if let Command::Bench(bench) = command {
        return bench::bench(&common, &bench, output).await;
    }
    let bus = connect(&common).await?;
    let outcome = on_bus(&bus, command, output).await;
    // What goes wrong now changes nothing that was done.
    let _ = bus.close().await;
    outcome
}

async fn on_bus(bus: &Bus, command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Pub(publish) => events::publish(bus, publish, output).await,
        Command::Sub(subscribe) => events::subscribe(bus, subscribe, output).await,
        Command::Call(call) => call::call(bus, call, output).await,
        Command::Serve(serve) => serve::serve(bus, serve, output).await,
        Command::Put(put) => queues::put(bus, put, output).await,
        Command::Get(get) => queues::get(bus, get, output).await,
        Command::Queues(which) => queues::queues(bus, which.queues, output).await,
        Command::Peek(peek) => queues::peek(bus, peek, output).await,
        Command::Purge(purge) => queues::purge(bus, purge, output).await,
        Command::Dead(dead) => dead::dead(bus, dead, output).await,
        Command::Ls(ls) => ls::ls(bus, ls.pattern.as_deref(), output).await,
        Command::Doctor(doctor) => doctor::doctor(bus, doctor, output).await,
        Command::Top(top) => top::top(bus, top, output).await,
        Command::Trace(trace) => trace::trace(bus, trace, output).await,
        Command::Check(_)
        | Command::Bench(_)
        | Command::Contexts
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Work { .. } => Ok(()),
    }
}

/// What was shown is all that there is, unless nodes of a cluster could not be asked.
fn all_is_shown(bus: &Bus) -> Result<(), Failure> {
    match bus.health().absent_nodes.as_slice() {
        [] => Ok(()),
        absent => {
            let words = format!("not all is shown: {} could not be asked", absent.join(", "));
            Err(Failure::new(Exit::Connection, words))
        }
    }
}

/// The headers that were given.
fn metadata(beside: &Beside) -> Metadata {
    let headers = beside.headers.iter();
    headers.fold(Metadata::default(), |metadata, (name, text)| metadata.header(name, text))
}

/// The word for one or several things.
fn counted(count: impl TryInto<u64>, thing: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {thing}"),
        several => format!("{several} {thing}s"),
    }
}
