//! The task of a provider: it reads what arrives and answers by itself whatever needs no handler.
//!
//! It says that it is there, answers repeated requests, passes on cancellations and shows signs of life.
//! So a handler that blocks a thread makes no caller believe that the provider is dead. Requests go on as
//! [`Call`]s; those that come while too many wait are refused, and their callers ask another provider.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::call::{Call, ReplyTo, given_up};
use super::id_map::IdMap;
use super::in_flight::{InFlight, Recipient, Seen};
use super::load::Load;
use super::outbox::{Outbox, Outgoing};
use super::siblings::Sibling;
use super::{ACK_AFTER, KNOWN_FOR, MOST_ACQUAINTANCES};
use crate::limits::Limits;
use crate::name::{self, Id, Namespace};
use crate::transport::{Arrival, Capabilities, Limit, Sender, Subscription, Transport};
use crate::wire::{
    Control, Outcome, Request, RequestExtension, Response, ResponseExtension, ResponseKind,
    ToProvider,
};

/// What may wait for one provider: to be run, or to be sent.
const MOST_WAITING: Limit = Limit { messages: 65_536, bytes: 64 << 20 };

/// What a provider's task, its calls and its holder share.
#[derive(Debug)]
pub(super) struct ProviderTask {
    pub(super) function: String,
    pub(super) id: Id,
    namespace: Namespace,
    limits: Limits,
    able: Capabilities,
    in_flight: Mutex<InFlight>,
    load: Arc<Load>,
    outbox: Outbox,
    calls: Sender<Call>,
    /// Until it ends.
    sibling: Mutex<Option<Sibling>>,
    /// Who has asked for this provider, where the transport cannot tell them that it is gone.
    acquaintances: Mutex<IdMap<Instant>>,
    end: Notify,
    ending: AtomicBool,
    ended: watch::Sender<bool>,
}

impl ProviderTask {
    pub(super) fn new(
        (function, id): (&str, Id),
        (transport, runtime): (Arc<dyn Transport>, Handle),
        (namespace, limits): (Namespace, Limits),
        (calls, sibling): (Sender<Call>, Sibling),
    ) -> Self {
        let able = transport.capabilities();
        Self {
            function: function.to_owned(),
            id,
            namespace,
            limits,
            able,
            in_flight: Mutex::default(),
            load: Arc::default(),
            outbox: Outbox::new(transport, &runtime),
            calls,
            sibling: Mutex::new(Some(sibling)),
            acquaintances: Mutex::default(),
            end: Notify::new(),
            ending: AtomicBool::new(false),
            ended: watch::Sender::new(false),
        }
    }

    /// Reads everything that arrives until the provider ends.
    pub(super) async fn attend(self: Arc<Self>, subscription: Subscription) {
        let ending = EndOnDrop(Arc::clone(&self));
        let (mut messages, guard) = subscription.split();
        // Rings no later than the first sign of life is due. It may ring too early: to set it exactly at
        // each message would mean to look at all calls that are open.
        let mut alarm = std::pin::pin!(sleep_until(Instant::now()));
        let mut armed = false;
        loop {
            // All cancel-safe: a mailbox, a notification, a timer.
            tokio::select! {
                biased;
                () = self.end.notified() => break,
                arrival = messages.recv() => match arrival {
                    Some(Arrival::Message(message)) => {
                        self.receive(&message.payload);
                        let soonest = Instant::now() + ACK_AFTER;
                        if !armed || alarm.deadline() > soonest {
                            alarm.as_mut().reset(soonest);
                            armed = true;
                        }
                    }
                    Some(Arrival::Gap | Arrival::Lagged(_) | Arrival::Refused(_)) => {}
                    None => break,
                },
                () = &mut alarm, if armed => {
                    self.show_life();
                    let due = self.lock().next_due();
                    armed = due.is_some();
                    alarm.as_mut().reset(due.unwrap_or_else(Instant::now));
                }
            }
        }
        if let Err(error) = guard.release().await {
            tracing::debug!(function = self.function, %error, "could not unsubscribe a provider");
        }
        self.say_goodbye();
        // What had arrived before the broker knew of the end is answered too: its callers were told that
        // somebody received it.
        messages.close();
        while let Some(arrival) = messages.recv().await {
            if let Arrival::Message(message) = arrival {
                self.receive(&message.payload);
            }
        }
        drop(ending);
        self.finish_open().await;
    }

