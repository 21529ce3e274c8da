//! The driver of one socket: writes what was asked, reads what is answered, gives each its answer.
//!
//! The one invariant: answers come in the order of the commands, so the driver takes commands and those
//! who wait for them in one step, and gives the next reply to the oldest of them. When it ends, for
//! whatever reason, everybody who waits is told.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::decode::{Decoder, Frame, Limits};
use super::exchange::{BACKLOG, Exchange, Waiting};
use super::push::Push;
use super::reply::Reply;

/// Takes pushes; runs in the driver's task, so it must not wait.
pub(crate) type Pushes = Arc<dyn Fn(Push) + Send + Sync>;

/// How much is read at once, where there is that much.
const READ: usize = 32 << 10;
/// How many frames are given out before those who were given one have their turn: what they ask for
/// next leaves while the rest is still given out, so that the server need not stand still meanwhile.
const PORTION: usize = 32;
/// A buffer that was larger than this once is not kept.
const KEPT: usize = 1 << 20;

/// How much of what has arrived was given out.
enum Given {
    /// There was nothing.
    Nothing,
    All,
    /// There may be more.
    Portion,
}

/// One socket and all that is known of it.
pub(super) struct Driver<S: AsyncRead + AsyncWrite + Unpin> {
    stream: S,
    exchange: Arc<Exchange>,
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
        if self.exchange.why.get().is_none() && !std::thread::panicking() {
            self.say_last_words();
        }
        self.exchange.finish();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(super) fn new(stream: S, exchange: Arc<Exchange>, pushes: Option<Pushes>) -> Self {
        let decoder = Decoder::new(Limits::default());
        let (writing, waiting) = (BytesMut::new(), VecDeque::new());
        Self { stream, exchange, pushes, decoder, writing, waiting, unflushed: false }
    }

    /// Writes the last words, as far as the socket takes them at once: there is no later.
    fn say_last_words(&mut self) {
        self.exchange.say_last_words();
        if self.exchange.lock().last {
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
            let _ = self.exchange.parting.set(refusal.clone());
        }
        // Set once: a driver runs once. Those who wait are told by its drop, after this.
        let _ = self.exchange.why.set(why);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        // First in the line, then looked: what is asked from now on wakes us.
        self.exchange.driver.register(context.waker());
        if let Err(why) = self.write(context) {
            return Poll::Ready(why);
        }
        loop {
            match self.give_out() {
                Ok(Given::Nothing) => {}
                // Whoever was given something may have asked for more.
                Ok(Given::All) => {
                    if let Err(why) = self.write(context) {
                        return Poll::Ready(why);
                    }
                }
                Ok(Given::Portion) => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(why) => return Poll::Ready(why),
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
        let mut asked = self.exchange.lock();
        if asked.bytes.is_empty() {
            return;
        }
        self.writing.clear();
        let full = asked.bytes.len() >= BACKLOG;
        std::mem::swap(&mut asked.bytes, &mut self.writing);
        self.waiting.extend(asked.waiting.drain(..));
        drop(asked);
        if full {
            self.exchange.room.notify_waiters();
        }
    }

    /// Reads once.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = self.decoder.room(READ);
        let read = pin!(self.stream.read_buf(room));
        match std::task::ready!(read.poll(context)) {
            Ok(0) => return Poll::Ready(Err(ended("the server closed the connection"))),
            Ok(_) => self.exchange.heard.store(true, Ordering::Relaxed),
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(()))
    }

    /// Gives out what has arrived whole, a portion of it at most.
    fn give_out(&mut self) -> io::Result<Given> {
        for given in 0..PORTION {
            match self.decoder.next() {
                Ok(Some(Frame::Reply(reply))) => self.answer(reply)?,
                Ok(Some(Frame::Push(Push::Confirmed))) => self.confirm(),
                Ok(Some(Frame::Push(push))) => {
                    if let Some(pushes) = &self.pushes {
                        pushes(push);
                    }
                }
                Ok(None) if given == 0 => return Ok(Given::Nothing),
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
                    let _ = self.exchange.parting.set(refusal);
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

fn ended(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}
