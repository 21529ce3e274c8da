//! A look at a bus from outside: its subscribers, its providers, its queues.
//!
//! For people who operate a bus, and tools that they use. The one invariant: looking changes
//! nothing. What a broker knows is asked of the transport; what only programs on the bus know (who
//! provides a function, how busy it is) is asked of them.

use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::error::{Error, ErrorKind, Result};
use crate::name::{self, Id, Namespace};
use crate::rpc::Caller;
use crate::transport::{
    Arrival, Filter, Finding, Holder, Inspect, Leftover, QueueSpec, Subscription, Transport,
};
use crate::wire::Passing;

/// A look at a bus, see [`Bus::inspect`](crate::Bus::inspect).
#[derive(Clone)]
pub struct Inspection {
    transport: Arc<dyn Transport>,
    namespace: Namespace,
    caller: Arc<Caller>,
}

/// A topic with subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicFacts {
    /// Its name, without the namespace.
    pub name: String,
    /// How many subscribe to it by exact name; as of the transport, subscriptions or connections.
    pub subscribers: usize,
}

/// A function that somebody provides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionFacts {
    /// Its name.
    pub name: String,
    /// The providers that have just said that they are there.
    pub providers: Vec<ProviderFacts>,
    /// Providers that are connected and said nothing within a second: stopped, or their connection
    /// hangs.
    pub silent: usize,
    /// Other subscribers of its topic: providers of the original, or foreign ones.
    pub others: usize,
}

/// One provider of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderFacts {
    /// Its identity.
    pub id: Id,
    /// How many calls it has begun or keeps waiting; `None` for one of an earlier release.
    pub open_calls: Option<usize>,
}

