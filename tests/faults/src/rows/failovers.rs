//! Row 15: three sentinels, a master and two replicas; the master is killed, hangs, or gives way by
//! hand, again and again, while everybody works.

use std::time::Duration;

use crate::check::{self, Promise, since};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::{What, now};
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting};
use crate::server::watched::Watched;

/// More than any run comes to.
const MANY: u64 = 10_000_000;

/// What happens to a master.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Hangs,
    GivesWay,
}

impl Fault {
    fn words(self) -> &'static str {
        match self {
            Self::Killed => "a master is killed",
            Self::Hangs => "a master hangs",
            Self::GivesWay => "a master gives way by hand",
        }
    }

    /// Does it, and returns when all sentinels name another master; which node it was.
    fn befalls(self, watched: &mut Watched) -> usize {
        let master = watched.master();
        match self {
            Self::Killed => drop(watched.kill_master()),
            Self::Hangs => watched.nodes[master].pause(),
            Self::GivesWay => watched.fail_over(),
        }
        watched.until_moved(master);
        master
    }

    fn heals(self, watched: &mut Watched, node: usize) {
        match self {
            Self::Killed => watched.rejoin(node),
            Self::Hangs => {
                watched.nodes[node].resume();
                watched.demote(node);
            }
            Self::GivesWay => watched.demote(node),
        }
        watched.until_whole();
    }
}

/// What both replicas had is not lost, calls end, and everybody goes on.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("failovers", setting, &[]);
    let mut watched = Watched::start();
    if let Err(why) = fail_over(&scene, &mut watched, setting, &mut report) {
        report.must(false, || why);
    }
    report.enough("failovers", 3);
    report.enough("items put", 100);
    scene.end(&mut report);
    report
}

fn fail_over(
    scene: &Scene,
    watched: &mut Watched,
    setting: &Setting,
    report: &mut Report,
) -> Result<(), String> {
    let mut crew = Crew::hire(scene, &watched.url());
    crew.is_heard(Duration::ZERO, "at first", report)?;
    crew.works(Duration::ZERO, "at first", report)?;
    let rounds = if setting.brief { 3 } else { setting.items.div_ceil(33) };
    for round in 0..rounds {
        let fault = [Fault::GivesWay, Fault::Killed, Fault::Hangs][round as usize % 3];
        let node = fault.befalls(watched);
        report.count("failovers", 1);
        crew.is_heard(now(), fault.words(), report)?;
        fault.heals(watched, node);
        crew.works(now(), "all servers are back", report)?;
    }
    crew.finish(watched, report)
}

/// Everybody who works through it.
struct Crew {
    producers: Vec<Hand>,
    consumers: Vec<Hand>,
    subscribers: Vec<Hand>,
    publisher: Hand,
    provider: Hand,
    callers: Vec<Hand>,
}

impl Crew {
    fn hire(scene: &Scene, url: &str) -> Self {
        // What two replicas have is on every server that may be the next master.
        let careful = format!("{url}?replicas=2");
        let of =
            |kind, role: &str, url: &str, words: &[String]| scene.crew.hire(kind, role, url, words);
        let numbers = |place: usize| {
            [format!("first={}", 1 + place as u64 * MANY), format!("count={MANY}")].to_vec()
        };
        let each = |role: &str, url: &str, more: &[&str]| -> Vec<Hand> {
            let kinds = Kind::OURS.into_iter().enumerate();
            let words = |place| {
                let more = more.iter().map(|&word| word.to_owned());
                numbers(place).into_iter().chain(more).collect::<Vec<_>>()
            };
            kinds.map(|(place, kind)| of(kind, role, url, &words(place))).collect()
        };
        Self {
            producers: each("produce", &careful, &["pause=0.03", "most=500"]),
            consumers: each("consume", &careful, &["lease=3"]),
            subscribers: each("subscribe", url, &[]),
            publisher: of(
                Kind::Rust,
                "publish",
                url,
                &["pause=0.03".to_owned(), format!("count={MANY}")],
            ),
            provider: of(Kind::Rust, "serve", url, &[]),
            callers: each("call", url, &["timeout=20", "pause=0.03"]),
        }
    }

    /// Events and calls arrive later than that.
    fn is_heard(&self, moment: Duration, after: &str, report: &mut Report) -> Result<(), String> {
        let events = (&self.subscribers, What::Received, "an event");
        let calls = (&self.callers, What::Answered, "a call");
        goes_on(&[events, calls], moment, after, report)
    }

    /// Items are put and confirmed later than that, which takes both replicas.
    fn works(&self, moment: Duration, after: &str, report: &mut Report) -> Result<(), String> {
        let puts = (&self.producers, What::Put, "a put");
        let confirmations = (&self.consumers, What::Acked, "a confirmation");
        goes_on(&[puts, confirmations], moment, after, report)
    }

    fn finish(&mut self, watched: &Watched, report: &mut Report) -> Result<(), String> {
        let all = |hands: &mut [Hand]| hands.iter_mut().try_for_each(Hand::finish);
        all(&mut self.producers)?;
        all(&mut self.callers)?;
        self.publisher.finish()?;
        let last = self.hear_to_the_end(watched)?;
        all(&mut self.subscribers)?;
        let port = watched.nodes[watched.master()].port();
        Scene::drained_at(port, "work")?;
        all(&mut self.consumers)?;
        self.provider.finish()?;
        let workers = stories(self.producers.iter().chain(&self.consumers))?;
        check::queue(report, &workers, &Scene::left_at(port, "work"), Promise::Nothing);
        for caller in &self.callers {
            check::caller(report, &caller.story()?);
        }
        for subscriber in &self.subscribers {
            check::subscriber(report, &subscriber.story()?, last + 1);
        }
        Ok(())
    }

    /// Publishes one more event, which all subscribers hear; its number.
    fn hear_to_the_end(&self, watched: &Watched) -> Result<u64, String> {
        let lines = self.publisher.lines()?;
        let last = lines.last().map_or(0, |line| line.item) + 1;
        let mut raw = watched.nodes[watched.master()].raw();
        raw.run(&["PUBLISH", &format!("{PREFIX}news"), &last.to_string()]);
        for hand in &self.subscribers {
            hand.line(GUARD, |line| line.what == What::Received && line.item == last)?;
        }
        Ok(last)
    }
}

/// Everybody does later than that what they are there for.
fn goes_on(
    what: &[(&Vec<Hand>, What, &str)],
    moment: Duration,
    after: &str,
    report: &mut Report,
) -> Result<(), String> {
    for (hands, wanted, words) in what {
        for hand in *hands {
            let line = hand.line(GUARD, |line| line.what == *wanted && line.at > moment);
            let line = line.map_err(|why| format!("{after}: {words}: {why}"))?;
            if !moment.is_zero() {
                report.recovered(&format!("{after}: {words}"), hand.kind, since(moment, &line));
            }
        }
    }
    Ok(())
}
