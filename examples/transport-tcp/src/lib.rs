//! A transport for PyMQ over TCP: what somebody writes who has a broker of his own.
//!
//! It uses the public interface of `pymq` only, and is right because it passes the conformance
//! suite (`tests/conformance.rs`), every rule against a server in a process of its own. It is an
//! example, so it is small before it is fast: it does not reconnect, and it has neither passwords
//! nor encryption, so keep its server on a loopback address.
//!
//! # In reading order
//! * `frame.rs`: what travels. A transport moves names and bytes, in whatever form suits its broker.
//! * `client.rs`: **the transport**: the contract, operation by operation.
//! * `line.rs`: the connection that they share, and what happens when a future is dropped.
//! * `server.rs`: the broker. This one keeps what the library has for one process,
//!   [`Memory`](pymq::transport::memory::Memory), and lends it to others.
//!
//! ```
//! use pymq::{Bus, Namespace};
//! use pymq_tcp::{Tcp, serve};
//! use tokio::net::TcpListener;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?.to_string();
//! let _server = tokio::spawn(serve(listener)); // in life: `pymq-tcp 127.0.0.1:7117`
//!
//! let here = Bus::over(Tcp::connect(&address).await?, Namespace::default())?;
//! let there = Bus::over(Tcp::connect(&address).await?, Namespace::default())?;
//! let twice = |(x,): (i64,)| async move { x.checked_mul(2).ok_or("too large") };
//! let _service = there.expose_fn("twice", twice).await?;
//! assert_eq!(here.stub::<_, i64>("twice").call((21,)).await?, 42);
//! # Ok(()) }
//! ```

mod client;
mod frame;
mod line;
mod server;

pub use client::{MAILBOX, Tcp};
pub use server::serve;
