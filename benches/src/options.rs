//! What a run is told on its command line, and which part this process has in it.

use std::path::PathBuf;

use crate::Outcome;
use crate::round::Pace;

const USAGE: &str = "usage: pymq-benches --redis HOST:PORT [--python PYTHON --workers FOLDER \
                     [--original PYTHON]] [--json FILE] [--quick] [--only NAME]...";

/// The part of a process.
pub(crate) enum Role {
    /// It measures, and starts the others.
    Measure(Options),
    /// It answers raw calls.
    ProvideRaw { address: String },
    /// It answers this library's calls.
    Provide { url: String },
    /// It publishes without end.
    Publish { url: String },
    /// It is the other end of a unix socket.
    Socket { work: String, path: String },
    /// It fills its memory.
    Weigh { what: String },
}

/// How to measure, and with what.
pub(crate) struct Options {
    /// The server, `host:port`.
    pub(crate) redis: String,
    /// A Python that has this library and msgspec.
    pub(crate) python: Option<PathBuf>,
    /// A Python that has the original.
    pub(crate) original: Option<PathBuf>,
    /// Where the programs for both are.
    pub(crate) workers: PathBuf,
    /// Where the figures go, as JSON.
    pub(crate) json: Option<PathBuf>,
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
            ["publish", url] => Self::Publish { url: url.to_owned() },
            ["socket", work, path] => Self::Socket { work: work.to_owned(), path: path.to_owned() },
            ["weigh", what] => Self::Weigh { what: what.to_owned() },
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
            workers: PathBuf::new(),
            json: None,
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
                "--workers" => options.workers = value.into(),
                "--json" => options.json = Some(value.into()),
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
