//! Every call ends, with its true reason: what cannot be sent, what stood still, what went away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use place::{Place, lengths};
use pymq::rpc::{Failure, current_call};
use pymq::wire::Metadata;
use pymq::{Bus, CallOptions, ErrorKind, ExposeOptions, Service};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

mod place;

everywhere_and_uncounted!(
    a_result_that_no_peer_could_read_is_an_error_at_once,
    an_error_that_no_peer_could_read_is_told_in_short,
    arguments_that_no_peer_could_read_are_refused_at_their_caller,
    what_is_just_small_enough_arrives,
    an_error_whose_words_panic_is_answered,
    a_call_that_panics_while_it_is_given_up_ends_no_other,
    calls_that_had_not_begun_go_to_another_provider,
    a_call_that_nobody_else_can_take_is_no_such_remote,
    a_bus_that_closes_answers_what_its_functions_have_finished,
    a_function_that_closes_its_own_bus_is_answered,
    a_function_that_drains_its_own_bus_is_answered,
    a_function_that_drains_its_own_service_is_answered,
    foreign_subscribers_may_be_providers_only_where_originals_take_part,
    the_last_provider_may_be_on_its_way_back_only_where_connections_are_lost,
    no_length_of_time_is_too_long,
    a_bus_may_limit_all_its_calls,
    deadlines_and_headers_that_are_passed_on_reach_nested_calls,
    an_error_has_the_name_and_arguments_that_its_function_chooses,
    after_its_runtime_a_bus_says_closed,
);

/// Where the server is away, the state says so before a call begins, so that nothing is sent.
#[cfg(feature = "redis")]
#[tokio::test]
async fn a_call_to_a_known_provider_that_was_surely_not_sent_says_so() {
    let mut server = place::server::RedisServer::start();
    let journey = async {
        let url = server.url();
        let (caller, provider) = (Bus::connect(&url).await, Bus::connect(&url).await);
        let (caller, provider) = (caller.expect("connected"), provider.expect("connected"));
        let double = |(n,): (i64,)| async move { Ok::<_, String>(2 * n) };
        let _double = provider.expose_fn("double", double).await.expect("exposed");
        let double = caller.stub::<(i64,), i64>("double");
        assert_eq!(double.call((1,)).await.expect("served"), 2);
        let mut states = caller.states();
        server.kill();
        while states.next().await.expect("it is open").is_connected() {}
        let short = double.timeout(Duration::from_millis(100));
        let one = short.call((1,)).await.expect_err("the server is away");
        let all = short.call_all((1,)).await.expect_err("the server is away");
        for error in [one, all] {
            assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
            assert!(error.to_string().contains("nothing was sent"), "{error}");
        }
        server.restart();
        let mut again = double.call((2,)).await;
        // Its provider may be longer on its way back than callers wait.
        while again.as_ref().is_err_and(|error| error.kind() == ErrorKind::NoSuchRemote) {
            again = double.call((2,)).await;
        }
        assert_eq!(again.expect("served again"), 4);
    };
    place::guarded(journey).await;
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| Value::from(vec![inner]))
}

async fn a_result_that_no_peer_could_read_is_an_error_at_once(place: &Place) {
    let [caller, provider] = place.buses().await;
    let text = |(bytes,): (usize,)| async move { Ok::<_, String>("x".repeat(bytes)) };
    let _text = provider.expose_fn("text", text).await.expect("exposed");
    let nested = |(levels,): (usize,)| async move { Ok::<_, String>(deep(levels)) };
    let _nested = provider.expose_fn("nested", nested).await.expect("exposed");
    for bytes in [(16 << 20) - 2, (16 << 20) - 100, 16 << 20, 17 << 20] {
        let error = caller.stub::<_, String>("text").call((bytes,)).await.expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::Remote, "{error}");
    }
    for levels in [199, 201, 300] {
        let error = caller.stub::<_, Value>("nested").call((levels,)).await.expect_err("too deep");
        assert_eq!(error.kind(), ErrorKind::Remote, "{error}");
    }
    let all = caller.stub::<_, String>("text").call_all((17 << 20,)).await.expect("answered");
    assert_eq!(all[0].result.as_ref().expect_err("too large").kind(), ErrorKind::Remote);
}

