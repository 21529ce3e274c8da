//! The providing side of one function: requests come in as [`Call`]s, outcomes go back.
//!
//! Its task answers by itself whatever needs no handler (who is there, repeated requests,
//! cancellations, signs of life), so a handler that blocks a thread makes nobody believe that the
//! provider is dead. It runs nothing: whoever holds the [`Provider`] does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::in_flight::{Cancellation, InFlight, Seen};
use super::{ACK_AFTER, REPLIES_KEPT, REPLY_LIST_KEPT};
use crate::error::Result;
use crate::name::{self, Address, Id, Namespace};
use crate::transport::{
    Arrival, Filter, Limit, Receiver, Sender, Stamp, Subscription, Transport, Weigh, mailbox,
};
use crate::wire::{
    Arguments, Control, Outcome, Request, Response, ResponseExtension, ResponseKind, ToProvider,
};

/// One exposed function; dropping it ends it, on any thread.
#[derive(Debug)]
pub struct Provider {
    calls: Receiver<Call>,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

/// What the task and the calls share.
#[derive(Debug)]
struct Desk {
    transport: Arc<dyn Transport>,
    namespace: Namespace,
    runtime: Handle,
    function: String,
    id: Id,
    in_flight: Mutex<InFlight>,
    calls: Sender<Call>,
    end: tokio::sync::Notify,
    ended: tokio::sync::watch::Sender<bool>,
}

impl Provider {
    pub(crate) async fn start(
        transport: Arc<dyn Transport>,
        namespace: Namespace,
        runtime: Handle,
        function: &str,
    ) -> Result<Self> {
        name::check("expose", function)?;
        let id = Id::random();
        let filters = [
            Filter::Topic(namespace.whole(function)),
            Filter::Topic(namespace.marker(function)),
            Filter::Topic(namespace.instance(id)),
        ];
        let begun = transport.subscribe(&filters).await;
        let subscription = begun.map_err(|error| error.of("expose", name::shortened(function)))?;
        let (sender, calls) = mailbox(Limit::default());
        let desk = Arc::new(Desk {
            transport,
            namespace,
            runtime: runtime.clone(),
            function: function.to_owned(),
            id,
            in_flight: Mutex::default(),
            calls: sender,
            end: tokio::sync::Notify::new(),
            ended: tokio::sync::watch::Sender::new(false),
        });
        let task = runtime.spawn(attend(Ending(Arc::clone(&desk)), subscription));
        Ok(Self { calls, desk, task })
    }

    /// The function's name.
    pub fn function(&self) -> &str {
        &self.desk.function
    }

    /// This provider's identity, as callers see it.
    pub fn id(&self) -> Id {
        self.desk.id
    }

    /// The next call; `None` when the bus was closed. Cancel-safe.
    ///
    /// Calls that were thrown away because nobody took them in time have been answered with an
    /// error.
    pub async fn recv(&mut self) -> Option<Call> {
        loop {
            let arrival = self.calls.recv().await?;
            if let Some(call) = self.due(arrival) {
                return Some(call);
            }
        }
    }

    /// As [`Receiver::poll_oldest`].
    pub fn poll_oldest(&mut self, context: &mut Context<'_>) -> Poll<Option<Stamp>> {
        self.calls.poll_oldest(context)
    }

    /// Moves the calls that came before `before`, out of `limit` arrivals at most, to the end of
    /// `batch`; never waits.
    pub fn drain(&mut self, before: Stamp, limit: usize, batch: &mut Vec<Call>) {
        let mut arrivals = Vec::new();
        self.calls.drain(before, limit, &mut arrivals);
        batch.extend(arrivals.into_iter().filter_map(|arrival| self.due(arrival)));
    }

    /// Ends it and waits until the broker knows; calls that run may still be answered.
    ///
    /// # Errors
    /// Does not fail today; a lost connection ends it as well.
    pub async fn end(self) -> Result<()> {
        self.retire().await;
        Ok(())
    }

