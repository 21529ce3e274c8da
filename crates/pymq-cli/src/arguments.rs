//! The words of the command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pymq::PutOptions;
use pymq::transport::Reason;

const EXIT_CODES: &str = "\
Exit codes:
  0 done   1 failed (a function raised, the server refused, something was found)
  2 the command line is wrong   3 nothing there (no provider, no item, no queue)
  4 the time was over   5 no server, or it went away   130 Ctrl-C   143 SIGTERM

Which bus: --url, --context, PYMQ_URL, the context that ~/.config/pymq/config.toml names, else
redis://127.0.0.1:6379/0. Data goes to the standard output, talk to the standard error.";

/// Publish, subscribe, call, look at queues: a PyMQ bus on the command line.
#[derive(Debug, Parser)]
#[command(name = "pymq", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command knows.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The address of the bus, e.g. redis://127.0.0.1:6379/0
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A bus by its name in the file of contexts
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "url")]
    pub(crate) context: Option<String>,
    /// The namespace on that bus
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// One JSON object a line, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Wait so long for a server that is not up yet
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) connect_wait: Option<Duration>,
    /// Tell more of what the library does; twice for all
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish events: values given, or one a line from the standard input
    Pub(Pub),
    /// Show events of topics and patterns as they come
    Sub(Sub),
    /// Call a function
    Call(Call),
    /// Expose a command of this machine as a function, for trying things
    Serve(Serve),
    /// Put items into a queue: values given, or one a line from the standard input
    Put(Put),
    /// Take items out of a queue; each is gone once it is shown
    Get(Get),
    /// Serve queues with the handlers of a Python module; in the Python package's program only
    ///
    /// `pymq work MODULE` of the Python package, which is `python -m pymq work MODULE`, runs what the module
    /// declares with `@pymq.worker`; `pymq work --help` there tells its options. The program that cargo
    /// installs knows no Python.
    Work {
        /// A module, and the options behind it
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "MODULE")]
        words: Vec<OsString>,
    },
    /// How many items wait, are due later, leased and dead, in all queues or some
    Queues(Queues),
    /// Show items of a queue and leave them there
    Peek(Peek),
    /// Delete the items of a queue that wait or are due later
    Purge(Purge),
    /// Dead letters of a queue: list, redrive, purge; all of them, or those of an error, a text, an id
    Dead(Dead),
    /// Who is there: topics with their subscribers, functions with their providers, queues
    Ls(Ls),
    /// Whether the bus is well, for containers and monitors
    Check(Check),
    /// What is wrong with a bus: server, rights, settings that lose data, who is stuck, what was left
    Doctor(Doctor),
    /// What passes on the bus: events, requests, answers; no answers over ipc://
    Trace(Trace),
    /// A live view: queues, topics by rate, functions
    Top(Top),
    /// How fast this bus is, beside the raw limit of its server
    Bench(Bench),
    /// The buses that have a name in the file of contexts
    Contexts,
    /// Print the completions for a shell
    Completions {
        /// Which shell
        #[arg(value_parser = shell())]
        shell: Shell,
    },
    /// Print the manual page, in roff; of a command, where one is named
    Man {
        /// Which command
        command: Option<String>,
    },
}

/// Those shells for which completions are tried.
fn shell() -> impl clap::builder::TypedValueParser<Value = Shell> {
    use clap::builder::TypedValueParser as _;
    clap::builder::PossibleValuesParser::new(["bash", "zsh", "fish"]).map(|name| match &*name {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        _ => Shell::Fish,
    })
}

/// What travels beside a value.
#[derive(Debug, Args)]
pub(crate) struct Beside {
    /// A header beside each value
    #[arg(long = "header", short = 'H', value_name = "NAME=TEXT", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Values are text as they stand, not JSON
    #[arg(long)]
    pub(crate) text: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pub {
    /// Where to
    pub(crate) topic: String,
    /// JSON values; none, or -, reads them from the standard input, one a line
    #[arg(allow_negative_numbers = true)]
    pub(crate) values: Vec<String>,
    #[command(flatten)]
    pub(crate) beside: Beside,
}

#[derive(Debug, Args)]
pub(crate) struct Sub {
    /// Topics, and patterns (with *, ? or [ in them)
    #[arg(required = true)]
    pub(crate) topics: Vec<String>,
    /// Take names as they stand, with *, ? and [ in them
    #[arg(long)]
    pub(crate) exact: bool,
    /// End after so many events
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Go on where the connection is lost, and say what was missed
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// End, with 4, where none comes for so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// Its name
    pub(crate) function: String,
    /// JSON values by place, and NAME=JSON by name
    #[arg(value_name = "VALUE|NAME=VALUE", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// Call every provider, and show every answer
    #[arg(long)]
    pub(crate) all: bool,
    /// How long the whole call may take
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) beside: Beside,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The function's name
    pub(crate) function: String,
    /// What runs for each call: a program with arguments, or one text for the shell. It reads
    /// {"args": [...], "kwargs": {...}}; what it prints is the result
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// How many calls run at once
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) concurrency: usize,
    /// End after so many calls
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// Where to
    pub(crate) queue: String,
    /// JSON values; none, or -, reads them from the standard input, one a line
    #[arg(allow_negative_numbers = true)]
    pub(crate) values: Vec<String>,
    #[command(flatten)]
    pub(crate) how: How,
    #[command(flatten)]
    pub(crate) beside: Beside,
}

