//! A proxy between a worker and its server that knows commands, and does harm where it is told to.
//!
//! The one invariant: everything passes unchanged and in order until a rule fires; a rule fires
//! once, at the reply (or the request) that it names. It speaks for no one: what it cuts is cut for
//! both sides.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::resp;

/// What happens when a rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The connection ends behind so many bytes of the reply.
    Cut { after: usize },
    /// The reply, and all that follow it on this connection, never come.
    HoldReply,
    /// The request never reaches the server.
    HoldRequest,
}

/// A proxy on a port of its own.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Rule {
    /// A command, or the name of a push; `None` is any reply.
    name: Option<String>,
    /// How many like it pass first.
    skip: usize,
    act: Act,
}

#[derive(Debug, Default)]
struct State {
    rule: Option<Rule>,
    fired: bool,
    /// Replies since [`record`](Proxy::record), by name and length.
    seen: Option<Vec<(String, usize)>>,
    connections: Vec<TcpStream>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
    cuts: AtomicUsize,
    /// Whom connections that come from now on are passed to.
    server: AtomicU16,
    /// Swallows everything in both directions, sockets open.
    dark: AtomicBool,
    ended: AtomicBool,
}

impl Proxy {
    /// Starts a proxy to a server on this machine.
    pub(crate) fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared { server: AtomicU16::new(server), ..Shared::default() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                // A server that is down refuses, and so do we.
                let server = accepting.server.load(Ordering::SeqCst);
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                    join(&accepting, client, server);
                }
            }
        });
        Self { port, shared }
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Sets the one rule: `act` at the reply to the next command of that name but `skip`.
    pub(crate) fn arm(&self, name: Option<&str>, skip: usize, act: Act) {
        let mut state = self.shared.lock();
        state.fired = false;
        state.rule = Some(Rule { name: name.map(str::to_owned), skip, act });
    }

    /// Begins to note replies.
    pub(crate) fn record(&self) {
        self.shared.lock().seen = Some(Vec::new());
    }

    /// The replies that were noted, by name and length.
    pub(crate) fn recorded(&self) -> Vec<(String, usize)> {
        self.shared.lock().seen.take().unwrap_or_default()
    }

    /// Takes the rule back.
    pub(crate) fn disarm(&self) {
        self.shared.lock().rule = None;
    }

    /// Waits until the rule has fired; `false` if it has not within that time.
    pub(crate) fn fired(&self, within: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.news.wait_timeout_while(state, within, |state| !state.fired);
        waited.unwrap_or_else(PoisonError::into_inner).0.fired
    }

    /// Passes new connections to another server; those that are open stay where they are.
    pub(crate) fn switch(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
    }

    /// Ends every connection that is open.
    pub(crate) fn cut_all(&self) {
        self.shared.end_connections();
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Swallows everything from now on, or lets it pass again; what was swallowed is gone, so
    /// connections that were open meanwhile are cut when the light comes back.
    pub(crate) fn darken(&self, dark: bool) {
        self.shared.dark.store(dark, Ordering::SeqCst);
        if !dark {
            self.shared.end_connections();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.end_connections();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_connections(&self) {
        for connection in self.lock().connections.drain(..) {
            // Ended already, most of them.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// What to do with a reply to `name` of that length, or with the request itself.
    fn verdict(&self, name: &str, side: Side) -> Option<Act> {
        let mut state = self.lock();
        let rule = state.rule.as_mut()?;
        let at_request = rule.act == Act::HoldRequest;
        if at_request != (side == Side::Request) || rule.name.as_ref().is_some_and(|n| n != name) {
            return None;
        }
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        let act = rule.act;
        state.rule = None;
        Some(act)
    }

    fn tell(&self) {
        self.lock().fired = true;
        self.news.notify_all();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Reply,
}

/// Names of commands whose replies are still to come.
type Open = Arc<Mutex<VecDeque<String>>>;

fn join(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    let ends = [&client, &server].map(|end| {
        // Small frames must not wait for each other.
        let _ = end.set_nodelay(true);
        end.try_clone()
    });
    let [Ok(client_too), Ok(server_too)] = ends else { return };
    if let Ok(known) = client.try_clone() {
        let mut state = shared.lock();
        // A list of thousands of dead ones helps nobody.
        state.connections.retain(|old| old.peer_addr().is_ok());
        state.connections.push(known);
    }
    let open = Open::default();
    let (asking, asked) = (Arc::clone(shared), Arc::clone(&open));
    std::thread::spawn(move || {
        pass_requests(&asking, client_too, &server_too, &asked);
        let _ = server_too.shutdown(Shutdown::Both);
    });
    let answering = Arc::clone(shared);
    std::thread::spawn(move || {
        pass_replies(&answering, server, &client, &open);
        let _ = client.shutdown(Shutdown::Both);
    });
}

fn pass_requests(shared: &Shared, mut from: TcpStream, mut to: &TcpStream, open: &Open) {
    let mut frames = Frames::default();
    let mut silent = false;
    while frames.read(&mut from, shared) {
        while let Some(frame) = frames.next() {
            let name = resp::name(&frame).unwrap_or_default();
            if shared.verdict(&name, Side::Request).is_some() {
                shared.tell();
                return swallow(from);
            }
            silent = resp::silence(&frame).unwrap_or(silent);
            // Subscribing is answered by pushes alone, and what is said last by nothing.
            if !silent && !name.ends_with("SUBSCRIBE") {
                open.lock().unwrap_or_else(PoisonError::into_inner).push_back(name);
            }
            if to.write_all(&frame).is_err() {
                return;
            }
        }
    }
}

fn pass_replies(shared: &Shared, mut from: TcpStream, mut to: &TcpStream, open: &Open) {
    let mut frames = Frames::default();
    while frames.read(&mut from, shared) {
        while let Some(frame) = frames.next() {
            let name = if resp::is_push(&frame) {
                resp::name(&frame)
            } else {
                open.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
            };
            let name = name.unwrap_or_default();
            if let Some(seen) = &mut shared.lock().seen {
                seen.push((name.clone(), frame.len()));
            }
            match shared.verdict(&name, Side::Reply) {
                None if to.write_all(&frame).is_ok() => {}
                None => return,
                Some(Act::Cut { after }) => {
                    let _ = to.write_all(&frame[..after.min(frame.len())]);
                    shared.cuts.fetch_add(1, Ordering::SeqCst);
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                    return shared.tell();
                }
                Some(Act::HoldReply | Act::HoldRequest) => {
                    shared.tell();
                    return swallow(from);
                }
            }
        }
    }
}

fn swallow(mut from: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = from.read(&mut buffer) {}
}

/// Bytes that came, as frames.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    start: usize,
}

impl Frames {
    /// Reads more; `false` at the end.
    fn read(&mut self, from: &mut TcpStream, shared: &Shared) -> bool {
        let mut buffer = [0; 16384];
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer) else {
                // In the dark nobody learns that the other side is gone.
                while shared.dark.load(Ordering::SeqCst) && !shared.ended.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return false;
            };
            if !shared.dark.load(Ordering::SeqCst) {
                self.bytes.drain(..self.start);
                self.start = 0;
                self.bytes.extend_from_slice(&buffer[..length]);
                return true;
            }
        }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.start..];
        let length = resp::frame(rest)?;
        self.start += length;
        Some(rest[..length].to_vec())
    }
}
