//! One sentinel: a connection on which it tells of elections, and is asked for their outcome.
//!
//! The one invariant: what a sentinel told is asked for again whenever it announces anything, when its
//! connection is back, and every few seconds; so no announcement has to be heard. Whom to believe is
//! not decided here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::super::dialer::back_off;
use super::super::options::RedisOptions;
use super::super::resp::{Batch, Command, Expected, Fault, Pushes, Reply, Socket, Subscribing};
use super::super::timing::TOLD_AGAIN;
use super::council::{Election, Word};

/// How often a sentinel that announces nothing is asked.
const ASK: Duration = Duration::from_secs(5);
/// On which channels it tells that a master is another one: the one that leads an election knows it
/// before the election is over.
const NEWS: [&str; 2] = ["+switch-master", "+promoted-slave"];

/// Listens to one sentinel for ever, and passes on what it says of that master.
pub(super) async fn watch(sentinel: RedisOptions, master: String, hear: impl Fn(Word)) {
    let (mut attempts, mut told) = (0, None::<Instant>);
    loop {
        let mut answered = false;
        let outcome = listen(&sentinel, &master, |word| {
            answered = true;
            hear(word);
        });
        let fault = match outcome.await {
            Err(fault) => fault,
            Ok(never) => match never {},
        };
        attempts = if answered { 1 } else { attempts + 1 };
        let why = match fault {
            Fault::Lost(why) => why,
            Fault::Refused(refusal) => refusal.not_admitted(),
        };
        let server = sentinel.shown();
        if told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
            told = Some(Instant::now());
            tracing::warn!(server, why, "a sentinel does not answer; trying on");
        } else {
            tracing::debug!(server, why, "a sentinel does not answer yet");
        }
        hear(Word::Silence(format!("{server}: {why}")));
        sleep(back_off(attempts)).await;
    }
}

/// Listens until that fails.
async fn listen(
    sentinel: &RedisOptions,
    master: &str,
    mut hear: impl FnMut(Word),
) -> Result<std::convert::Infallible, Fault> {
    let news = Arc::new(Notify::new());
    let told = Arc::clone(&news);
    let pushes: Pushes = Arc::new(move |_| told.notify_one());
    let socket = Socket::open(sentinel, Expected::Sentinel, "sentinel", Some(pushes)).await?;
    socket.subscribing(Subscribing::To, &NEWS).await?;
    loop {
        hear(ask(&socket, master).await?);
        tokio::select! {
            () = socket.ended() => return Err(Fault::Lost("the connection ended".to_owned())),
            () = news.notified() => {}
            () = sleep(ASK) => {}
        }
    }
}

/// Asks a sentinel where the master is, and by which election.
async fn ask(socket: &Socket, master: &str) -> Result<Word, Fault> {
    let ask = |what: &str| Command::new("SENTINEL").arg(what).arg(master);
    // The first answer knows of a new master before its election is over, the second has the number of
    // the election.
    let both = Batch::from_iter([ask("GET-MASTER-ADDR-BY-NAME"), ask("MASTER")]);
    let mut replies = socket.pipeline(&both).await?.into_iter();
    let place = match replies.next() {
        Some(Reply::Refused(refusal)) => return Err(Fault::Refused(refusal)),
        Some(Reply::List(place)) => place,
        _ => return Ok(Word::NoSuchMaster),
    };
    let election = replies.next().map(election).unwrap_or_default();
    let mut words = place.into_iter().filter_map(text);
    match (words.next(), words.next().and_then(|port| port.parse().ok())) {
        (Some(host), Some(port)) => Ok(Word::Master { election, place: (host, port) }),
        _ => Err(Fault::Lost("its answer makes no sense; is it a sentinel?".to_owned())),
    }
}

/// The election by which it is the master, among field, value, field, value.
fn election(master: Reply) -> Election {
    let mut election = Election { number: 0, over: true };
    let mut words = master.items().into_iter();
    while let (Some(field), Some(value)) =
        (words.next().and_then(text), words.next().and_then(text))
    {
        match &*field {
            "config-epoch" => election.number = value.parse().unwrap_or_default(),
            "flags" => election.over = !value.contains("failover_in_progress"),
            _ => {}
        }
    }
    election
}

fn text(reply: Reply) -> Option<String> {
    String::from_utf8(reply.bytes()?.to_vec()).ok()
}