/// How items are put.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Due after so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    delay: Option<Duration>,
    /// Put once under this id; for a single value
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// 0 to 9, on a queue with priorities
    #[arg(long, value_name = "0..9", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
}

impl How {
    /// As the library takes it.
    pub(crate) fn options(&self) -> PutOptions {
        let mut options = PutOptions::new();
        if let Some(delay) = self.delay {
            options = options.delay(delay);
        }
        if let Some(priority) = self.priority {
            options = options.priority(priority);
        }
        if let Some(id) = &self.id {
            options = options.id(id.as_str());
        }
        options
    }
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Where from
    pub(crate) queue: String,
    /// How many
    #[arg(long, short = 'n', default_value_t = 1, value_name = "N")]
    pub(crate) count: u64,
    /// Wait so long for each
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) wait: Option<Duration>,
    /// Take for ever
    #[arg(long, short = 'f', conflicts_with_all = ["count", "wait"])]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Queues {
    /// Which ones; all where none is named
    pub(crate) queues: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shelf {
    /// Items that wait
    Waiting,
    /// Items that are due later
    Delayed,
    /// Dead letters
    Dead,
}

#[derive(Debug, Args)]
pub(crate) struct Peek {
    /// Where
    pub(crate) queue: String,
    /// How many
    #[arg(long, short = 'n', default_value_t = 10, value_name = "N")]
    pub(crate) count: usize,
    /// Which of its items
    #[arg(long, value_enum, default_value = "waiting")]
    pub(crate) of: Shelf,
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// Where
    pub(crate) queue: String,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Dead {
    /// Whose
    pub(crate) queue: String,
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(subcommand)]
    pub(crate) what: Option<DeadCommand>,
}

/// Which dead letters: those to which everything applies that is said.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which letters")]
pub(crate) struct Which {
    /// At most so many, the oldest first; 20 where they are listed, else all
    #[arg(long, short = 'n', global = true, value_name = "N")]
    pub(crate) count: Option<usize>,
    /// Only those with this text in their error, its type or its words
    #[arg(long, global = true, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) error: Option<String>,
    /// Only those that ended so
    #[arg(long, global = true, value_parser = reason())]
    pub(crate) reason: Option<Reason>,
    /// Only those with this text in their item, as it is shown
    #[arg(long, global = true, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) contains: Option<String>,
    /// Only what was put with this id
    #[arg(long, global = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Move them back into the queue, the oldest first, their counts reset
    Redrive {
        /// Into another queue
        #[arg(long, value_name = "QUEUE")]
        to: Option<String>,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Delete them
    Purge {
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

/// How a delivery may have ended, by its name.
fn reason() -> impl clap::builder::TypedValueParser<Value = Reason> {
    use clap::builder::TypedValueParser as _;
    let names = Reason::ALL.map(Reason::name);
    clap::builder::PossibleValuesParser::new(names).map(|name| {
        let named = Reason::ALL.into_iter().find(|reason| reason.name() == name);
        named.unwrap_or_default()
    })
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only names that match this pattern
    pub(crate) pattern: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// How long it may take
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub(crate) timeout: Duration,
    /// This function must have a provider that answers
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Vec<String>,
    /// Fail where a queue holds more dead letters than so many
    #[arg(long, value_name = "QUEUE=N", value_parser = limit)]
    pub(crate) dead: Vec<(String, usize)>,
    /// Fail where more items than so many wait in a queue
    #[arg(long, value_name = "QUEUE=N", value_parser = limit)]
    pub(crate) waiting: Vec<(String, usize)>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Show what is as it should be, too
    #[arg(long)]
    pub(crate) all: bool,
    /// Clear up what was left behind, after asking
    #[arg(long)]
    pub(crate) fix: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// Only topics and functions that match this pattern
    pub(crate) pattern: Option<String>,
    /// Show what callers and providers say beside requests and answers, too
    #[arg(long)]
    pub(crate) talk: bool,
    /// End after so many messages
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Only names that match this pattern
    pub(crate) pattern: Option<String>,
    /// How often it looks
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    pub(crate) every: Duration,
    /// End after so many looks
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// How long each figure is taken
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    pub(crate) time: Duration,
}

/// A length of time in seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "seconds are a number, e.g. 2.5".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "a time is zero or more seconds".to_owned())
}

/// A header: its name, then its text.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a header is NAME=TEXT")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A queue, then a number; the name may have equals signs.
fn limit(text: &str) -> Result<(String, usize), String> {
    let why = "a limit is QUEUE=NUMBER";
    let (queue, number) = text.rsplit_once('=').ok_or(why)?;
    Ok((queue.to_owned(), number.parse().map_err(|_| why)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_fit_together() {
        use clap::CommandFactory as _;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn times_are_numbers_of_zero_or_more() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        for text in ["-1", "NaN", "inf", "soon", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
