//! The driver of one socket: writes what was asked, reads what is answered, gives each its answer.
//!
//! The one invariant: answers come in the order of the commands, so the driver takes commands and
//! those who wait for them in one step, and gives the next reply to the oldest of them. Whoever
//! asks appends to one buffer; the driver takes all of it at once, so that operations that come
//! together are written together, without a timer. When it ends, for whatever reason, everybody who
//! waits is told.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::oneshot;

use super::command::{Batch, Command};
use super::decode::{Decoder, Frame, Limits};
use super::posts::Posted;
use super::push::Push;
use super::reply::{Fault, Reply};
use crate::transport::redis::end::End;
use crate::transport::redis::refusal::Refusal;

/// Takes pushes; runs in the driver's task, so it must not wait.
pub(crate) type Pushes = Arc<dyn Fn(Push) + Send + Sync>;

/// Makes what is said on a socket at the end of its runtime; nobody hears an answer.
pub(crate) type LastWords = Box<dyn Fn() -> Batch + Send + Sync>;

/// How much is read at once, where there is that much.
const READ: usize = 32 << 10;
/// How many frames are given out before those who were given one have their turn: what they ask for
/// next leaves while the rest is still given out, so that the server need not stand still meanwhile.
const PORTION: usize = 32;
/// A buffer that was larger than this once is not kept.
const KEPT: usize = 1 << 20;
/// What the next command finds waiting before it has to wait itself.
const BACKLOG: usize = 16 << 20;

/// What the users of a socket and its driver share.
#[derive(Default)]
pub(super) struct Line {
    asked: Mutex<Asked>,
    /// Wakes the driver.
    driver: AtomicWaker,
    /// Wakes those for whom there was no room.
    room: tokio::sync::Notify,
    /// Whether anything was read since somebody looked.
    heard: AtomicBool,
    /// Why the socket ended, if not by us.
    why: OnceLock<io::Error>,
    /// What the server refused last, without more ado.
    parting: OnceLock<Refusal>,
    /// Of each speaker by its number; gone once they are said, or will not be.
    last_words: Mutex<Vec<(u64, LastWords)>>,
    end: End,
}

/// What the driver has not taken yet.
#[derive(Default)]
struct Asked {
    bytes: BytesMut,
    waiting: Vec<Waiting>,
    /// Whether the last words stand at the end.
    last: bool,
    over: bool,
}

