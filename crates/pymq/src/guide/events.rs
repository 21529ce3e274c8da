//! Events: said once, to whoever is subscribed.
//!
//! Take them for what is of interest now: prices, progress, "this was changed". What must not be
//! lost belongs in a [queue](super::queues).
//!
//! # What is guaranteed
//! | | |
//! |---|---|
//! | delivery | at most once, to each subscription |
//! | order | one publisher's events on one topic arrive in order |
//! | beginning | when `subscribe` has returned, the next event published is seen |
//! | a slow subscriber | loses the oldest; its stream yields [`Lagged`](crate::ErrorKind::Lagged) and goes on; publishers never wait |
//! | a lost connection | heals; the stream yields [`Lagged`](crate::ErrorKind::Lagged) and goes on |
//! | an event of another type | an error of kind [`Decode`](crate::ErrorKind::Decode) in the stream, which goes on |
//! | the end | the stream ends when the bus was closed; dropping it unsubscribes, on any thread |
//!
//! # A type and its topic
//! ```
//! use pymq::{Bus, Event};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
//! #[event(topic = "shop.OrderPlaced")]
//! struct OrderPlaced {
//!     id: u64,
//!     items: Vec<String>,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let mut placed = bus.subscribe::<OrderPlaced>().await?;
//!
//! let order = OrderPlaced { id: 1, items: vec!["tea".into()] };
//! let receivers = bus.publish(&order).await?;
//! assert_eq!(receivers, Some(1)); // `None` where a transport cannot know
//!
//! assert_eq!(placed.recv().await.expect("the bus is open")?, order);
//! # Ok(()) }
//! ```
//!
//! # Reading until the end
//! A stream yields what came and what was missed. Decide for each error; none of them ends it.
//!
//! ```
//! use pymq::{Bus, ErrorKind};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let mut prices = bus.topic::<f64>("prices").subscribe().await?;
//! bus.topic("prices").publish(&1.5).await?;
//! bus.topic("prices").publish(&"not for sale").await?;
//! bus.topic("prices").publish(&2.5).await?;
//! bus.close().await?;
//!
//! let (mut seen, mut odd) = (Vec::new(), 0);
//! while let Some(price) = prices.recv().await {
//!     match price {
//!         Ok(price) => seen.push(price),
//!         // Ask for the whole state again; `missed` says how many, where that is known.
//!         Err(error) if error.kind() == ErrorKind::Lagged => eprintln!("{:?}", error.missed()),
//!         Err(error) => {
//!             eprintln!("{error}");
//!             odd += 1;
//!         }
//!     }
//! }
//! assert_eq!((seen, odd), (vec![1.5, 2.5], 1));
//! # Ok(()) }
//! ```
//! [`Events`](crate::Events) is a [`Stream`](futures_core::Stream) too, for the combinators of
//! `futures` and `tokio-stream`.
//!
//! # Several topics
//! Globs as Redis has them: `*` any text, `?` one byte, `[a-z]` one of a set, `\` the next one
//! literally. Each event comes with the topic it was published on.
//!
//! ```
//! use pymq::Bus;
//! use serde_json::Value;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let mut rooms = bus.pattern::<Value>("house.*.temperature").await?;
//! bus.topic("house.attic.temperature").publish(&31).await?;
//! bus.topic("house.attic.humidity").publish(&40).await?;
//! bus.topic("house.cellar.temperature").publish(&12).await?;
//!
//! let mut next = async || rooms.recv().await.expect("the bus is open");
//! assert_eq!(next().await?, ("house.attic.temperature".to_owned(), 31.into()));
//! assert_eq!(next().await?, ("house.cellar.temperature".to_owned(), 12.into()));
//! # Ok(()) }
//! ```
//! Names and patterns go together in one subscription, which begins in one step:
//!
//! ```
//! use pymq::{Bus, Filter};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let filters = [Filter::Topic("door".into()), Filter::Pattern("window.*".into())];
//! let mut opened = bus.subscribe_to::<bool>(&filters).await?;
//! bus.topic("window.attic").publish(&true).await?;
//! let (topic, open) = opened.recv().await.expect("the bus is open")?;
//! assert_eq!((topic.as_str(), open), ("window.attic", true));
//! # Ok(()) }
//! ```
//!
//! # What is said beside an event
//! Headers, an identity and the time of sending travel beside a value, up to 8 KiB, where programs that
//! do not look for them do not see them; who says nothing sends not a byte more.
//!
//! ```
//! use pymq::{Bus, wire::Metadata};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let mut sales = bus.pattern::<u32>("shop.*").await?;
//! let north = Metadata::default().header("tenant", "north").id("sale-17");
//! bus.topic("shop.till").metadata(north).publish(&30).await?;
//!
//! let sale = sales.recv_message().await.expect("the bus is open")?;
//! assert_eq!((sale.value, sale.topic.as_str()), (30, "shop.till"));
//! assert_eq!(sale.metadata.get("tenant"), Some("north"));
//! assert_eq!(sale.metadata.identity(), Some("sale-17"));
//! # Ok(()) }
//! ```
//! Items ([`Queue::metadata`](crate::Queue::metadata), [`Delivery::metadata`](crate::Delivery::metadata))
//! and calls ([`Stub::metadata`](crate::Stub::metadata), [`current_call`](crate::rpc::current_call)) have
//! the same.