async fn an_error_that_no_peer_could_read_is_told_in_short(place: &Place) {
    let [caller, provider] = place.buses().await;
    let fail = |(bytes,): (usize,)| async move { Err::<(), _>("x".repeat(bytes)) };
    let _fail = provider.expose_fn("fail", fail).await.expect("exposed");
    let fail = caller.stub::<(usize,), ()>("fail");
    for below in [10, 100] {
        let error = fail.call(((16 << 20) - below,)).await.expect_err("it fails");
        assert_eq!(error.kind(), ErrorKind::Remote);
        let words = error.to_string();
        assert!(words.len() < 400, "{} bytes", words.len());
        assert_eq!(words.matches("cannot be sent").count(), 1, "{words}");
        assert_eq!(words.matches("16 MiB").count(), 1, "{words}");
    }
    let error = fail.call((17 << 20,)).await.expect_err("it fails");
    assert_eq!(error.kind(), ErrorKind::Remote, "{error}");
}

async fn arguments_that_no_peer_could_read_are_refused_at_their_caller(place: &Place) {
    let [caller, provider] = place.buses().await;
    let any = |(_,): (Value,)| async { Ok::<_, String>(1) };
    let _any = provider.expose_fn("any", any).await.expect("exposed");
    let any = caller.stub::<(Value,), i64>("any");
    let long = |below: usize| Value::from("x".repeat((16 << 20) - below));
    for value in [deep(198), deep(250), long(10)] {
        let error = any.call((value.clone(),)).await.expect_err("nobody would read it");
        assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
        let error = any.call_all((value,)).await.expect_err("nobody would read it");
        assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    }
    let error = caller.topic("t").publish(&deep(201)).await.expect_err("too deep");
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    let error = caller.queue("q").put(&deep(201)).await.expect_err("too deep");
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    let many =
        caller.queue("q").put_many(&[deep(1), deep(201)]).await.expect_err("one is too deep");
    assert_eq!(many.kind(), ErrorKind::Encode, "{many}");
}

async fn what_is_just_small_enough_arrives(place: &Place) {
    let [caller, provider] = place.buses().await;
    let echo = |(value,): (Value,)| async move { Ok::<_, String>(value) };
    let _echo = provider.expose_fn("echo", echo).await.expect("exposed");
    let echo = caller.stub::<(Value,), Value>("echo");
    for value in [deep(197), Value::from("x".repeat((16 << 20) - 1000))] {
        assert_eq!(echo.call((value.clone(),)).await.expect("it fits"), value);
    }
}

async fn an_error_whose_words_panic_is_answered(place: &Place) {
    struct Speechless;
    impl std::fmt::Display for Speechless {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no words")
        }
    }
    let [caller, provider] = place.buses().await;
    let fail = |(): ()| async { Err::<(), _>(Speechless) };
    let _fail = provider.expose_fn("fail", fail).await.expect("exposed");
    let error = caller.stub::<(), ()>("fail").call(()).await.expect_err("it fails");
    assert_eq!(error.remote().expect("it ran").type_name, "Panic");
}

/// A function that panics when it is dropped before its end, until it may go on.
struct Fragile {
    armed: bool,
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.armed || std::thread::panicking(), "it is fragile");
    }
}