impl Inspection {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        namespace: Namespace,
        caller: Arc<Caller>,
    ) -> Self {
        Self { transport, namespace, caller }
    }

    /// The topics that have subscribers by exact name, sorted; those on which only functions of this
    /// library listen to calls are left out.
    ///
    /// # Errors
    /// `Unsupported` on a transport that cannot be inspected, and those of the connection.
    pub async fn topics(&self) -> Result<Vec<TopicFacts>> {
        let pattern = self.namespace.whole_pattern("*");
        let topics = self.broker("list topics")?.topics(&pattern);
        let topics = topics.await.map_err(|error| error.of("list", "topics"))?;
        let markers = self.markers().await?;
        let mut facts: Vec<_> = topics
            .iter()
            .filter_map(|(whole, subscribers)| {
                let name = self.namespace.strip(whole)?.to_owned();
                let calls = markers.iter().find(|(function, _)| *function == name);
                let subscribers = subscribers.saturating_sub(calls.map_or(0, |(_, ours)| *ours));
                (subscribers > 0).then_some(TopicFacts { name, subscribers })
            })
            .collect();
        facts.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(facts)
    }

    /// The functions that programs of this library provide, sorted, with who provides each. A
    /// function of the original alone looks like any topic.
    ///
    /// # Errors
    /// As [`topics`](Self::topics).
    pub async fn functions(&self) -> Result<Vec<FunctionFacts>> {
        let mut markers = self.markers().await?;
        markers.sort();
        try_join_all(markers.into_iter().map(|(function, _)| self.function(function))).await
    }

    async fn function(&self, name: String) -> Result<FunctionFacts> {
        let (providers, silent, others) = self.caller.providers(&name).await?;
        let mut providers: Vec<_> = providers
            .into_iter()
            .map(|(id, open_calls)| ProviderFacts { id, open_calls })
            .collect();
        providers.sort_by_key(|provider| provider.id);
        Ok(FunctionFacts { name, providers, silent, others })
    }

    /// The names of the queues that hold anything, or on which somebody waits as far as the broker
    /// knows; sorted. May take time that grows with all that the broker holds.
    ///
    /// # Errors
    /// As [`topics`](Self::topics).
    pub async fn queues(&self) -> Result<Vec<String>> {
        let pattern = self.namespace.whole_pattern("*");
        let queues = self.broker("list queues")?.queues(&pattern);
        let queues = queues.await.map_err(|error| error.of("list", "queues"))?;
        let names = queues.iter().filter_map(|whole| self.namespace.strip(whole));
        // Answers to callers of the original lie in lists, too.
        let names = names.filter(|name| self.namespace.reply_list(name).is_err());
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// The consumers that hold items of a queue on lease, even if that has run out.
    ///
    /// # Errors
    /// As [`topics`](Self::topics).
    pub async fn holders(&self, queue: &str) -> Result<Vec<Holder>> {
        let spec = Arc::new(QueueSpec::new(self.namespace.whole(queue)));
        let holders = self.broker("list holders")?.holders(&spec);
        holders.await.map_err(|error| error.of("list", name::shortened(queue)))
    }

    /// What the broker is, how it is set up and what this connection may do there: what is as it
    /// should be, and what is not.
    ///
    /// # Errors
    /// As [`topics`](Self::topics).
    pub async fn examine(&self) -> Result<Vec<Finding>> {
        let findings = self.broker("examine")?.examine(self.namespace.name());
        findings.await.map_err(|error| error.of("examine", "broker"))
    }

    /// What programs that ended badly have left behind in this namespace.
    ///
    /// # Errors
    /// As [`topics`](Self::topics).
    pub async fn leftovers(&self) -> Result<Vec<Leftover>> {
        let pattern = self.namespace.whole_pattern("*");
        let leftovers = self.broker("list leftovers")?.leftovers(&pattern);
        leftovers.await.map_err(|error| error.of("list", "leftovers"))
    }

    /// Does with a leftover what its owner should have done.
    ///
    /// # Errors
    /// As [`topics`](Self::topics).
    pub async fn tidy(&self, leftover: &Leftover) -> Result<()> {
        let tidied = self.broker("tidy")?.tidy(leftover);
        tidied.await.map_err(|error| error.of("tidy", name::shortened(&leftover.name)))
    }

    /// Everything that passes on the bus by way of topics: events, and on brokers where calls travel
    /// so, requests and answers. While it is read each publish of the bus costs the broker a little
    /// more.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn traffic(&self) -> Result<Traffic> {
        let patterns = [self.namespace.whole_pattern("*"), self.namespace.whole_own_pattern()];
        let filters = patterns.map(Filter::Pattern);
        let subscription = self.transport.subscribe(&filters).await;
        let subscription = subscription.map_err(|error| error.of("subscribe", "everything"))?;
        Ok(Traffic { subscription, namespace: self.namespace.clone() })
    }

    /// Functions, and how many providers of ours the broker counts for each.
    async fn markers(&self) -> Result<Vec<(String, usize)>> {
        let pattern = self.namespace.whole_marker_pattern();
        let markers = self.broker("list functions")?.topics(&pattern);
        let markers = markers.await.map_err(|error| error.of("list", "functions"))?;
        let function = |(whole, count): &(String, usize)| {
            Some((self.namespace.strip_marker(whole)?.to_owned(), *count))
        };
        Ok(markers.iter().filter_map(function).collect())
    }

    fn broker(&self, operation: &'static str) -> Result<&dyn Inspect> {
        self.transport.inspect().ok_or_else(|| {
            let why = "this transport tells nothing of who is on it";
            Error::new(ErrorKind::Unsupported, operation, "broker", why)
        })
    }
}

/// What passes on a bus; dropping it ends the look.
#[must_use = "dropping it ends the look"]
#[derive(Debug)]
pub struct Traffic {
    subscription: Subscription,
    namespace: Namespace,
}

impl Traffic {
    /// The next message, or what was missed; `None` when the bus was closed.
    pub async fn recv(&mut self) -> Option<Arrival<Passing>> {
        Some(match self.subscription.recv().await? {
            Arrival::Message(message) => {
                let topic = self.namespace.strip(&message.topic);
                Arrival::Message(Passing::read(topic, &message.topic, &message.payload))
            }
            Arrival::Lagged(missed) => Arrival::Lagged(missed),
            Arrival::Gap => Arrival::Gap,
            Arrival::Refused(why) => Arrival::Refused(why),
        })
    }
}

impl std::fmt::Debug for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspection").field("transport", &self.transport).finish_non_exhaustive()
    }
}
