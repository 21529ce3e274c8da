//! Which bus is meant: an address, a namespace, and where they were written.
//!
//! The first of these that says something: `--url`, `--context`, `PYMQ_URL`, the `context` that the
//! file names, and a Redis on this machine.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use pymq::Bus;
use serde::Deserialize;

use crate::arguments::Common;
use crate::failure::Failure;

/// What is meant where nothing is said.
const LOCAL: &str = "redis://127.0.0.1:6379/0";

/// The file of named contexts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is meant where nothing else is said.
    pub(crate) context: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// A bus with a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) url: String,
    pub(crate) namespace: Option<String>,
}

impl Contexts {
    /// Those of the file; none where there is no file.
    ///
    /// # Errors
    /// Usage for a file that cannot be read or understood.
    pub(crate) fn read() -> Result<Self, Failure> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(Failure::usage(format!("cannot read {}: {error}", path.display())));
            }
        };
        toml::from_str(&text).map_err(|error| {
            // Its own words would quote the line, which may hold a password.
            let words = format!("{} is not understood: {}", path.display(), error.message());
            Failure::usage(words)
        })
    }

    fn find(&self, name: &str) -> Result<Context, Failure> {
        self.contexts.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            let words = match known.as_slice() {
                [] => format!("no context {name:?}: the file {} names none", shown_path()),
                known => format!("no context {name:?}; there are {}", known.join(", ")),
            };
            Failure::usage(words)
        })
    }
}

/// Where the contexts are written: `PYMQ_CONFIG`, else `pymq/config.toml` where configuration is.
fn path() -> Option<PathBuf> {
    if let Some(path) = env::var_os("PYMQ_CONFIG") {
        return Some(path.into());
    }
    let folder = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".config")));
    Some(folder?.join("pymq").join("config.toml"))
}

pub(crate) fn shown_path() -> String {
    path().map_or_else(|| "config.toml".to_owned(), |path| path.display().to_string())
}

/// The bus that a command line means.
///
/// # Errors
/// Usage for a context that is not there.
pub(crate) fn chosen(common: &Common) -> Result<Context, Failure> {
    let plain = |url: &str| Context { url: url.to_owned(), namespace: None };
    let mut chosen = if let Some(url) = &common.url {
        plain(url)
    } else if let Some(name) = &common.context {
        Contexts::read()?.find(name)?
    } else if let Some(url) = env::var("PYMQ_URL").ok().filter(|url| !url.is_empty()) {
        plain(&url)
    } else {
        let contexts = Contexts::read()?;
        match &contexts.context {
            Some(name) => contexts.find(name)?,
            None => plain(LOCAL),
        }
    };
    chosen.namespace = common.namespace.clone().or(chosen.namespace);
    Ok(chosen)
}

/// Connects to it.
///
/// # Errors
/// As of [`chosen`], and those of the connection.
pub(crate) async fn connect(common: &Common) -> Result<Bus, Failure> {
    let Context { url, namespace } = chosen(common)?;
    let mut builder = Bus::builder(&url);
    if let Some(namespace) = namespace {
        builder = builder.namespace(&namespace);
    }
    if let Some(wait) = common.connect_wait {
        builder = builder.connect_wait(wait);
    }
    Ok(builder.connect().await?)
}
