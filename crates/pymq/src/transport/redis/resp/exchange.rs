//! What the users of a socket and its driver share: what was asked, and who waits for the answers.
//!
//! The one invariant: a command and the one that waits for its answer are appended under one lock, so
//! their orders agree. Users append to one buffer, and the driver takes all of it at once, so operations
//! that come together are written together, without a timer.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;

use super::command::{Batch, Command, Written};
use super::posts::Posted;
use super::reply::{Fault, Reply};
use crate::transport::redis::latch::Latch;
use crate::transport::redis::refusal::Refusal;

/// Makes what is said on a socket at the end of its runtime; nobody hears an answer.
pub(crate) type LastWords = Box<dyn Fn() -> Batch + Send + Sync>;

/// What the next command finds waiting before it has to wait itself.
pub(super) const BACKLOG: usize = 16 << 20;

/// What the users of a socket and its driver share.
#[derive(Default)]
pub(super) struct Exchange {
    asked: Mutex<Asked>,
    /// Wakes the driver.
    pub(super) driver: AtomicWaker,
    /// Wakes those for whom there was no room.
    pub(super) room: tokio::sync::Notify,
    /// Whether anything was read since somebody looked.
    pub(super) heard: AtomicBool,
    /// Why the socket ended, if not by us.
    pub(super) why: OnceLock<io::Error>,
    /// What the server refused last, without more ado.
    pub(super) parting: OnceLock<Refusal>,
    /// Of each speaker by its number; gone once they are said, or will not be.
    last_words: Mutex<Vec<(u64, LastWords)>>,
    end: Latch,
}

/// What the driver has not taken yet.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) bytes: BytesMut,
    pub(super) waiting: Vec<Waiting>,
    /// Whether the last words stand at the end.
    pub(super) last: bool,
    over: bool,
}

/// Who waits for the answers to what was written.
pub(super) enum Waiting {
    One(oneshot::Sender<Reply>),
    /// One answer for each command of a batch.
    Many {
        left: usize,
        replies: Vec<Reply>,
        all: oneshot::Sender<Vec<Reply>>,
    },
    /// One confirmation for each name, or a refusal of all.
    Confirmations {
        left: usize,
        all: oneshot::Sender<Reply>,
    },
    /// Nobody, but it is counted what becomes of it.
    Posted(Posted),
    /// Words that the server was asked not to answer: one answer, unless it refuses to be silent.
    Unanswered {
        words: usize,
    },
    /// So many answers that nobody reads.
    Unread {
        left: usize,
    },
}

impl Exchange {
    /// Does one command. Dropping the future does not undo a command that was sent.
    pub(super) async fn ask(&self, command: &impl Written) -> Result<Reply, Fault> {
        let (one, answer) = oneshot::channel();
        self.append(|to| command.write(to), Waiting::One(one)).await?;
        answered(answer).await.ok_or_else(|| self.lost())
    }

    /// Does the commands of a batch.
    pub(super) async fn ask_all(&self, batch: &Batch) -> Result<Vec<Reply>, Fault> {
        let left = batch.len();
        if left == 0 {
            return Ok(Vec::new());
        }
        let (all, answer) = oneshot::channel();
        let waiting = Waiting::Many { left, replies: Vec::with_capacity(left), all };
        self.append(|to| batch.write(to), waiting).await?;
        answered(answer).await.ok_or_else(|| self.lost())
    }

    /// Does a command that is answered by one confirmation for each of `names` names.
    pub(super) async fn ask_confirmations(
        &self,
        command: &Command,
        names: usize,
    ) -> Result<Reply, Fault> {
        let (all, answer) = oneshot::channel();
        let waiting = Waiting::Confirmations { left: names, all };
        self.append(|to| command.write(to), waiting).await?;
        answered(answer).await.ok_or_else(|| self.lost())
    }

    /// Writes a command for whose answer nobody waits; waits for room only.
    pub(super) async fn post(&self, command: &Command, posted: Posted) {
        // Without a connection it is dropped, and so is counted as lost.
        let _ = self.append(|to| command.write(to), Waiting::Posted(posted)).await;
    }

