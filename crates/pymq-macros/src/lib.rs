//! The macros of [`pymq`](https://docs.rs/pymq), which re-exports them; use them from there.
//!
//! They only write down what could be written by hand, in paths of `::pymq` and `::core`: how
//! arguments bind and calls run is the library's. A wrong use is an error that says the fix.

use proc_macro::TokenStream;
use quote::quote;

mod event;
mod remote;
mod service;
mod signature;

/// Implements `pymq::Event`: the topic that a type's values travel on.
///
/// ```
/// use pymq::{Bus, Event};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(topic = "shop.OrderPlaced")]
/// struct OrderPlaced {
///     id: u64,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// let bus = Bus::connect("memory://").await?;
/// let mut placed = bus.subscribe::<OrderPlaced>().await?;
/// bus.publish(&OrderPlaced { id: 1 }).await?;
/// assert_eq!(placed.recv().await.expect("the bus is open")?.id, 1);
/// # Ok(()) }
/// ```
///
/// The topic must be written out. It is an agreement with other programs, for a Python class its
/// module and name, which no name on this side tells; and a default would let renaming or moving a
/// type change the wire in silence.
#[proc_macro_derive(Event, attributes(event))]
pub fn event(item: TokenStream) -> TokenStream {
    event::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a function one that `Bus::expose` takes, under its own name or the one given.
///
/// ```
/// use pymq::Bus;
///
/// #[pymq::remote("product_remote")]
/// async fn product(a: i64, b: Option<i64>) -> Result<i64, String> {
///     a.checked_mul(b.unwrap_or(1)).ok_or("too large".to_owned())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// let bus = Bus::connect("memory://").await?;
/// let _service = bus.expose(product).await?; // dropping it unexposes the function
///
/// let stub = bus.stub::<(i64, i64), i64>("product_remote");
/// assert_eq!(stub.call((2, 4)).await?, 8);
/// assert_eq!(product(2, Some(4)).await, Ok(8)); // no bus involved
/// # Ok(()) }
/// ```
///
/// Arguments bind to the parameters by position and by name, as in Python:
/// `stub("product_remote")(2, b=4)`. A parameter whose type is an `Option` may be left out. The
/// function returns a `Result`, whose error is shown to the caller, or any other type if it cannot
/// fail; a return type is taken for a `Result` by that name.
///
/// Calls run side by side on the runtime of the bus; a plain `fn` becomes one that is awaited like
/// an `async fn`, and holds up its thread while it runs. At most twelve parameters; no references,
/// no generics, no `self`: for methods on shared state there is `#[pymq::service]`.
#[proc_macro_attribute]
pub fn remote(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    or_errors(remote::expand(attribute.into(), item.clone()), || item)
}

/// Turns a trait into a service: several functions on shared state, with a typed client.
///
/// ```
/// use pymq::Bus;
/// use std::sync::atomic::{AtomicI64, Ordering};
///
/// #[pymq::service]
/// trait Calculator {
///     async fn product(&self, a: i64, b: i64) -> Result<i64, String>;
///     /// Adds to the memory and says what it holds.
///     async fn add(&self, value: i64) -> i64;
/// }
///
/// #[derive(Default)]
/// struct Abacus {
///     memory: AtomicI64,
/// }
///
/// impl Calculator for Abacus {
///     async fn product(&self, a: i64, b: i64) -> Result<i64, String> {
///         a.checked_mul(b).ok_or("too large".to_owned())
///     }
///
///     async fn add(&self, value: i64) -> i64 {
///         self.memory.fetch_add(value, Ordering::Relaxed) + value
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// let bus = Bus::connect("memory://").await?;
/// let _service = bus.expose(CalculatorServer::new(Abacus::default())).await?;
///
/// let calculator = CalculatorClient::new(&bus);
/// assert_eq!(calculator.product(2, 4).await?, 8);
/// calculator.add(3).await?;
/// assert_eq!(calculator.add(4).await?, 7);
/// for reply in calculator.everyone().add(0).await? {
///     assert_eq!(reply.result?, 7);
/// }
/// # Ok(()) }
/// ```
///
/// Each method is a remote function of its own, `Calculator.product`; from Python
/// `stub("Calculator.product")(2, b=4)`. `#[pymq::service("shop.Calculator")]` gives the service
/// another name, `#[remote("product")]` above a method that method its whole remote name.
///
/// The macro writes, beside the trait:
/// - `CalculatorServer`, for `Bus::expose`; made by `new` from what implements the trait, or by
///   `from` out of an `Arc` of it that the program shares;
/// - `CalculatorClient`, whose methods take what the trait's take and return a `pymq::Result`; an
///   error of the service is one of kind `Remote`, with the name of the error's type. Its `timeout`
///   sets how long a whole call may take, `options` all of how calls wait. One provider executes a
///   call; `everyone` gives the same methods for calling all of them, with a `StubReply` of each:
///   `calculator.everyone().add(0).await?`.
///
/// The trait becomes `Send + Sync + 'static`, its methods' futures `Send`. Methods are `async`, take
/// `&self`, and follow the rules of `#[pymq::remote]`; calls run side by side, so what changes is
/// kept behind a lock. Methods with a body are defaults, as in any trait.
#[proc_macro_attribute]
pub fn service(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    or_errors(service::expand(attribute.into(), item.clone()), || service::without_names(item))
}

/// What was expanded; or the errors, beside the item as it was, so that rustc does not miss it too.
fn or_errors(
    expanded: syn::Result<proc_macro2::TokenStream>,
    item: impl FnOnce() -> proc_macro2::TokenStream,
) -> TokenStream {
    let expanded = expanded.unwrap_or_else(|error| {
        let (errors, item) = (error.into_compile_error(), item());
        quote!(#errors #item)
    });
    expanded.into()
}