/// Who waits for the answers to what was written.
enum Waiting {
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

impl Line {
    /// Does one command. Dropping the future does not undo a command that was sent.
    pub(super) async fn ask(&self, command: &Command) -> Result<Reply, Fault> {
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

    /// Has that said when the runtime ends before the socket does, after what others have to say; with
    /// nothing, that speaker says nothing.
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
        // Locked until they stand there: several threads may come at the end of a runtime, and whoever
        // finds them said goes on to end what they tell of, or the socket.
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
    pub(super) fn end(&self) -> &End {
        &self.end
    }

    fn lock_last_words(&self) -> MutexGuard<'_, Vec<(u64, LastWords)>> {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic cannot leave it half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more is done; whoever waits is told by the drop of what he waits for.
    fn finish(&self) {
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

/// How much of what has arrived was given out.
enum Given {
    All,
    /// There may be more.
    Portion,
}

/// One socket and all that is known of it.
pub(super) struct Driver<S: AsyncRead + AsyncWrite + Unpin> {
    stream: S,
    line: Arc<Line>,
    pushes: Option<Pushes>,
    decoder: Decoder,
    /// What is being written.
    writing: BytesMut,
    /// Whose commands were taken to be written, oldest first.
    waiting: VecDeque<Waiting>,
    /// Whether something was written that may not have left yet.
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for Driver<S> {
    fn drop(&mut self) {
        // A socket that ended by itself has a reason.
        if self.line.why.get().is_none() && !std::thread::panicking() {
            self.say_last_words();
        }
        self.line.finish();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(super) fn new(stream: S, line: Arc<Line>, pushes: Option<Pushes>) -> Self {
        let decoder = Decoder::new(Limits::default());
        let (writing, waiting) = (BytesMut::new(), VecDeque::new());
        Self { stream, line, pushes, decoder, writing, waiting, unflushed: false }
    }

    /// Writes the last words, as far as the socket takes them at once: there is no later.
    fn say_last_words(&mut self) {
        self.line.say_last_words();
        if self.line.lock().last {
            // Whatever it says, nobody is left to be told.
            let _ = self.write(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Drives until the socket ends.
    pub(super) async fn run(mut self) {
        let why = poll_fn(|context| self.poll(context)).await;
        if let Some(Waiting::Many { replies, .. }) = self.waiting.front()
            && let Some(Reply::Refused(refusal)) = replies.last()
        {
            let _ = self.line.parting.set(refusal.clone());
        }
        // Set once: a driver runs once. Those who wait are told by its drop, after this.
        let _ = self.line.why.set(why);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        // First in the line, then looked: what is asked from now on wakes us.
        self.line.driver.register(context.waker());
        if let Err(why) = self.write(context) {
            return Poll::Ready(why);
        }
        loop {
            match self.give_out() {
                Ok(Given::All) => {}
                Ok(Given::Portion) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(why) => return Poll::Ready(why),
            }
            if let Err(why) = self.write(context) {
                return Poll::Ready(why);
            }
            match self.read(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(why)) => return Poll::Ready(why),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes what was asked, as far as the socket takes it.
    fn write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            if self.writing.is_empty() {
                self.take();
                if self.writing.is_empty() {
                    break;
                }
            }
            match Pin::new(&mut self.stream).poll_write(context, &self.writing) {
                Poll::Ready(Ok(0)) => return Err(ended("the server takes nothing more")),
                Poll::Ready(Ok(written)) => {
                    self.writing.advance(written);
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// Takes all that was asked since.
    fn take(&mut self) {
        if self.writing.capacity() > KEPT {
            self.writing = BytesMut::new();
        }
        self.writing.clear();
        let mut asked = self.line.lock();
        let full = asked.bytes.len() >= BACKLOG;
        std::mem::swap(&mut asked.bytes, &mut self.writing);
        self.waiting.extend(asked.waiting.drain(..));
        drop(asked);
        if full {
            self.line.room.notify_waiters();
        }
    }

    /// Reads once.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = self.decoder.room(READ);
        let read = pin!(self.stream.read_buf(room));
        match std::task::ready!(read.poll(context)) {
            Ok(0) => return Poll::Ready(Err(ended("the server closed the connection"))),
            Ok(_) => self.line.heard.store(true, Ordering::Relaxed),
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(()))
    }

    /// Gives out what has arrived whole, a portion of it at most.
    fn give_out(&mut self) -> io::Result<Given> {
        for _ in 0..PORTION {
            match self.decoder.next() {
                Ok(Some(Frame::Reply(reply))) => self.answer(reply)?,
                Ok(Some(Frame::Push(Push::Confirmed))) => self.confirm(),
                Ok(Some(Frame::Push(push))) => {
                    if let Some(pushes) = &self.pushes {
                        pushes(push);
                    }
                }
                Ok(None) => return Ok(Given::All),
                Err(malformed) => {
                    let words = format!("the server sent {}", malformed.0);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, words));
                }
            }
        }
        Ok(Given::Portion)
    }

    /// Gives a reply to the oldest who waits. Nobody may wait for it any more: then it is dropped.
    fn answer(&mut self, reply: Reply) -> io::Result<()> {
        match self.waiting.front_mut() {
            // A user without the right to ask for silence gets each answer, and that of the end of it.
            Some(Waiting::Unanswered { words }) if matches!(reply, Reply::Refused(_)) => {
                let left = *words + 1;
                self.waiting[0] = Waiting::Unread { left };
                return Ok(());
            }
            Some(Waiting::Unread { left }) if *left > 1 => {
                *left -= 1;
                return Ok(());
            }
            None => {
                // A full server says so unasked, perhaps before we have asked anything.
                if let Reply::Refused(refusal) = reply {
                    let why = ended(&refusal.to_string());
                    let _ = self.line.parting.set(refusal);
                    return Err(why);
                }
                return Err(ended("the server sent an answer to nothing"));
            }
            Some(Waiting::Many { left, replies, .. }) if *left > 1 => {
                *left -= 1;
                replies.push(reply);
                return Ok(());
            }
            Some(_) => {}
        }
        match self.waiting.pop_front() {
            Some(Waiting::One(one)) => drop(one.send(reply)),
            Some(Waiting::Many { mut replies, all, .. }) => {
                replies.push(reply);
                drop(all.send(replies));
            }
            Some(Waiting::Confirmations { all, .. }) => drop(all.send(reply)),
            Some(Waiting::Posted(posted)) => match reply {
                Reply::Refused(refusal) => posted.lost(&refusal.to_string()),
                _ => posted.taken(),
            },
            Some(Waiting::Unanswered { .. } | Waiting::Unread { .. }) | None => {}
        }
        Ok(())
    }

    /// Counts a confirmation, if the oldest who waits is waiting for some.
    fn confirm(&mut self) {
        let Some(Waiting::Confirmations { left, .. }) = self.waiting.front_mut() else { return };
        *left -= 1;
        if *left == 0
            && let Some(Waiting::Confirmations { all, .. }) = self.waiting.pop_front()
        {
            // Whoever asked may have stopped waiting.
            let _ = all.send(Reply::Nothing);
        }
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

fn ended(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}
