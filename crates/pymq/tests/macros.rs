//! Derived events, remote functions and services as users see them, on every transport.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use place::{Place, lengths};
use pymq::rpc::{CallOptions, Function};
use pymq::wire::{Arguments, Metadata};
use pymq::{Bus, ErrorKind, Event};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod place;

everywhere!(
    a_derived_event_travels_on_its_topic,
    a_remote_function_is_exposed_under_its_name,
    a_call_from_python_binds_keywords_to_parameter_names,
    an_optional_parameter_may_be_left_out,
    a_wrong_call_is_a_type_error_that_names_the_parameter,
    a_function_that_cannot_fail_returns_its_value,
    an_error_of_the_function_reaches_the_caller_under_its_name,
    a_plain_function_is_remote_too,
    a_service_is_several_functions_on_shared_state,
    a_method_has_the_remote_name_that_it_was_given,
    a_service_is_called_as_python_calls_it,
    a_default_method_is_served_until_it_is_replaced,
    a_client_gives_up_at_its_timeout,
    a_client_of_everyone_has_an_answer_of_each,
    a_server_shares_its_state_with_the_program,
    dropping_the_handle_unexposes_every_method,
    ending_the_handle_unexposes_every_method,
    a_function_made_by_hand_binds_as_the_macros_do,
);

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(topic = "shop.OrderPlaced")]
struct OrderPlaced {
    id: u64,
}

/// What the shop refuses with.
#[derive(Debug, PartialEq)]
struct OutOfStock(String);

impl std::fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no {} here", self.0)
    }
}

#[pymq::remote("product_remote")]
async fn product(a: i64, b: Option<i64>) -> Result<i64, String> {
    tokio::task::yield_now().await;
    a.checked_mul(b.unwrap_or(1)).ok_or_else(|| "too large".to_owned())
}

