//! Remote procedure calls, written on the transport contract alone.
//!
//! A provider subscribes in one step to the function's topic (where callers of the original
//! publish), to a marker that only providers of ours have, and to a topic of its own. A caller asks
//! on the marker who is there, picks the provider with its fewest open calls and publishes the
//! request to that one; with [`call_all`](crate::Stub::call_all) it publishes to all. Replies go to
//! the caller's one inbox. Nothing is registered anywhere: what the broker knows of live
//! subscriptions is the register.
//!
//! Who must answer is counted in the step that publishes, by transports that count
//! ([`receiver_count`](crate::transport::Capabilities)). Where none does, a provider is there if it
//! says so within a second, and must answer if it had said so; one that ends says goodbye to whoever
//! asked for it lately, and one that just dies is found lost by its silence.
//!
//! Every call ends: with a result, with the function's error, at its deadline, or because its
//! provider died ([`ProviderLost`](crate::ErrorKind::ProviderLost)). A request is repeated under
//! the same identity when nothing is heard, and a provider runs each identity once.

use std::time::Duration;

mod arguments;
mod attempt;
mod attendance;
mod call;
mod caller;
mod current;
mod directory;
mod errors;
mod everyone;
mod executed;
mod failure;
mod function;
mod gather;
mod id_map;
mod in_flight;
mod inbox_reader;
mod load;
mod outbox;
mod pending;
mod presence;
mod provider;
mod provider_task;
mod reply_cache;
mod service;
mod siblings;
mod stub;

pub use arguments::BoundArguments;
pub use attendance::Missing;
pub use call::Call;
pub(crate) use caller::{Asked, Caller};
#[cfg(feature = "blocking")]
pub(crate) use current::carried;
pub use current::{CurrentCall, current_call};
pub use failure::Failure;
pub use function::{Function, LocalCall, Remote, RemoteFn};
pub use gather::AllReplies;
pub use provider::Provider;
pub(crate) use provider::Providers;
pub use service::{ExposeOptions, Service};
pub use stub::{Replies, Stub, StubReply};

use crate::name::Id;
use crate::wire::{Outcome, ResponseKind, Said};

/// What one provider answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The result or the failure, still as bytes.
    pub outcome: Outcome,
    /// The provider that answered; those of the original are anonymous.
    pub provider: Option<Id>,
}

impl Reply {
    /// The reply that a provider of ours gives, if what it says is one.
    fn of(said: Said) -> Option<Self> {
        let Said { outcome, ours } = said;
        let is_reply = ours.kind == ResponseKind::Result;
        is_reply.then_some(Self { outcome, provider: Some(ours.provider) })
    }
}

/// How a call waits, see [`Stub::options`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallOptions {
    /// How long the whole call may take; `None` takes the bus's
    /// [`call_timeout`](crate::BusBuilder::call_timeout), and a length that no clock can hold
    /// ([`Duration::MAX`]) is without end.
    ///
    /// Without either, a call waits as long as a provider of ours is alive. If only unknown subscribers
    /// listen (they may be providers of the original) and none answers, it gives up after 20 s.
    pub timeout: Option<Duration>,
    /// How long a call to all without a timeout waits for providers of the original once there are
    /// providers of ours beside them; they cannot be told from foreign subscribers.
    pub legacy_grace: Duration,
}

impl Default for CallOptions {
    /// The timeout of the bus, 5 s for providers of the original.
    fn default() -> Self {
        Self { timeout: None, legacy_grace: Duration::from_secs(5) }
    }
}

impl CallOptions {
    /// The same with a limit on how long the whole call may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The same with another patience for providers of the original.
    #[must_use]
    pub fn legacy_grace(mut self, grace: Duration) -> Self {
        self.legacy_grace = grace;
        self
    }
}

/// A provider that has no result by then says that the request has arrived.
const ACK_AFTER: Duration = Duration::from_millis(300);
/// A provider says at this interval that a call is still running.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// A caller that hears nothing asks again at this interval.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(1);
/// Silence of three beats, and a little, means that the provider is lost.
const LOST_AFTER: Duration = Duration::from_millis(6500);
/// A provider that nobody can reach for this long is lost; shorter is a reconnect.
const GONE_AFTER: Duration = Duration::from_secs(2);
/// After a gap of the caller's own connection, known providers get this long to come back.
const RETURN_WITHIN: Duration = Duration::from_secs(3);
/// Without such a gap, the last known provider gets this long: many times a reconnect, and what the
/// first call after it left for good takes to say so.
const RECONNECTS_WITHIN: Duration = Duration::from_millis(500);
/// A caller asks again only so long after it last heard of a call: providers remember what they have
/// executed for much longer.
const ASKS_WITHIN: Duration = Duration::from_secs(30);
/// A timer that comes so late says that this process, or its machine, stood still meanwhile.
const STOOD_STILL: Duration = Duration::from_secs(1);
/// Who may or may not be a provider of the original, and says nothing, is told of in the log after
/// the first and given up after the second, unless a timeout says otherwise.
const SILENCE_IS_TOLD_AFTER: Duration = Duration::from_secs(5);
const SILENCE_ENDS_AFTER: Duration = Duration::from_secs(20);
/// Where the broker does not count, a provider remembers who has asked for it, so that it can tell
/// them when it goes; a caller trusts what it knows for half as long.
const KNOWN_FOR: Duration = Duration::from_secs(120);
const MOST_ACQUAINTANCES: usize = 10_000;
/// How long providers keep replies for callers that ask again, and brokers for those away.
const REPLIES_KEPT: Duration = Duration::from_secs(60);
/// How long the original keeps reply lists (its `rpc_channel_expire`).
const REPLY_LIST_KEPT: Duration = Duration::from_secs(300);