    /// Begins to end it.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Release);
        drop(self.lock_sibling().take());
        self.end.notify_one();
    }

    /// One more of those that provide the same on its bus, if this is one of them.
    pub(super) fn sibling_of(&self, function: &str) -> Option<Sibling> {
        let sibling = self.lock_sibling();
        sibling.as_ref().filter(|_| self.function == function).map(Sibling::another)
    }

    fn lock_sibling(&self) -> MutexGuard<'_, Option<Sibling>> {
        self.sibling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the broker knows that it has ended, and no more calls come.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.subscribe();
        async move {
            // An error says that the provider is gone altogether.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    /// Whether it takes no more calls, so that those it has not begun are somebody else's.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire) || self.has_ended()
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until every answer has been sent.
    pub(super) async fn sent(&self) {
        self.outbox.emptied().await;
    }

    /// Answers every call that is open: the bus closes, and nobody could answer them later.
    pub(super) fn forsake(&self) {
        let open = self.lock().all_open();
        for (call, _, progress) in open {
            match progress.has_begun() {
                true => self.conclude(call, ResponseKind::Lost, given_up(), true),
                false => self.refuse(call, true),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(self: &Arc<Self>, text: &Bytes) {
        match ToProvider::decode(text) {
            Ok(ToProvider::Request(request)) => self.request(request),
            Ok(ToProvider::Control(Control::Cancel { call })) => self.lock().cancel(call),
            Ok(ToProvider::Control(Control::Who { call, inbox })) => {
                self.meet(inbox);
                let here = Outcome::here(self.lock().open_calls());
                self.post(call, &Recipient::Inbox(inbox), ResponseKind::Here, here);
            }
            Err(error) => {
                let function = &self.function;
                tracing::warn!(function, %error, "malformed request dropped");
            }
        }
    }

    fn request(self: &Arc<Self>, request: Request<'_>) {
        if request.function != self.function {
            let (function, named) = (&self.function, name::shortened(&request.function));
            tracing::warn!(function, named, "request for another function dropped");
            return;
        }
        let (call, recipient, silent) = match &request.ours {
            Some(ours) => (ours.call, Recipient::Inbox(ours.inbox), ours.silent),
            None => match self.namespace.reply_list(&request.reply_list) {
                // Its list names the call, but is no identity: who is asked twice answers twice.
                Ok(list) => (Id::random(), Recipient::List(list), None),
                Err(error) => {
                    let function = &self.function;
                    tracing::warn!(function, %error, "request with a forged reply channel dropped");
                    return;
                }
            },
        };
        let seen = self.lock().see(call, recipient.clone(), silent);
        let again = |outcome| self.post(call, &recipient, ResponseKind::Result, outcome);
        match (seen, &recipient) {
            (Seen::New(progress), _) => self.hand_over(call, progress, request),
            (Seen::Open, Recipient::Inbox(inbox)) => self.say(call, *inbox, ResponseKind::Ack),
            (Seen::Done(text), Recipient::Inbox(inbox)) => {
                let share = Some(self.load.over(text.len()));
                self.outbox.post(Outgoing { to: self.namespace.inbox(*inbox), text, share });
            }
            (Seen::Executed, _) => again(Outcome::failure(
                "AnswerLost",
                "the function was executed, once, but its answer is not kept any more",
            )),
            (Seen::Unknown, _) => again(Outcome::failure(
                "AnswerLost",
                "the function may have been executed, at most once, but its answer is not kept",
            )),
            // Identities of the original's calls are new each time.
            (Seen::Open | Seen::Done(_), Recipient::List(_)) => {}
        }
    }

    fn hand_over(
        self: &Arc<Self>,
        call: Id,
        progress: Arc<super::in_flight::Progress>,
        request: Request<'_>,
    ) {
        let arguments = request.arguments;
        let Some(share) = self.load.within(MOST_WAITING, arguments.weight()) else {
            tracing::debug!(function = self.function, "a call is refused: too many wait");
            return self.turn_away(call, ResponseKind::Busy, true);
        };
        let left = request.ours.and_then(|RequestExtension { left, .. }| left);
        self.calls.send(Call {
            arguments,
            metadata: request.metadata,
            expires: left.and_then(|left| Instant::now().checked_add(left)),
            progress,
            share: Mutex::new(Some(share)),
            reply: Some(ReplyTo { task: Arc::clone(self), call }),
        });
    }

    /// Says something without an outcome about a call.
    fn say(&self, call: Id, inbox: Id, kind: ResponseKind) {
        self.post(call, &Recipient::Inbox(inbox), kind, Outcome::nothing());
    }

    /// Sends an outcome that nobody will ask for again, or none.
    fn post(&self, call: Id, recipient: &Recipient, kind: ResponseKind, outcome: Outcome) {
        let (to, text) = self.letter(call, recipient, kind, outcome);
        self.outbox.post(Outgoing { to, text, share: None });
    }

    fn letter(
        &self,
        call: Id,
        recipient: &Recipient,
        kind: ResponseKind,
        outcome: Outcome,
    ) -> (name::Address, Bytes) {
        let function = Cow::Borrowed(&*self.function);
        let (to, ours) = match recipient {
            Recipient::Inbox(inbox) => {
                let siblings = match self.able.counts_connections {
                    true => self.lock_sibling().as_ref().and_then(Sibling::told),
                    false => None,
                };
                let extension = ResponseExtension { call, provider: self.id, kind, siblings };
                (self.namespace.inbox(*inbox), Some(extension))
            }
            Recipient::List(list) => (list.clone(), None),
        };
        (to, Response { function, outcome, ours }.encode())
    }

    /// Answers a call; `awaited` says whether anybody still waits. What no peer could read is
    /// answered with an error that says so.
    pub(super) fn answer(&self, call: Id, outcome: Outcome, awaited: bool) {
        self.conclude(call, ResponseKind::Result, outcome, awaited);
    }

    fn conclude(&self, call: Id, kind: ResponseKind, outcome: Outcome, awaited: bool) {
        let Some(recipient) = self.lock().recipient(call) else { return };
        let type_name = outcome.failed.then(|| outcome.type_name.clone());
        let bytes = outcome.value.len();
        let (to, mut text) = self.letter(call, &recipient, kind, outcome);
        if let Some(why) = self.limits.refusal_in(bytes, &text) {
            let function = &self.function;
            tracing::warn!(function, why, "an answer cannot be sent");
            let instead = Outcome::unsendable(type_name.as_deref(), &why);
            text = self.letter(call, &recipient, kind, instead).1;
        }
        if self.lock().finish(call, &text) && awaited {
            let share = Some(self.load.over(text.len()));
            self.outbox.post(Outgoing { to, text, share });
        }
    }

    /// Gives a call that has not begun back to its caller, who asks another provider.
    pub(super) fn refuse(&self, call: Id, awaited: bool) {
        self.turn_away(call, ResponseKind::Left, awaited);
    }

    fn turn_away(&self, call: Id, kind: ResponseKind, awaited: bool) {
        let Some(recipient) = self.lock().recipient(call) else { return };
        if !self.lock().withdraw(call) || !awaited {
            return;
        }
        let outcome = match (&recipient, kind) {
            (Recipient::Inbox(_), _) => Outcome::nothing(),
            // A caller of the original counts answers, so it needs one.
            (Recipient::List(_), ResponseKind::Busy) => {
                Outcome::failure("Busy", "too many calls wait; this one was not executed")
            }
            (Recipient::List(_), _) => {
                Outcome::failure("CallDropped", "the provider ended; the call was not executed")
            }
        };
        self.post(call, &recipient, kind, outcome);
    }

    fn show_life(&self) {
        let due = self.lock().due();
        for (call, inbox, kind) in due {
            self.say(call, inbox, kind);
        }
    }

    /// Goes on showing life of the calls that are open after the end, until they are answered.
    async fn finish_open(&self) {
        loop {
            let Some(due) = self.lock().next_due() else { return };
            sleep_until(due).await;
            self.show_life();
        }
    }

    /// Remembers who has asked, where the broker does not tell them that this provider is gone.
    fn meet(&self, inbox: Id) {
        if self.able.receiver_count {
            return;
        }
        let mut known = self.acquaintances.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_ACQUAINTANCES {
            known.retain(|_, asked| asked.elapsed() < KNOWN_FOR);
        }
        if known.len() < MOST_ACQUAINTANCES {
            known.insert(inbox, Instant::now());
        }
    }

    fn say_goodbye(&self) {
        let mut known = self.acquaintances.lock().unwrap_or_else(PoisonError::into_inner);
        for (inbox, asked) in std::mem::take(&mut *known) {
            if asked.elapsed() < KNOWN_FOR {
                self.say(self.id, inbox, ResponseKind::Left);
            }
        }
    }
}

/// Tells whoever takes the calls that there are no more, even if the task never ran.
struct EndOnDrop(Arc<ProviderTask>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        drop(self.0.lock_sibling().take());
        self.0.calls.close();
        self.0.ended.send_replace(true);
    }
}