/// Parameters may be changed in the body, and be named as Rust's own words.
#[pymq::remote]
async fn stock(mut item: String, r#type: Option<String>) -> Result<usize, OutOfStock> {
    item.extend(r#type);
    match item.as_str() {
        "tea" | "teagreen" => Ok(item.len()),
        _ => Err(OutOfStock(item)),
    }
}

#[pymq::remote]
async fn nothing() {}

#[pymq::remote]
fn total(values: Vec<f64>) -> f64 {
    values.iter().sum()
}

/// Names that the expansion uses itself.
#[pymq::remote]
async fn arguments(call: i64, arguments: i64) -> i64 {
    call - arguments
}

#[pymq::service]
trait Calculator {
    async fn product(&self, a: i64, b: i64) -> Result<i64, String>;

    /// Adds to the memory and says what it holds.
    async fn add(&self, implementation: i64) -> i64;

    #[remote("calculator.clear")]
    async fn clear(&self);

    async fn describe(&self, given: Option<String>) -> String {
        format!("{} {}", given.unwrap_or_else(|| "a".to_owned()), self.add(0).await)
    }

    async fn forever(&self) -> Result<(), OutOfStock> {
        std::future::pending().await
    }
}

#[derive(Default)]
struct Abacus {
    memory: AtomicI64,
}

impl Calculator for Abacus {
    async fn product(&self, a: i64, b: i64) -> Result<i64, String> {
        a.checked_mul(b).ok_or_else(|| "too large".to_owned())
    }

    async fn add(&self, value: i64) -> i64 {
        self.memory.fetch_add(value, Ordering::Relaxed) + value
    }

    async fn clear(&self) {
        self.memory.store(0, Ordering::Relaxed);
    }
}

const METHODS: [&str; 5] = [
    "Calculator.product",
    "Calculator.add",
    "calculator.clear",
    "Calculator.describe",
    "Calculator.forever",
];

/// A call as Python's stub sends it; the result, or the error's type and message.
async fn call(
    bus: &Bus,
    function: &str,
    positional: Value,
    keywords: Value,
) -> Result<Value, (String, String)> {
    let arguments = Arguments {
        positional: Bytes::from(positional.to_string()),
        keywords: Bytes::from(keywords.to_string()),
        types: None,
    };
    let reply =
        bus.call_bytes(function, arguments, Metadata::default(), CallOptions::default()).await;
    let outcome = reply.expect("answered").outcome;
    let value = serde_json::from_slice::<Value>(&outcome.value).expect("JSON");
    match outcome.failed {
        false => Ok(value),
        true => Err((outcome.type_name, value[0].as_str().expect("a message").to_owned())),
    }
}

async fn a_derived_event_travels_on_its_topic(place: &Place) {
    let [publisher, subscriber] = place.buses().await;
    assert_eq!(OrderPlaced::TOPIC, "shop.OrderPlaced");
    let mut placed = subscriber.subscribe::<OrderPlaced>().await.expect("subscribed");
    publisher.publish(&OrderPlaced { id: 7 }).await.expect("published");
    let event = placed.recv().await.expect("open").expect("an event");
    assert_eq!(event, OrderPlaced { id: 7 });
}

async fn a_remote_function_is_exposed_under_its_name(place: &Place) {
    let [caller, provider] = place.buses().await;
    let service = provider.expose(product).await.expect("exposed");
    assert_eq!(service.functions().collect::<Vec<_>>(), ["product_remote"]);
    assert_eq!(product(2, None).await, Ok(2), "it is still a function of this program");
    let product = caller.stub::<(i64, i64), i64>("product_remote");
    assert_eq!(product.call((2, 4)).await.expect("answered"), 8);
}

async fn a_call_from_python_binds_keywords_to_parameter_names(place: &Place) {
    let [caller, provider] = place.buses().await;
    let _services = (
        provider.expose(product).await.expect("exposed"),
        provider.expose(stock).await.expect("exposed"),
        provider.expose(arguments).await.expect("exposed"),
    );
    let product = |positional, keywords| call(&caller, "product_remote", positional, keywords);
    assert_eq!(product(json!([2]), json!({"b": 4})).await, Ok(json!(8)));
    assert_eq!(product(json!([]), json!({"b": 4, "a": 2})).await, Ok(json!(8)));
    let green = call(&caller, "stock", json!(["tea"]), json!({"type": "green"}));
    assert_eq!(green.await, Ok(json!(8)));
    let swapped = call(&caller, "arguments", json!([]), json!({"arguments": 1, "call": 3}));
    assert_eq!(swapped.await, Ok(json!(2)));
}

async fn an_optional_parameter_may_be_left_out(place: &Place) {
    let [caller, provider] = place.buses().await;
    let _service = provider.expose(product).await.expect("exposed");
    assert_eq!(call(&caller, "product_remote", json!([2]), json!({})).await, Ok(json!(2)));
    let by_rust = caller.stub::<(i64,), i64>("product_remote").call((3,)).await;
    assert_eq!(by_rust.expect("answered"), 3);
}

async fn a_wrong_call_is_a_type_error_that_names_the_parameter(place: &Place) {
    let [caller, provider] = place.buses().await;
    let _service = provider.expose(product).await.expect("exposed");
    for (positional, keywords, named) in [
        (json!([]), json!({}), "missing argument 'a'"),
        (json!([1, 2, 3]), json!({}), "takes at most 2 arguments, 3 were given"),
        (json!([1]), json!({"c": 3}), "unexpected keyword argument 'c'"),
        (json!([1]), json!({"a": 3}), "several values for argument 'a'"),
        (json!([1]), json!({"b": "x"}), "argument 'b': not a "),
    ] {
        let (kind, message) =
            call(&caller, "product_remote", positional, keywords).await.expect_err(named);
        assert_eq!(kind, "TypeError");
        assert!(message.starts_with(named), "{message}");
        assert!(message.ends_with("; the function is product_remote(a, b)"), "{message}");
    }
}

async fn a_function_that_cannot_fail_returns_its_value(place: &Place) {
    let [caller, provider] = place.buses().await;
    let _service = provider.expose(nothing).await.expect("exposed");
    caller.stub::<(), ()>("nothing").call(()).await.expect("answered");
}

async fn an_error_of_the_function_reaches_the_caller_under_its_name(place: &Place) {
    let [caller, provider] = place.buses().await;
    let _service = provider.expose(stock).await.expect("exposed");
    let error = caller.stub::<(&str,), usize>("stock").call(("ink",)).await.expect_err("no ink");
    let remote = error.remote().expect("its words");
    assert_eq!(
        (&*remote.type_name, &remote.arguments[..]),
        ("OutOfStock", &br#"["no ink here"]"#[..])
    );
    assert_eq!(stock("ink".into(), None).await, Err(OutOfStock("ink".into())));
}

async fn a_plain_function_is_remote_too(place: &Place) {
    let [caller, provider] = place.buses().await;
    let _service = provider.expose(total).await.expect("exposed");
    let answered = caller.stub::<_, f64>("total").call((vec![1.5, 2.0],)).await;
    assert_eq!(answered.expect("answered"), 3.5);
    assert_eq!(total(vec![1.0]).await, 1.0);
}

async fn a_service_is_several_functions_on_shared_state(place: &Place) {
    let [caller, provider] = place.buses().await;
    let server = CalculatorServer::new(Abacus::default());
    let service = provider.expose(server).await.expect("exposed");
    assert_eq!(service.functions().collect::<Vec<_>>(), METHODS);

    let calculator = CalculatorClient::new(&caller);
    assert_eq!(calculator.product(2, 4).await.expect("answered"), 8);
    calculator.add(3).await.expect("answered");
    assert_eq!(calculator.add(4).await.expect("answered"), 7);
    calculator.clear().await.expect("answered");
    assert_eq!(calculator.add(0).await.expect("answered"), 0);
    let error = calculator.product(i64::MAX, 2).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Remote);
}

async fn a_method_has_the_remote_name_that_it_was_given(place: &Place) {
    #[pymq::service("shop.Till")]
    trait Till {
        async fn open(&self) -> i64;
        #[pymq::remote("shop.shut")]
        async fn close(&self) -> i64;
    }

    struct Drawer;

    impl Till for Drawer {
        async fn open(&self) -> i64 {
            1
        }

        async fn close(&self) -> i64 {
            2
        }
    }

    let [caller, provider] = place.buses().await;
    let _service = provider.expose(TillServer::new(Drawer)).await.expect("exposed");
    assert_eq!(caller.stub::<(), i64>("shop.Till.open").call(()).await.expect("answered"), 1);
    assert_eq!(caller.stub::<(), i64>("shop.shut").call(()).await.expect("answered"), 2);
    let till = TillClient::new(&caller);
    assert_eq!(till.open().await.expect("answered") + till.close().await.expect("answered"), 3);
}

async fn a_service_is_called_as_python_calls_it(place: &Place) {
    let [caller, provider] = place.buses().await;
    let server = CalculatorServer::new(Abacus::default());
    let _service = provider.expose(server).await.expect("exposed");
    let answered = call(&caller, "Calculator.product", json!([2]), json!({"b": 4})).await;
    assert_eq!(answered, Ok(json!(8)));
    let (kind, message) =
        call(&caller, "Calculator.product", json!([2]), json!({})).await.expect_err("no b");
    assert_eq!(kind, "TypeError");
    assert_eq!(message, "missing argument 'b'; the function is Calculator.product(a, b)");
}

async fn a_default_method_is_served_until_it_is_replaced(place: &Place) {
    let [caller, provider] = place.buses().await;
    let server = CalculatorServer::new(Abacus::default());
    let _service = provider.expose(server).await.expect("exposed");
    let calculator = CalculatorClient::new(&caller);
    let described = calculator.describe(Some("an".into())).await.expect("answered");
    assert_eq!(described, "an 0");
    assert_eq!(calculator.describe(None).await.expect("answered"), "a 0");
}

async fn a_client_gives_up_at_its_timeout(place: &Place) {
    let [caller, provider] = place.buses().await;
    let server = CalculatorServer::new(Abacus::default());
    let _service = provider.expose(server).await.expect("exposed");
    let hasty = CalculatorClient::new(&caller).timeout(Duration::from_millis(200));
    assert_eq!(hasty.forever().await.expect_err("too slow").kind(), ErrorKind::Timeout);
}

async fn a_client_of_everyone_has_an_answer_of_each(place: &Place) {
    let [caller, one, two] = place.buses().await;
    let _services = (
        one.expose(CalculatorServer::new(Abacus { memory: 1.into() })).await.expect("exposed"),
        two.expose(CalculatorServer::new(Abacus { memory: 2.into() })).await.expect("exposed"),
    );
    let mut memories = Vec::new();
    let client = CalculatorClient::new(&caller).timeout(Duration::from_secs(60));
    for reply in client.everyone().add(0).await.expect("both are there") {
        memories.push(reply.result.expect("it does not fail"));
    }
    memories.sort();
    assert_eq!(memories, [1, 2]);
    for timeout in lengths(Duration::from_millis(500)) {
        let hasty = CalculatorClient::new(&caller).timeout(timeout);
        // Within its time it may not even have learned who is asked.
        let Ok(late) = hasty.everyone().forever().await else { continue };
        let kinds = late.into_iter().map(|reply| reply.result.map_err(|e| e.kind()));
        if kinds.eq([Err(ErrorKind::Timeout), Err(ErrorKind::Timeout)]) {
            return;
        }
    }
    panic!("who is asked is learned at once");
}

async fn a_server_shares_its_state_with_the_program(place: &Place) {
    let [caller, provider] = place.buses().await;
    let abacus = Arc::new(Abacus::default());
    let server = CalculatorServer::from(Arc::clone(&abacus));
    let _service = provider.expose(server).await.expect("exposed");
    CalculatorClient::new(&caller).add(5).await.expect("answered");
    assert_eq!(abacus.memory.load(Ordering::Relaxed), 5);
}

async fn dropping_the_handle_unexposes_every_method(place: &Place) {
    let [caller, provider] = place.buses().await;
    let server = CalculatorServer::new(Abacus::default());
    let service = provider.expose(server).await.expect("exposed");
    drop(service);
    for method in METHODS {
        // How soon the broker knows is not promised, so it is waited for.
        let stub = caller.stub::<(), Value>(method).timeout(Duration::from_secs(10));
        while stub.call(()).await.err().map(|error| error.kind()) != Some(ErrorKind::NoSuchRemote) {
            tokio::task::yield_now().await;
        }
    }
}

async fn ending_the_handle_unexposes_every_method(place: &Place) {
    let [caller, provider] = place.buses().await;
    let server = CalculatorServer::new(Abacus::default());
    provider.expose(server).await.expect("exposed").drain().await;
    for method in METHODS {
        let error = caller.stub::<(), Value>(method).call(()).await.expect_err("gone");
        assert_eq!(error.kind(), ErrorKind::NoSuchRemote, "{method}");
    }
}

async fn a_function_made_by_hand_binds_as_the_macros_do(place: &Place) {
    let [caller, provider] = place.buses().await;
    let difference = Function::new("difference", &["a", "b"], |arguments| {
        let (a, b): (i64, i64) = (arguments.take()?, arguments.take()?);
        Ok(async move { a.checked_sub(b).ok_or("too small") })
    });
    let _service = provider.expose(difference).await.expect("exposed");
    let answered = call(&caller, "difference", json!([]), json!({"b": 1, "a": 3})).await;
    assert_eq!(answered, Ok(json!(2)));
}
