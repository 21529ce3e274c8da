//! What a run is told on its command line, and which part this process has in it.

use std::path::PathBuf;

use crate::Outcome;
use crate::round::Pace;

const USAGE: &str = "usage: pymq-benches --redis HOST:PORT [--python PYTHON --workers FOLDER \
                     [--original PYTHON] [--rivals PYTHON]] [--server PROCESS] [--json FILE] \
                     [--plots FOLDER] [--quick] [--only NAME]...";

/// The part of a process.
pub(crate) enum Role {
    /// It measures, and starts the others.
    Measure(Options),
    /// It answers raw calls.
    ProvideRaw { address: String },
    /// It answers this library's calls.
    Provide { url: String },
    /// It publishes, or receives, without end.
    Publish { how: String },
    /// It puts or gets items without a server.
    Work { work: String, url: String },
    /// It is the other end of a raw limit between processes.
    Socket { work: String, path: String },
    /// It fills its memory.
    Weigh { what: String },
    /// It does a work so many times, while somebody counts its instructions.
    Count { work: String, times: usize, url: String },
}

/// How to measure, and with what.
pub(crate) struct Options {
    /// The server, `host:port`.
    pub(crate) redis: String,
    /// A Python that has this library and msgspec.
    pub(crate) python: Option<PathBuf>,
    /// A Python that has the original.
    pub(crate) original: Option<PathBuf>,
    /// A Python that has what people would use instead.
    pub(crate) rivals: Option<PathBuf>,
    /// Where the programs for all of them are.
    pub(crate) workers: PathBuf,
    /// Where the figures go, as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Where the plots go.
    pub(crate) plots: Option<PathBuf>,
    /// The server's process, to count what it uses.
    pub(crate) server: Option<u32>,
    pub(crate) pace: Pace,
    only: Vec<String>,
}

impl Role {
    pub(crate) fn from_arguments(arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let arguments: Vec<String> = arguments.collect();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Ok(match words[..] {
            ["provide-raw", address] => Self::ProvideRaw { address: address.to_owned() },
            ["provide", url] => Self::Provide { url: url.to_owned() },
            ["publish", how] => Self::Publish { how: how.to_owned() },
            ["work", work, url] => Self::Work { work: work.to_owned(), url: url.to_owned() },
            ["socket", work, path] => Self::Socket { work: work.to_owned(), path: path.to_owned() },
            ["weigh", what] => Self::Weigh { what: what.to_owned() },
            ["count", work, times, url] => {
                Self::Count { work: work.to_owned(), times: times.parse()?, url: url.to_owned() }
            }
            _ => Self::Measure(Options::from_arguments(arguments.into_iter())?),
        })
    }
}

impl Options {
    fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            redis: String::new(),
            python: None,
            original: None,
            rivals: None,
            workers: PathBuf::new(),
            json: None,
            plots: None,
            server: None,
            pace: Pace::FULL,
            only: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            if argument == "--quick" {
                options.pace = Pace::QUICK;
                continue;
            }
            let value = arguments.next().ok_or(USAGE)?;
            match argument.as_str() {
                "--redis" => options.redis = value,
                "--python" => options.python = Some(value.into()),
                "--original" => options.original = Some(value.into()),
                "--rivals" => options.rivals = Some(value.into()),
                "--workers" => options.workers = value.into(),
                "--json" => options.json = Some(value.into()),
                "--plots" => options.plots = Some(value.into()),
                "--server" => options.server = Some(value.parse()?),
                "--only" => options.only.push(value),
                _ => return Err(USAGE.into()),
            }
        }
        if options.redis.is_empty() {
            return Err(USAGE.into());
        }
        Ok(options)
    }

    /// Whether a group of works is to be measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == name)
    }

    /// The server's address for this library.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.redis)
    }
}