async fn a_call_that_panics_while_it_is_given_up_ends_no_other(place: &Place) {
    let [caller, provider] = place.buses().await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let handler = move |(breaks,): (bool,)| {
        let begun = begun.clone();
        async move {
            let mut fragile = Fragile { armed: breaks };
            let _ = begun.send(());
            if breaks {
                std::future::pending::<()>().await;
            }
            fragile.armed = false;
            Ok::<_, String>(1)
        }
    };
    let _service = provider.expose_fn("f", handler).await.expect("exposed");
    let stub = caller.stub::<(bool,), i64>("f");
    let breaking = tokio::spawn({
        let stub = stub.clone();
        async move { stub.call((true,)).await }
    });
    begins.recv().await.expect("it runs");
    breaking.abort();
    // Only when the first one was given up is the next one sent.
    assert!(breaking.await.is_err());
    assert_eq!(stub.call((false,)).await.expect("the others go on"), 1);
}

/// A provider of `f` that runs one call at a time and answers `value`, when it may.
async fn gated(bus: &Bus, value: i64) -> (Service, mpsc::UnboundedReceiver<()>, Arc<Semaphore>) {
    let (begun, begins) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let watched = Arc::clone(&gate);
    let function = pymq::rpc::Function::of_one_value("f", move |(): ()| {
        let (begun, gate) = (begun.clone(), Arc::clone(&watched));
        async move {
            let _ = begun.send(());
            gate.acquire().await.map_err(|error| error.to_string())?.forget();
            Ok::<_, String>(value)
        }
    });
    let one = ExposeOptions::default().concurrency(1);
    (bus.expose_with(function, one).await.expect("exposed"), begins, gate)
}

/// Calls `f` so often, once the first call runs.
async fn calls(
    caller: &Bus,
    begins: &mut mpsc::UnboundedReceiver<()>,
    count: usize,
) -> Vec<tokio::task::JoinHandle<pymq::Result<i64>>> {
    let call = || {
        let stub = caller.stub::<(), i64>("f");
        tokio::spawn(async move { stub.call(()).await })
    };
    let mut calls = vec![call()];
    begins.recv().await.expect("the first one runs");
    calls.extend((1..count).map(|_| call()));
    calls
}

async fn calls_that_had_not_begun_go_to_another_provider(place: &Place) {
    let [caller, leaving, staying] = place.buses().await;
    let (service, mut begins, _gate) = gated(&leaving, 1).await;
    let mut calls = calls(&caller, &mut begins, 5).await;
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    let other = move |(): ()| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, String>(2) }
    };
    // The first call runs and the others wait; they have nobody else yet.
    let mut fence = leaving.topic::<i64>("fence").subscribe().await.expect("subscribed");
    caller.topic("fence").publish(&1).await.expect("published");
    fence.recv().await.expect("open").expect("so the calls have arrived too");
    let _other = staying.expose_fn("f", other).await.expect("exposed");
    drop(service);
    let first = calls.remove(0).await.expect("no panic").expect_err("it ran, and was given up");
    assert_eq!(first.kind(), ErrorKind::Remote, "{first}");
    for call in calls {
        assert_eq!(call.await.expect("no panic").expect("the other one answers"), 2);
    }
    assert_eq!(ran.load(Ordering::Relaxed), 4);
}

/// Whether what is told holds in one of some attempts: a bus that closes says farewell for a second, in which
/// a machine may stand still.
async fn holds(mut attempt: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..3 {
        if attempt().await {
            return true;
        }
    }
    false
}

async fn a_call_that_nobody_else_can_take_is_no_such_remote(place: &Place) {
    assert!(holds(async || is_left_to_nobody(place).await).await, "none was told so");
}

async fn is_left_to_nobody(place: &Place) -> bool {
    let [caller, leaving] = place.buses().await;
    let (_service, mut begins, _gate) = gated(&leaving, 1).await;
    let mut calls = calls(&caller, &mut begins, 3).await;
    let mut fence = leaving.topic::<i64>("fence").subscribe().await.expect("subscribed");
    caller.topic("fence").publish(&1).await.expect("published");
    fence.recv().await.expect("open").expect("so the calls have arrived too");
    leaving.close().await.expect("closed");
    let first = calls.remove(0).await.expect("no panic").expect_err("it ran");
    assert_eq!(first.kind(), ErrorKind::ProviderLost, "{first}");
    let mut told = true;
    for call in calls {
        let error = call.await.expect("no panic").expect_err("nobody is there");
        let honest = [ErrorKind::NoSuchRemote, ErrorKind::ProviderLost];
        assert!(honest.contains(&error.kind()), "{error}");
        told &= error.kind() == ErrorKind::NoSuchRemote;
    }
    told
}

