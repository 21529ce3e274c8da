//! Rust beside Python: the same bus, the same names, the same bytes.
//!
//! A Python program with the package `pymq`, this library's or the original, and a Rust program
//! are peers: each publishes, puts and calls what the other subscribes to, gets and exposes. What
//! agrees is names and the shape of values; the
//! [table of types](https://github.com/pymq-rs/pymq/blob/main/docs/types.md#rust-and-python) has
//! every row.
//!
//! | | Rust | Python |
//! |---|---|---|
//! | the bus | `Bus::connect("redis://localhost")` | `pymq.init("redis://localhost")` |
//! | an event | `#[event(topic = "shop.OrderPlaced")]` on a struct | class `OrderPlaced` in module `shop` |
//! | hear it | `bus.subscribe::<OrderPlaced>()` | `@pymq.subscriber` above `def f(event: OrderPlaced)` |
//! | a topic by name | `bus.topic::<f64>("prices")` | `pymq.topic("prices")` |
//! | a queue | `bus.queue::<Job>("jobs")` | `pymq.queue("jobs", type=Job)` |
//! | at least once | `claim`, `work` | `ack="manual"` |
//! | a function | `#[pymq::remote("shop.price")]` | `@pymq.remote("shop.price")` |
//! | call it | `bus.stub::<_, u32>("shop.price").call(("tea", 2))` | `pymq.stub("shop.price")("tea", 2)` |
//! | by keyword | a struct as the arguments | `("tea", count=2)` |
//! | all of them | `call_all` | `stub(…, multi=True)` |
//! | its error | [`Error::remote`](crate::Error::remote): type name, arguments as JSON | `RemoteInvocationError(type_name, *args)` |
//!
//! A Python function without a name of its own is exposed as `module.qualname`; give it one
//! (`@pymq.remote("name")`) when Rust is to call it.
//!
//! # Shapes
//! The receiver's type decides, by serde: field names are attribute names (`#[serde(rename)]` where
//! they differ), `Option` is `None`, a struct is a dataclass. Python's classes, its `date` or
//! `Decimal`, leave marks that Rust takes off, so what arrives is the plain value.
//!
//! ```
//! use pymq::Bus;
//! use serde::Deserialize;
//! use serde_json::json;
//!
//! #[derive(Debug, PartialEq, Deserialize)]
//! struct Order {
//!     id: u64,
//!     due: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let mut orders = bus.topic::<Order>("shop.Order").subscribe().await?;
//! // What Python writes for `Order(1, date(2026, 12, 24))`.
//! let written = json!({
//!     "__types": {"due": "datetime.date"},
//!     "id": 1, "due": "2026-12-24",
//!     "__type": "shop.Order",
//! });
//! bus.publish_bytes("shop.Order", written.to_string().into()).await?;
//! let order = orders.recv().await.expect("the bus is open")?;
//! assert_eq!(order, Order { id: 1, due: "2026-12-24".into() });
//! # Ok(()) }
//! ```
//!
//! # Old peers
//! The original, 0.2.2 to 0.7.0, takes part as it is. It knows no leases and no single provider: it
//! takes items out of a queue for good, and where only its processes expose a function all of them
//! execute a call.
