//! The remote functions of `shared_types.py`, as a Rust program would write and expose them.
//!
//! Arguments are structs, so that positional and keyword arguments both find their places; a
//! function says that it runs before it does anything else. Results are plain data, since that is
//! what Rust sends.

use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pymq::{Bus, Error, ErrorKind, Service};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::description::Described;
use crate::shared_types::Reading;

/// The names of the functions that this process has run, oldest first.
static RAN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The first argument of each `product` that this process has run.
static MULTIPLIED: Mutex<Vec<i64>> = Mutex::new(Vec::new());

fn runs(name: &str) {
    RAN.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
}

/// One function as programs write them, with named parameters; the others have closures' ways.
#[pymq::remote("shared_types.join_words")]
fn join_words(first: String, second: Option<String>) -> String {
    runs("join_words");
    format!("{first} {}", second.as_deref().unwrap_or("world"))
}

/// What the functions of this process share.
#[derive(Debug)]
pub(crate) struct Remotes {
    name: String,
    released: watch::Sender<bool>,
}

/// Python's name for what goes wrong in `fail`: callers see the name of the type.
#[derive(Debug)]
struct ValueError(String);

/// Python's name for what goes wrong in `fail_of_stock`.
#[derive(Debug)]
struct OutOfStock(String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Deserialize)]
struct Product {
    a: i64,
    b: i64,
}

#[derive(Deserialize)]
struct JoinWords {
    first: String,
    #[serde(default = "world")]
    second: String,
}

#[derive(Deserialize)]
struct Doubled {
    reading: Reading,
}

fn world() -> String {
    "world".to_owned()
}

/// A function that gives its result at once.
type Prompt<A, R, E> = fn(&Remotes, A) -> Result<R, E>;

impl Remotes {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        let released = watch::Sender::new(false);
        Arc::new(Self { name: name.to_owned(), released })
    }

    /// The names of the functions that have run, oldest first.
    pub(crate) fn ran(&self) -> Vec<String> {
        RAN.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first argument of each `product` that has run.
    pub(crate) fn multiplied(&self) -> Vec<i64> {
        MULTIPLIED.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends every `held`.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Exposes the function `name` on `channel`.
    ///
    /// # Errors
    /// That of the bus, and `Config` where there is no function of that name.
    pub(crate) async fn expose(
        self: &Arc<Self>,
        bus: &Bus,
        name: &str,
        channel: &str,
    ) -> pymq::Result<Service> {
        if (name, channel) == ("join_words", "shared_types.join_words") {
            return bus.expose(join_words).await;
        }
        let to = Place { remotes: Arc::clone(self), bus, name, channel };
        match name {
            "product" => to.prompt(|_, Product { a, b }| product(a, b)).await,
            "echo" => to.prompt(|_, (value,): (Described,)| Ok::<_, String>(value)).await,
            "join_words" => {
                to.prompt(|_, JoinWords { first, second }| joined(&first, &second)).await
            }
            "fail" => to.prompt(|_, (code,): (i64,)| fail(code)).await,
            "fail_of_stock" => {
                to.prompt(|_, (item,): (String,)| Err::<(), _>(OutOfStock(item))).await
            }
            "make_reading" => to.prompt(|_, (sensor,)| Ok::<_, String>(reading(sensor))).await,
            "doubled" => {
                to.prompt(|_, Doubled { reading }| Ok::<_, String>(reading.celsius * 2.0)).await
            }
            "make_nothing" => to.prompt(|_, (): ()| Ok::<_, String>(())).await,
            "make_list" => to.prompt(|_, (length,)| list(length)).await,
            "make_readings" => to.prompt(|_, (length,)| readings(length)).await,
            "make_dict" => to.prompt(|_, (key,)| dict(key)).await,
            "make_tuple" => to.prompt(|_, made: (i64, String)| Ok::<_, String>(made)).await,
            "who" => to.prompt(|remotes, (): ()| Ok::<_, String>(remotes.name.clone())).await,
            "relay" => {
                let bus = bus.clone();
                to.expose(move |_, (name, a, b): (String, i64, i64)| relay(bus.clone(), name, a, b))
                    .await
            }
            "slow" => to.expose(|remotes, (seconds,)| remotes.slow(seconds)).await,
            "held" => to.expose(|remotes, (): ()| remotes.held()).await,
            _ => Err(Error::new(
                ErrorKind::Config,
                "expose",
                name,
                "remotes.rs has no such function",
            )),
        }
    }

    async fn slow(self: Arc<Self>, seconds: f64) -> Result<String, String> {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(self.name.clone())
    }

    async fn held(self: Arc<Self>) -> Result<String, String> {
        let mut released = self.released.subscribe();
        released.wait_for(|released| *released).await.expect("the sender is ours");
        Ok(self.name.clone())
    }
}

/// Where a function is exposed.
struct Place<'a> {
    remotes: Arc<Remotes>,
    bus: &'a Bus,
    name: &'a str,
    channel: &'a str,
}

impl Place<'_> {
    async fn prompt<A, R, E>(self, function: Prompt<A, R, E>) -> pymq::Result<Service>
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        self.expose(move |remotes, arguments| ready(function(&remotes, arguments))).await
    }

    async fn expose<A, R, E, F>(
        self,
        function: impl Fn(Arc<Remotes>, A) -> F + Send + Sync + 'static,
    ) -> pymq::Result<Service>
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize,
        E: fmt::Display + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
    {
        let Self { remotes, bus, name, channel } = self;
        let name = name.to_owned();
        let handler = move |arguments| {
            runs(&name);
            function(Arc::clone(&remotes), arguments)
        };
        bus.expose_fn(channel, handler).await
    }
}

/// Asks another function, which may be of any language.
async fn relay(bus: Bus, name: String, a: i64, b: i64) -> pymq::Result<i64> {
    bus.stub::<(i64, i64), i64>(&name).call((a, b)).await
}

fn product(a: i64, b: i64) -> Result<i64, String> {
    MULTIPLIED.lock().unwrap_or_else(PoisonError::into_inner).push(a);
    Ok(a * b)
}

fn joined(first: &str, second: &str) -> Result<String, String> {
    Ok(format!("{first} {second}"))
}

fn fail(code: i64) -> Result<(), ValueError> {
    Err(ValueError(format!("no such order {code}")))
}

fn reading(sensor: String) -> Reading {
    Reading { sensor, celsius: 36.6 }
}

fn list(length: i64) -> Result<Vec<i64>, String> {
    Ok((0..length).collect())
}

fn readings(length: u32) -> Result<Vec<Reading>, String> {
    let reading =
        |number: u32| Reading { sensor: format!("sensor{number}"), celsius: number.into() };
    Ok((0..length).map(reading).collect())
}

fn dict(key: String) -> Result<BTreeMap<String, i64>, String> {
    Ok([(key, 1), ("other".to_owned(), 2)].into())
}
