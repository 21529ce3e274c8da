//! Calls: a function of another program, and its answer.
//!
//! # What is guaranteed
//! | | |
//! |---|---|
//! | [`call`](crate::Stub::call) | one provider executes it, once, however often the request has to be repeated on the way |
//! | [`call_all`](crate::Stub::call_all) | every provider that is alive executes it, once; who failed or did not answer stands in the result |
//! | the end | a result, the function's error, [`Timeout`](crate::ErrorKind::Timeout), [`NoSuchRemote`](crate::ErrorKind::NoSuchRemote), or [`ProviderLost`](crate::ErrorKind::ProviderLost) within seconds; a slow provider that lives is waited for |
//! | after `Timeout` and `ProviderLost` | the function may have run: repeat what is safe to repeat |
//! | dropping the future of a call | cancels it at its provider |
//!
//! # A function
//! ```
//! use pymq::{Bus, ErrorKind};
//! use std::time::Duration;
//!
//! #[pymq::remote("shop.price")]
//! async fn price(item: String, count: Option<u32>) -> Result<u32, String> {
//!     match item.as_str() {
//!         "tea" => Ok(3 * count.unwrap_or(1)),
//!         _ => Err(format!("no {item} here")),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let service = bus.expose(price).await?; // dropping it unexposes the function
//!
//! let price = bus.stub::<(&str, Option<u32>), u32>("shop.price").timeout(Duration::from_secs(5));
//! assert_eq!(price.call(("tea", Some(2))).await?, 6);
//! assert_eq!(price.call(("tea", None)).await?, 3);
//!
//! let error = price.call(("ink", None)).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Remote);
//! assert!(error.to_string().contains("no ink here"));
//!
//! service.drain().await; // what runs is finished first
//! let error = price.call(("tea", None)).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::NoSuchRemote);
//! # Ok(()) }
//! ```
//! The arguments of a stub are a tuple, bound by position, or a struct, bound by the names of its
//! fields; [`keywords`](crate::Stub::keywords) brings both into one call. Write `(x,)` for a single
//! one.
//!
//! # Several functions on shared state
//! ```
//! use pymq::Bus;
//! use std::sync::Mutex;
//!
//! #[pymq::service]
//! trait Counter {
//!     async fn add(&self, number: i64) -> i64;
//!     async fn reset(&self);
//! }
//!
//! #[derive(Default)]
//! struct Shared(Mutex<i64>);
//!
//! impl Counter for Shared {
//!     async fn add(&self, number: i64) -> i64 {
//!         let mut sum = self.0.lock().expect("nobody panics with it");
//!         *sum += number;
//!         *sum
//!     }
//!
//!     async fn reset(&self) {
//!         *self.0.lock().expect("nobody panics with it") = 0;
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let _service = bus.expose(CounterServer::new(Shared::default())).await?;
//! let counter = CounterClient::new(&bus);
//! assert_eq!(counter.add(2).await?, 2);
//! assert_eq!(counter.add(3).await?, 5);
//! counter.reset().await?;
//! assert_eq!(counter.add(1).await?, 1);
//! # Ok(()) }
//! ```
//! A closure does as well: [`Bus::expose_fn`](crate::Bus::expose_fn). How many calls of a function
//! may run at once is an [option](crate::ExposeOptions) of
//! [`Bus::expose_with`](crate::Bus::expose_with).
//!
//! # Everybody answers
//! ```
//! use pymq::Bus;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let mut services = Vec::new();
//! for node in 1..=3 {
//!     let load = move |(): ()| async move {
//!         if node == 2 { Err("out of order") } else { Ok(node * 10) }
//!     };
//!     services.push(bus.expose_fn("load", load).await?);
//! }
//!
//! let load = bus.stub::<(), i32>("load");
//! let (mut answers, mut failures) = (Vec::new(), 0);
//! for reply in load.call_all(()).await? {
//!     match reply.result {
//!         Ok(answer) => answers.push(answer),
//!         Err(_) => failures += 1,
//!     }
//! }
//! answers.sort();
//! assert_eq!((answers, failures), (vec![10, 30], 1));
//!
//! // One of them, chosen by how busy they are, answers a plain call.
//! assert!(matches!(load.call(()).await, Ok(10 | 30) | Err(_)));
//! # Ok(()) }
//! ```
//! It returns as soon as everyone alive has answered; with a
//! [`timeout`](crate::Stub::timeout), then at the latest.
//! [`call_all_stream`](crate::Stub::call_all_stream) gives each answer when it comes. Several
//! providers of one function on one bus all answer.
//!
//! # A provider in trouble
//! An error of the function is an [`Error`](crate::Error) of kind
//! [`Remote`](crate::ErrorKind::Remote) at the caller, with the error type's name and its text; so
//! is a panic. A [`Failure`](crate::rpc::Failure) chooses name and arguments, and brings the fields of
//! an error back to callers that know its type. Calls run side by side; what they share is kept behind a lock.
