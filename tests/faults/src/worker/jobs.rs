//! Roles of queues that jobs run on: putting them in every way, handling them, and what administers
//! their dead letters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pymq::{Delivery, Error, Letter, Put, PutOptions, Queue, Retry, Wait};

use super::{BREATH, Outcome, Worker, outcome_of};
use crate::history::{History, What, now};
use crate::job::{self, Sort, Trouble};

/// How many dead letters are read in one step.
const PAGE: usize = 200;

impl Worker {
    fn jobs(&self) -> Queue<u64> {
        let queue = self.bus.queue(self.options.text("queue", "work"));
        queue
            .lease(self.options.seconds("lease", 30.0))
            .prefetch(self.options.get("ahead", 1))
            .max_deliveries(job::MAX_DELIVERIES)
            .retry(Retry::after(job::RETRIES))
            .priorities(true)
    }

    /// Puts `count` jobs from `first` on, each in its way, and once more those from `again` on that
    /// have an id, whoever has put them.
    pub(super) async fn offer(&self) -> Outcome {
        let queue = self.jobs();
        let (first, count) = (self.options.get("first", 0_u64), self.options.get("count", 1_u64));
        let (again, most) = (self.options.get("again", 0_u64), self.options.get("most", 5000));
        let pause = self.options.seconds("pause", 0.0);
        for place in 0..count {
            if place % 16 == 0 {
                while queue.stats().await.map_or(0, |stats| stats.unfinished()) > most {
                    tokio::time::sleep(BREATH).await;
                }
            }
            self.put(&queue, first + place).await;
            if again != 0 && Sort::of(again + place).has_id() {
                self.put(&queue, again + place).await;
            }
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    async fn put(&self, queue: &Queue<u64>, number: u64) {
        let sort = Sort::of(number);
        loop {
            self.history.note(What::Begun, [(number, 1)]);
            let mut options = PutOptions::from(Wait::Forever);
            if sort.is_for_later() {
                let delay = job::delay(number);
                let due = now() + delay;
                let micros = u64::try_from(due.as_micros()).unwrap_or(u64::MAX);
                self.history.note(What::Due, [(number, micros)]);
                options = match sort {
                    Sort::At => options.at(std::time::SystemTime::UNIX_EPOCH + due),
                    _ => options.delay(delay),
                };
            }
            if sort.has_id() {
                options = options.id(format!("job-{number}"));
            }
            if sort == Sort::Urgent {
                options = options.priority(job::priority(number));
            }
            match queue.put_with(&number, options).await {
                Ok(Put::Done) => return self.history.note(What::Put, [(number, 1)]),
                Ok(Put::Already) => return self.history.note(What::Already, [(number, 1)]),
                Err(error) => self.not_put(number, 1, &error),
            }
            tokio::time::sleep(BREATH).await;
            if !sort.has_id() {
                return;
            }
        }
    }

    /// Handles jobs until it is told to end, then finishes what is in hand.
    pub(super) async fn work(&self) -> Outcome {
        let (history, away) = (Arc::clone(&self.history), self.options.text("away", "").into());
        let away: Arc<PathBuf> = Arc::new(away);
        let pause = self.options.seconds("pause", 0.0);
        let handler =
            move |job: Delivery<u64>| handle(Arc::clone(&history), Arc::clone(&away), pause, job);
        let worker = self.jobs().work_deliveries(self.options.get("many", 1), handler);
        let worker = worker.map_err(|error| error.to_string())?;
        // An error says that whoever would tell is gone.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
        worker.drain().await.map_err(|error| error.to_string())
    }

    /// Brings dead letters back, again and again by other ways; or all of them `once`.
    pub(super) async fn redrive(&self) -> Outcome {
        let (queue, once) = (self.jobs(), self.options.get("once", 0) != 0);
        let (letters, pause) = (queue.dead_letters(), self.options.seconds("pause", 0.0));
        for turn in 0_u64.. {
            let odd = |letter: &Letter<u64>| letter.item().is_ok_and(|number| number % 2 == 1);
            let moved = match turn % 3 {
                _ if once => letters.redrive().await,
                0 => letters.redrive_where(odd).await,
                1 => queue.redrive(7).await,
                _ => letters.redrive().await,
            };
            match moved {
                Ok(count) => self.history.note(What::Redriven, [(0, count as u64)]),
                Err(error) => self.failed(&error),
            }
            if once && letters.is_empty().await.unwrap_or(false) {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Notes every dead letter.
    pub(super) async fn letters(&self) -> Outcome {
        let letters = self.jobs().dead_letters();
        let mut skip = 0;
        loop {
            let page = letters.read(skip, PAGE).await.map_err(|error| error.to_string())?;
            if page.is_empty() {
                return Ok(());
            }
            skip += page.len();
            for letter in page {
                let number = letter.item().map_err(ToString::to_string)?;
                let deliveries = letter.deliveries().unwrap_or(0).into();
                let reason = letter.failure().reason.to_string();
                self.history.fail(What::Dead, *number, deliveries, &reason);
            }
        }
    }

    fn failed(&self, error: &Error) {
        self.history.fail(What::Failed, 0, 0, &format!("{:?}", error.kind()));
    }
}

async fn handle(
    history: Arc<History>,
    away: Arc<PathBuf>,
    pause: Duration,
    job: Delivery<u64>,
) -> Result<(), &'static str> {
    let (number, deliveries) = (*job, job.deliveries());
    let trouble = Trouble::of(number);
    history.note(What::Got, [(number, deliveries.into())]);
    tokio::time::sleep(pause).await;
    if trouble == Trouble::Unwanted {
        outcome_of(&history, What::Rejected, number, job.reject_because("nobody wants it").await);
    } else if trouble.fails(deliveries) || away.exists() {
        history.note(What::Failing, [(number, deliveries.into())]);
        return Err("what it needs is away");
    } else {
        history.note(What::Done, [(number, 0)]);
        if job::is_confirmed_by_its_handler(number) {
            outcome_of(&history, What::Acked, number, job.ack().await);
        }
    }
    Ok(())
}