    /// The same if there is room now; else nothing is done.
    pub(super) fn post_now(&self, command: &Command, posted: Posted) -> Result<(), Posted> {
        let mut asked = self.lock();
        if asked.bytes.len() >= BACKLOG {
            return Err(posted);
        }
        if asked.over {
            drop(asked);
            posted.lost("there is no connection");
            return Ok(());
        }
        command.write(&mut asked.bytes);
        asked.waiting.push(Waiting::Posted(posted));
        drop(asked);
        self.driver.wake();
        Ok(())
    }

    async fn append(
        &self,
        write: impl FnOnce(&mut BytesMut),
        waiting: Waiting,
    ) -> Result<(), Fault> {
        loop {
            let room = {
                let mut asked = self.lock();
                if asked.over {
                    return Err(self.lost());
                }
                if asked.bytes.len() < BACKLOG {
                    write(&mut asked.bytes);
                    asked.waiting.push(waiting);
                    break;
                }
                // In the line while the lock is held: the driver makes room under it.
                let mut room = Box::pin(self.room.notified());
                room.as_mut().enable();
                room
            };
            room.await;
        }
        self.driver.wake();
        Ok(())
    }

    /// What a speaker has to say if the runtime ends before the socket does; `None` is nothing. They speak
    /// in the order in which they were set.
    pub(super) fn set_last_words(&self, speaker: u64, words: Option<LastWords>) {
        let mut last_words = self.lock_last_words();
        last_words.retain(|(other, _)| *other != speaker);
        last_words.extend(words.map(|words| (speaker, words)));
    }

    /// Nobody says anything at the end.
    pub(super) fn forget_last_words(&self) {
        self.lock_last_words().clear();
    }

    /// Appends the last words, once; does not wait. The driver writes them, at the latest in its drop.
    pub(super) fn say_last_words(&self) {
        // The lock is held until the words are in the buffer: another thread that finds them said may end
        // the socket at once.
        let mut last_words = self.lock_last_words();
        if self.lock().over {
            return;
        }
        let words: Vec<Batch> =
            std::mem::take(&mut *last_words).iter().map(|(_, words)| words()).collect();
        let left = words.iter().map(Batch::len).sum();
        let mut asked = self.lock();
        if left == 0 || asked.over {
            return;
        }
        // A server that answers somebody who is gone learns so, and reads no further: of several words
        // it would do those alone that it had read by then.
        silence("OFF").write(&mut asked.bytes);
        words.iter().for_each(|words| words.write(&mut asked.bytes));
        silence("ON").write(&mut asked.bytes);
        asked.waiting.push(Waiting::Unanswered { words: left });
        asked.last = true;
        drop(asked);
        self.driver.wake();
    }

    /// Whether anything was read since this was last asked.
    pub(super) fn was_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// How the socket ended, if not by us.
    pub(super) fn failure(&self) -> Option<&io::Error> {
        self.why.get()
    }

    /// Says why it is ended from outside, before that is done.
    pub(super) fn fail(&self, why: &'static str) {
        // Set already, it ended by itself.
        let _ = self.why.set(io::Error::other(why));
    }

    /// With which words the server ended it, if it did so instead of answering.
    pub(super) fn parting(&self) -> Option<&Refusal> {
        self.parting.get()
    }

    /// The end of the socket.
    pub(super) fn end(&self) -> &Latch {
        &self.end
    }

    fn lock_last_words(&self) -> MutexGuard<'_, Vec<(u64, LastWords)>> {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic cannot leave it half-changed, so a poisoned lock is as good as any.
    pub(super) fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more is done; whoever waits is told by the drop of what he waits for.
    pub(super) fn finish(&self) {
        let unasked = {
            let mut asked = self.lock();
            asked.over = true;
            asked.bytes = BytesMut::new();
            std::mem::take(&mut asked.waiting)
        };
        self.end.reach();
        self.room.notify_waiters();
        drop(unasked);
    }

    fn lost(&self) -> Fault {
        Fault::Lost(match self.why.get() {
            Some(error) => error.to_string(),
            None => "the connection was ended here".to_owned(),
        })
    }
}

/// From when on commands are not answered, and until when: the command at the end is.
fn silence(how: &str) -> Command {
    Command::new("CLIENT").arg("REPLY").arg(how)
}

/// What comes, or `None` if nothing does. A thousand answers that have come are a thousand steps on:
/// counted as work of one task (tokio's budget), most of them would be looked at several times.
async fn answered<T>(answer: oneshot::Receiver<T>) -> Option<T> {
    tokio::task::coop::unconstrained(answer).await.ok()
}