/// In memory, where 80 MiB are no long way.
#[tokio::test]
async fn calls_that_come_while_too_many_wait_are_refused_and_executed_nowhere() {
    let place = Place::memory();
    place::guarded(too_many_wait(&place)).await;
}

async fn too_many_wait(place: &Place) {
    let [caller, provider] = place.buses().await;
    let (gate, executed) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (open, ran) = (Arc::clone(&gate), Arc::clone(&executed));
    let weigh = move |(text,): (String,)| {
        let (open, ran) = (Arc::clone(&open), Arc::clone(&ran));
        async move {
            ran.fetch_add(1, Ordering::Relaxed);
            open.acquire().await.map_err(|closed| closed.to_string())?.forget();
            Ok::<_, String>(text.len())
        }
    };
    let options = ExposeOptions::default().concurrency(1);
    let weigh = pymq::rpc::Function::of_one_value("weigh", weigh);
    let _weigh = provider.expose_with(weigh, options).await.expect("exposed");
    let weigh = caller.stub::<(String,), usize>("weigh");
    let (sender, mut ended) = mpsc::unbounded_channel();
    // 80 MiB, of which 64 MiB may wait.
    for _ in 0..20 {
        let (weigh, sender) = (weigh.clone(), sender.clone());
        tokio::spawn(async move { sender.send(weigh.call(("x".repeat(4 << 20),)).await) });
    }
    let error = ended.recv().await.expect("it ends").expect_err("too many wait");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    gate.add_permits(1000);
    let (mut served, mut refused) = (0, 1);
    for _ in 1..20 {
        match ended.recv().await.expect("it ends") {
            Ok(_) => served += 1,
            Err(error) if error.kind() == ErrorKind::Busy => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((served + refused, served), (20, executed.load(Ordering::Relaxed)));
    assert!(served >= 15, "only {served} of those that found room");
    assert_eq!(weigh.call(("x".to_owned(),)).await.expect("there is room again"), 1);
}

async fn a_bus_that_closes_answers_what_its_functions_have_finished(place: &Place) {
    let caller = place.bus().await;
    for round in 0..20 {
        let provider = place.bus().await;
        let (over, mut ends) = mpsc::unbounded_channel();
        let handler = move |(): ()| {
            let over = over.clone();
            async move {
                let _ = over.send(());
                Ok::<_, String>(round)
            }
        };
        let name = format!("f{round}");
        let _service = provider.expose_fn(&name, handler).await.expect("exposed");
        let call = tokio::spawn({
            let stub = caller.stub::<(), i64>(&name);
            async move { stub.call(()).await }
        });
        ends.recv().await.expect("it ends");
        // What it has to say after its end is nothing that could wait.
        tokio::task::yield_now().await;
        provider.drain().await.expect("drained");
        assert_eq!(call.await.expect("no panic").expect("answered"), round);
    }
}

async fn closes_itself(place: &Place, drains: bool) {
    assert!(holds(async || is_answered_first(place, drains).await).await, "it is answered first");
}

async fn is_answered_first(place: &Place, drains: bool) -> bool {
    let [caller, provider] = place.buses().await;
    let own = provider.clone();
    let stop = move |(): ()| {
        let own = own.clone();
        async move {
            let ended = if drains { own.drain().await } else { own.close().await };
            ended.map(|()| "stopped").map_err(|error| error.to_string())
        }
    };
    let _service = provider.expose_fn("stop", stop).await.expect("exposed");
    let answer = caller.stub::<(), String>("stop").call(()).await;
    // The last of the states says that it is closed; a state that is skipped does no harm.
    let mut states = provider.states();
    while states.next().await.is_some() {}
    assert_eq!(provider.state().word(), "closed");
    match answer {
        Ok(answer) => answer == "stopped",
        Err(lost) if !drains && lost.kind() == ErrorKind::ProviderLost => false,
        Err(error) => panic!("it is answered first: {error}"),
    }
}

async fn a_function_that_closes_its_own_bus_is_answered(place: &Place) {
    closes_itself(place, false).await;
}

async fn a_function_that_drains_its_own_bus_is_answered(place: &Place) {
    closes_itself(place, true).await;
}

async fn a_function_that_drains_its_own_service_is_answered(place: &Place) {
    let [caller, provider] = place.buses().await;
    let (to_function, service) = tokio::sync::mpsc::channel::<pymq::Service>(1);
    let service = std::sync::Arc::new(tokio::sync::Mutex::new(service));
    let stop = move |(): ()| {
        let service = service.clone();
        async move {
            service.lock().await.recv().await.expect("it is sent").drain().await;
            Ok::<_, String>(1)
        }
    };
    let started = provider.expose_fn("stop", stop).await.expect("exposed");
    to_function.send(started).await.expect("the function takes it");
    let stub = caller.stub::<(), i64>("stop");
    assert_eq!(stub.call(()).await.expect("answered"), 1);
    // How soon the broker knows is not promised, so it is waited for.
    let stub = stub.timeout(Duration::from_secs(10));
    while stub.call(()).await.err().map(|error| error.kind()) != Some(ErrorKind::NoSuchRemote) {
        tokio::task::yield_now().await;
    }
}

async fn foreign_subscribers_may_be_providers_only_where_originals_take_part(place: &Place) {
    let [caller, foreign] = place.buses().await;
    let _silent = foreign.topic::<Value>("f").subscribe().await.expect("subscribed");
    let stub = caller.stub::<(), ()>("f").timeout(Duration::from_millis(1500));
    let expected = match caller.capabilities().originals {
        true => ErrorKind::Timeout,
        false => ErrorKind::NoSuchRemote,
    };
    assert_eq!(stub.call(()).await.expect_err("nobody answers").kind(), expected);
}

async fn the_last_provider_may_be_on_its_way_back_only_where_connections_are_lost(place: &Place) {
    let [caller, provider] = place.buses().await;
    let one = || provider.expose_fn("f", |(): ()| async { Ok::<_, String>(1) });
    let service = one().await.expect("exposed");
    let stub = caller.stub::<(), i64>("f");
    assert_eq!(stub.call(()).await.expect("served"), 1);
    service.drain().await;
    if !caller.capabilities().cross_process {
        let error = stub.call(()).await.expect_err("it is gone");
        assert_eq!(error.kind(), ErrorKind::NoSuchRemote);
        return;
    }
    // It is waited for half a second: a machine that stands still for as long is given another try.
    for _ in 0..10 {
        let (answer, back) = tokio::join!(stub.call(()), one());
        match answer {
            Ok(answer) => return assert_eq!(answer, 1),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoSuchRemote),
        }
        assert_eq!(stub.call(()).await.expect("served"), 1);
        back.expect("exposed").drain().await;
    }
    panic!("it was back in time");
}

async fn no_length_of_time_is_too_long(place: &Place) {
    let [caller, provider] = place.buses().await;
    let one = |(): ()| async { Ok::<_, String>(1) };
    let _one = provider.expose_fn("one", one).await.expect("exposed");
    let options = CallOptions::default().timeout(Duration::MAX).legacy_grace(Duration::MAX);
    let stub = caller.stub::<(), i64>("one").options(options);
    assert_eq!(stub.call(()).await.expect("answered"), 1);
    assert_eq!(stub.call_all(()).await.expect("answered").len(), 1);
    let patient = CallOptions::default().legacy_grace(Duration::MAX);
    let stub = caller.stub::<(), i64>("one").options(patient);
    assert_eq!(stub.call_all(()).await.expect("answered").len(), 1);
}

async fn a_bus_may_limit_all_its_calls(place: &Place) {
    let provider = place.bus().await;
    let endless = |(): ()| std::future::pending::<Result<i64, String>>();
    let _endless = provider.expose_fn("endless", endless).await.expect("exposed");
    if let Place::Uncounted(_) = place {
        return;
    }
    for limit in lengths(Duration::from_millis(200)) {
        let caller = Bus::builder(&place.url()).call_timeout(limit).connect().await.expect("there");
        let stub = caller.stub::<(), i64>("endless");
        assert_eq!(stub.call(()).await.expect_err("too slow").kind(), ErrorKind::Timeout);
        // Within its time it may not even have been sent, or have learned who is asked.
        let Ok(all) = stub.call_all(()).await else { continue };
        if let [late] = &all[..] {
            let error = late.result.as_ref().expect_err("too slow");
            return assert_eq!(error.kind(), ErrorKind::Timeout);
        }
    }
    panic!("who is asked is learned at once");
}

async fn deadlines_and_headers_that_are_passed_on_reach_nested_calls(place: &Place) {
    let [caller, middle, last] = place.buses().await;
    let see = |(): ()| async {
        let call = current_call().ok_or("no call runs here")?;
        let header = |name| call.metadata().get(name).unwrap_or("none").to_owned();
        let left = call.left().is_some_and(|left| left < Duration::from_secs(60));
        Ok::<_, &str>((header("trace"), header("own"), left))
    };
    let _see = last.expose_fn("see", see).await.expect("exposed");
    let inner = middle.stub::<(), (String, String, bool)>("see");
    let pass = move |(): ()| {
        let inner = inner.clone();
        async move { inner.call(()).await.map_err(|error| error.to_string()) }
    };
    let _pass = middle.expose_fn("pass", pass).await.expect("exposed");
    let metadata = Metadata::default().passed("trace", "7").header("own", "mine");
    let outer = caller.stub::<(), (String, String, bool)>("pass").timeout(Duration::from_secs(30));
    let seen = outer.metadata(metadata).call(()).await.expect("answered");
    assert_eq!(seen, ("7".to_owned(), "none".to_owned(), true));
    let seen = caller.stub::<(), (String, String, bool)>("pass").call(()).await;
    assert_eq!(seen.expect("answered"), ("none".to_owned(), "none".to_owned(), false));
}

async fn an_error_has_the_name_and_arguments_that_its_function_chooses(place: &Place) {
    let [caller, provider] = place.buses().await;
    let fail = |(): ()| async {
        Err::<(), _>(Failure::new("shop.OutOfStock", &("tea", 3)).expect("plain values"))
    };
    let _fail = provider.expose_fn("fail", fail).await.expect("exposed");
    let error = caller.stub::<(), ()>("fail").call(()).await.expect_err("it fails");
    let remote = error.remote().expect("it ran");
    assert_eq!(remote.type_name, "shop.OutOfStock");
    assert_eq!(&remote.arguments[..], br#"["tea",3]"#);
}

async fn after_its_runtime_a_bus_says_closed(place: &Place) {
    let url = place.url();
    if let Place::Uncounted(_) = place {
        return;
    }
    let ended = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let bus = Bus::connect(&url).await.expect("the broker is there");
            let one = |(): ()| async { Ok::<_, String>(1) };
            let service = bus.expose_fn("one", one).await.expect("exposed");
            assert_eq!(bus.stub::<(), i64>("one").call(()).await.expect("answered"), 1);
            (bus, service)
        })
    });
    let (bus, service) = ended.await.expect("no panic");
    let error = bus.stub::<(), i64>("one").call(()).await.expect_err("its runtime is gone");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    let error = bus.stub::<(), i64>("one").call_all(()).await.expect_err("its runtime is gone");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    service.drain().await;
}