    /// Begins to end it; the future returns when the broker knows. Calls that came before can still
    /// be taken, and then there are no more.
    pub fn retire(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.desk.ended.subscribe();
        self.desk.end.notify_one();
        async move {
            // An error says that the provider is gone altogether.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    /// A call that somebody still waits for.
    fn due(&self, arrival: Arrival<Call>) -> Option<Call> {
        match arrival {
            Arrival::Message(call) => call.is_due().then_some(call),
            Arrival::Gap | Arrival::Refused(_) => None,
            Arrival::Lagged(missed) => {
                let function = &self.desk.function;
                tracing::warn!(function, missed, "calls refused: more than 65,536 were waiting");
                None
            }
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if !*self.desk.ended.borrow() {
            self.desk.end.notify_one();
        }
        if self.desk.lock().is_idle() {
            self.task.abort();
        }
    }
}

/// Reads everything that arrives for a provider until it ends.
async fn attend(ending: Ending, subscription: Subscription) {
    let desk = Arc::clone(&ending.0);
    let (mut messages, guard) = subscription.split();
    // Never later than the first sign of life that is due; to look for that at each message would
    // be to look at all calls that run.
    let mut alarm = std::pin::pin!(sleep_until(Instant::now()));
    let mut armed = false;
    loop {
        // All cancel-safe: a mailbox, a notification, a timer.
        tokio::select! {
            biased;
            () = desk.end.notified() => break,
            arrival = messages.recv() => match arrival {
                Some(Arrival::Message(message)) => {
                    desk.receive(&message.payload);
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
                desk.show_life();
                let due = desk.lock().next_due();
                armed = due.is_some();
                alarm.as_mut().reset(due.unwrap_or_else(Instant::now));
            }
        }
    }
    if let Err(error) = guard.release().await {
        tracing::debug!(function = desk.function, %error, "could not unsubscribe a provider");
    }
    // Whoever was told that the request arrived must not wait for nothing.
    messages.close();
    while let Some(arrival) = messages.recv().await {
        if let Arrival::Message(message) = arrival {
            desk.receive(&message.payload);
        }
    }
    drop(ending);
    desk.finish_running().await;
}

/// Tells whoever takes the calls that there are no more, even if the task never ran.
struct Ending(Arc<Desk>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.calls.close();
        self.0.ended.send_replace(true);
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(self: &Arc<Self>, text: &Bytes) {
        match ToProvider::decode(text) {
            Ok(ToProvider::Request(request)) => self.request(request),
            Ok(ToProvider::Control(Control::Cancel { call })) => self.lock().cancel(call),
            Ok(ToProvider::Control(Control::Who { call, inbox })) => {
                self.say(call, inbox, ResponseKind::Here);
            }
            Err(error) => {
                let function = &self.function;
                tracing::warn!(function, %error, "malformed request dropped");
            }
        }
    }

    fn request(self: &Arc<Self>, request: Request) {
        if request.function != self.function {
            let (function, named) = (&self.function, name::shortened(&request.function));
            tracing::warn!(function, named, "request for another function dropped");
            return;
        }
        let Some(ours) = request.ours else { return self.request_of_original(request) };
        let seen = self.lock().see(ours.call, ours.inbox);
        match seen {
            Seen::New(cancellation) => {
                let expires = ours.left.and_then(|left| Instant::now().checked_add(left));
                let target = Target::Inbox { call: ours.call, inbox: ours.inbox };
                self.hand_over(request.arguments, target, expires, cancellation);
            }
            Seen::Running => self.say(ours.call, ours.inbox, ResponseKind::Ack),
            Seen::Done(reply) => self.send(self.namespace.inbox(ours.inbox), reply),
        }
    }

    fn request_of_original(self: &Arc<Self>, request: Request) {
        match self.namespace.reply_list(&request.reply_list) {
            Ok(address) => {
                self.hand_over(request.arguments, Target::List(address), None, Arc::default());
            }
            Err(error) => {
                let function = &self.function;
                tracing::warn!(function, %error, "request with a forged reply channel dropped");
            }
        }
    }

    fn hand_over(
        self: &Arc<Self>,
        arguments: Arguments,
        target: Target,
        expires: Option<Instant>,
        cancellation: Arc<Cancellation>,
    ) {
        let desk = Arc::clone(self);
        let reply = Some(ReplyTo { desk, target });
        self.calls.send(Call { arguments, expires, cancellation, reply });
    }

    /// Says something without an outcome about a call.
    fn say(self: &Arc<Self>, call: Id, inbox: Id, kind: ResponseKind) {
        let outcome = Outcome {
            value: Bytes::from_static(b"null"),
            type_name: "NoneType".to_owned(),
            types: None,
            failed: false,
        };
        let extension = ResponseExtension { call, provider: self.id, kind };
        let response = Response { function: self.function.clone(), outcome, ours: Some(extension) };
        self.send(self.namespace.inbox(inbox), response.encode());
    }

    fn show_life(self: &Arc<Self>) {
        let due = self.lock().due();
        for (call, inbox, kind) in due {
            self.say(call, inbox, kind);
        }
    }

    /// Goes on showing life of the calls that still run after the end, until they are answered.
    async fn finish_running(self: &Arc<Self>) {
        loop {
            let Some(due) = self.lock().next_due() else { return };
            sleep_until(due).await;
            self.show_life();
        }
    }

    /// Sends in the background, since whoever answers must not wait for the broker.
    fn send(self: &Arc<Self>, address: Address, reply: Bytes) {
        let desk = Arc::clone(self);
        self.runtime.spawn(async move {
            let kept = match address.form() {
                crate::name::Form::Inbox => REPLIES_KEPT,
                crate::name::Form::List => REPLY_LIST_KEPT,
            };
            if let Err(error) = desk.transport.send(&address, reply, kept).await {
                // The caller asks again by identity, and the reply is kept here.
                tracing::debug!(function = desk.function, %error, "could not send a reply");
            }
        });
    }
}

/// Where an outcome goes.
#[derive(Clone, Debug)]
enum Target {
    Inbox { call: Id, inbox: Id },
    List(Address),
}

/// The way back to a caller.
#[derive(Debug)]
struct ReplyTo {
    desk: Arc<Desk>,
    target: Target,
}

impl ReplyTo {
    fn send(self, outcome: Outcome) {
        let Self { desk, target } = self;
        let function = desk.function.clone();
        match target {
            Target::Inbox { call, inbox } => {
                let extension =
                    ResponseExtension { call, provider: desk.id, kind: ResponseKind::Result };
                let reply = Response { function, outcome, ours: Some(extension) }.encode();
                desk.lock().finish(call, &reply);
                desk.send(desk.namespace.inbox(inbox), reply);
            }
            Target::List(address) => {
                desk.send(address, Response { function, outcome, ours: None }.encode());
            }
        }
    }
}

/// One request to run a function; a call that is dropped unanswered is answered with an error.
#[derive(Debug)]
pub struct Call {
    arguments: Arguments,
    expires: Option<Instant>,
    cancellation: Arc<Cancellation>,
    reply: Option<ReplyTo>,
}

impl Call {
    /// What the function is called with.
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }

    /// Whether the caller has stopped waiting.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Returns when the caller stops waiting; for one that does not say so, never.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        let cancellation = Arc::clone(&self.cancellation);
        async move { cancellation.cancelled().await }
    }

    /// Sends the outcome; does not wait for it to arrive, needs no runtime.
    pub fn answer(mut self, outcome: Outcome) {
        if let Some(reply) = self.reply.take() {
            reply.send(outcome);
        }
    }

    /// Whether somebody still waits for it.
    fn is_due(&self) -> bool {
        !self.is_cancelled() && self.expires.is_none_or(|expires| Instant::now() < expires)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            reply.send(Outcome::failure("CallDropped", "the provider gave the call up unanswered"));
        }
    }
}

impl Weigh for Call {
    fn weight(&self) -> usize {
        self.arguments.positional.len() + self.arguments.keywords.len()
    }
}
