//! Remote procedure calls as users see them, on every transport.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use place::{Place, lengths};
use pymq::rpc::Function;
use pymq::{ErrorKind, ExposeOptions, Service};
use tokio::sync::{Semaphore, mpsc};

mod place;

everywhere_and_uncounted!(
    a_call_is_answered,
    exactly_one_provider_executes_and_all_are_used,
    all_providers_answer_and_failures_stand_beside_results,
    several_providers_on_one_bus_all_answer,
    foreign_subscribers_do_not_disturb_a_call_to_all,
    a_function_that_nobody_exposes_is_no_such_remote,
    a_timeout_is_one_deadline_and_cancels_the_call,
    a_slow_provider_is_named_when_the_others_have_answered,
    a_provider_that_vanishes_during_a_call_is_lost,
    a_slow_provider_is_waited_for,
    a_panic_is_an_answer_and_the_next_call_is_served,
    keyword_arguments_fill_a_struct,
    arguments_that_do_not_fit_are_a_clear_error,
    many_calls_share_one_inbox,
    answers_of_all_come_as_they_are_given_and_the_missing_last,
    a_provider_that_joins_a_call_to_all_takes_nobodys_place,
    a_call_that_is_dropped_is_cancelled_where_it_runs,
    a_call_that_is_dropped_at_any_moment_does_not_go_on,
    answers_that_are_dropped_cancel_the_call_where_it_still_runs,
    positional_and_keyword_arguments_go_in_one_call,
    a_bound_on_concurrency_makes_calls_wait,
    a_drained_service_answers_what_had_arrived,
    a_call_whose_time_is_over_ends_where_it_runs_though_no_word_reaches_it,
    a_drained_bus_finishes_its_functions_and_takes_nothing_new,
);

async fn constant(bus: &pymq::Bus, value: i64) -> Service {
    let handler = move |(): ()| async move { Ok::<_, String>(value) };
    bus.expose_fn("f", handler).await.expect("exposed")
}

/// A handler that never ends by itself.
async fn endless(bus: &pymq::Bus) -> Service {
    let handler = |(): ()| std::future::pending::<Result<i64, String>>();
    bus.expose_fn("f", handler).await.expect("exposed")
}

async fn a_call_is_answered(place: &Place) {
    let [caller, provider] = place.buses().await;
    let _service = provider
        .expose_fn("product", |(a, b): (i64, i64)| async move { Ok::<_, String>(a * b) })
        .await
        .expect("exposed");
    let product = caller.stub::<(i64, i64), i64>("product");
    assert_eq!(product.call((2, 4)).await.expect("answered"), 8);
}

async fn exactly_one_provider_executes_and_all_are_used(place: &Place) {
    let [caller, one, two, three] = place.buses().await;
    let mut services = Vec::new();
    let counts: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
    for (bus, count) in [one, two, three].iter().zip(&counts) {
        let count = Arc::clone(count);
        let handler = move |(): ()| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, String>(()) }
        };
        services.push(bus.expose_fn("f", handler).await.expect("exposed"));
    }
    let stub = caller.stub::<(), ()>("f");
    let each = || counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let mut calls = 0;
    // One that stood still when it was asked for is found again.
    while calls < 1000 || each().contains(&0) {
        stub.call(()).await.expect("answered");
        calls += 1;
    }
    assert_eq!(each().iter().sum::<usize>(), calls);
}

async fn all_providers_answer_and_failures_stand_beside_results(place: &Place) {
    let [caller, one, two] = place.buses().await;
    let _good = constant(&one, 1).await;
    let _bad =
        two.expose_fn("f", |(): ()| async { Err::<i64, _>("broken") }).await.expect("exposed");
    let replies = caller.stub::<(), i64>("f").call_all(()).await.expect("answered");
    let (results, errors): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.result.is_ok());
    assert_eq!(results.len(), 1);
    let error = errors[0].result.as_ref().expect_err("the other one failed");
    assert_eq!(error.kind(), ErrorKind::Remote);
    assert_eq!(&error.remote().expect("its words").arguments[..], br#"["broken"]"#);
}

async fn several_providers_on_one_bus_all_answer(place: &Place) {
    let [caller, two, one] = place.buses().await;
    let first = constant(&two, 1).await;
    let _others = (constant(&two, 2).await, constant(&one, 3).await);
    let stub = caller.stub::<(), i64>("f");
    let all = async || {
        let replies = stub.call_all(()).await.expect("answered").into_iter();
        let mut results: Vec<i64> =
            replies.map(|reply| reply.result.expect("a constant")).collect();
        results.sort_unstable();
        results
    };
    assert_eq!(all().await, [1, 2, 3]);
    if caller.capabilities().receiver_count {
        let found = caller.inspect().functions().await.expect("asked");
        assert_eq!((found[0].providers.len(), found[0].silent), (3, 0));
    }
    first.drain().await;
    assert_eq!(all().await, [2, 3]);
}

async fn foreign_subscribers_do_not_disturb_a_call_to_all(place: &Place) {
    let [caller, provider, spy] = place.buses().await;
    let _pattern = spy.pattern::<serde_json::Value>("*").await.expect("subscribed");
    let _service = constant(&provider, 1).await;
    let replies = caller.stub::<(), i64>("f").call_all(()).await.expect("answered");
    assert_eq!(replies.len(), 1);
    // One that listens by exact name looks like a provider of the original, until it stays silent.
    let _exact = spy.topic::<serde_json::Value>("f").subscribe().await.expect("subscribed");
    for timeout in lengths(Duration::from_millis(300)) {
        let stub = caller.stub::<(), i64>("f").timeout(timeout);
        let Ok(replies) = stub.call_all(()).await else { continue };
        if replies.iter().filter(|reply| reply.result.is_ok()).count() == 1 {
            assert_eq!(replies.len(), 1);
            return;
        }
    }
    panic!("who answers at once is in time");
}

async fn a_function_that_nobody_exposes_is_no_such_remote(place: &Place) {
    let [caller, provider] = place.buses().await;
    let stub = caller.stub::<(), i64>("f");
    assert_eq!(stub.call(()).await.expect_err("nobody").kind(), ErrorKind::NoSuchRemote);
    assert_eq!(stub.call_all(()).await.expect_err("nobody").kind(), ErrorKind::NoSuchRemote);
    let service = constant(&provider, 1).await;
    stub.call(()).await.expect("answered");
    service.drain().await;
    assert_eq!(stub.call(()).await.expect_err("gone").kind(), ErrorKind::NoSuchRemote);
}

async fn a_timeout_is_one_deadline_and_cancels_the_call(place: &Place) {
    let [caller, provider] = place.buses().await;
    let mut watched = watched(&provider, ExposeOptions::default()).await;
    for timeout in lengths(Duration::from_millis(200)) {
        let stub = caller.stub::<(), i64>("f").timeout(timeout);
        assert_eq!(stub.call(()).await.expect_err("too slow").kind(), ErrorKind::Timeout);
        // One whose time was over before it arrived is not run.
        if watched.started.try_recv().is_ok() {
            return watched.over.recv().await.expect("the function's future was dropped");
        }
    }
    panic!("a call that is sent at once is run");
}

async fn a_slow_provider_is_named_when_the_others_have_answered(place: &Place) {
    let [caller, fast, slow] = place.buses().await;
    let _services = (constant(&fast, 1).await, endless(&slow).await);
    for timeout in lengths(Duration::from_millis(500)) {
        let stub = caller.stub::<(), i64>("f").timeout(timeout);
        let Ok(replies) = stub.call_all(()).await else { continue };
        let mut named = HashMap::new();
        for reply in &replies {
            let kind = reply.result.as_ref().err().map(pymq::Error::kind);
            named.insert(kind, reply.provider.is_some());
        }
        if named == HashMap::from([(None, true), (Some(ErrorKind::Timeout), true)]) {
            return;
        }
    }
    panic!("who answers at once is in time, and who is late is named");
}

async fn a_provider_that_vanishes_during_a_call_is_lost(place: &Place) {
    let [caller, provider] = place.buses().await;
    let (started, mut start) = tokio::sync::mpsc::channel::<()>(1);
    let handler = move |(): ()| {
        let started = started.clone();
        async move {
            let _ = started.send(()).await;
            std::future::pending::<Result<(), String>>().await
        }
    };
    let service = provider.expose_fn("f", handler).await.expect("exposed");
    let stub = caller.stub::<(), ()>("f");
    let call = tokio::spawn(async move { stub.call(()).await });
    start.recv().await.expect("the call has arrived");
    provider.close().await.expect("closed");
    let error = call.await.expect("no panic").expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::ProviderLost);
    drop(service);
}

async fn a_slow_provider_is_waited_for(place: &Place) {
    let [caller, provider] = place.buses().await;
    // Longer than three missed beats would take, so that only its signs of life keep the call.
    let handler = |(): ()| async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        Ok::<_, String>(1)
    };
    let _service = provider.expose_fn("f", handler).await.expect("exposed");
    assert_eq!(caller.stub::<(), i64>("f").call(()).await.expect("answered"), 1);
}

async fn a_panic_is_an_answer_and_the_next_call_is_served(place: &Place) {
    let [caller, provider] = place.buses().await;
    let handler = |(fail,): (bool,)| async move {
        assert!(!fail, "as asked");
        Ok::<_, String>(1)
    };
    let _service = provider.expose_fn("f", handler).await.expect("exposed");
    let stub = caller.stub::<(bool,), i64>("f");
    let error = stub.call((true,)).await.expect_err("it panics");
    assert_eq!(error.remote().expect("its words").type_name, "Panic");
    assert_eq!(stub.call((false,)).await.expect("served"), 1);
}

async fn keyword_arguments_fill_a_struct(place: &Place) {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Order {
        item: String,
        count: u32,
    }
    let [caller, provider] = place.buses().await;
    let _service = provider
        .expose_fn("order", |order: Order| async move {
            Ok::<_, String>(format!("{} x {}", order.count, order.item))
        })
        .await
        .expect("exposed");
    let order = caller.stub::<Order, String>("order");
    let text = order.call(Order { item: "tea".into(), count: 2 }).await.expect("answered");
    assert_eq!(text, "2 x tea");
}

async fn arguments_that_do_not_fit_are_a_clear_error(place: &Place) {
    let [caller, provider] = place.buses().await;
    let _service = provider
        .expose_fn("f", |(n,): (i64,)| async move { Ok::<_, String>(n) })
        .await
        .expect("exposed");
    let error = caller.stub::<_, i64>("f").call(("text",)).await.expect_err("no number");
    assert_eq!(error.remote().expect("its words").type_name, "TypeError");
}

async fn many_calls_share_one_inbox(place: &Place) {
    let [caller, provider] = place.buses().await;
    let _service = provider
        .expose_fn("f", |(n,): (u64,)| async move { Ok::<_, String>(n) })
        .await
        .expect("exposed");
    let calls = (0..500u64).map(|n| {
        let stub = caller.stub::<(u64,), u64>("f");
        tokio::spawn(async move { (n, stub.call((n,)).await.expect("answered")) })
    });
    for call in calls.collect::<Vec<_>>() {
        let (asked, answered) = call.await.expect("no panic");
        assert_eq!(asked, answered, "an answer reached another call");
    }
}

/// Exposes a function whose calls say that they run, then wait until they are dropped or allowed to
/// go on; how many have been dropped or have ended is counted.
struct Watched {
    _service: Service,
    started: mpsc::UnboundedReceiver<()>,
    over: mpsc::UnboundedReceiver<()>,
    go_on: Arc<Semaphore>,
}

async fn watched(bus: &pymq::Bus, options: ExposeOptions) -> Watched {
    struct Over(mpsc::UnboundedSender<()>);

    impl Drop for Over {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    let (start, started) = mpsc::unbounded_channel();
    let (end, over) = mpsc::unbounded_channel();
    let go_on = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go_on);
    let function = Function::of_one_value("f", move |(): ()| {
        let (start, over, gate) = (start.clone(), Over(end.clone()), Arc::clone(&gate));
        async move {
            let _over = over;
            let _ = start.send(());
            gate.acquire().await.expect("never closed").forget();
            Ok::<_, String>(1)
        }
    });
    let service = bus.expose_with(function, options).await.expect("exposed");
    Watched { _service: service, started, over, go_on }
}

async fn answers_of_all_come_as_they_are_given_and_the_missing_last(place: &Place) {
    for timeout in lengths(Duration::from_secs(2)) {
        if come_as_they_are_given(place, timeout).await {
            return;
        }
    }
    panic!("who answers at once is in time");
}

/// Whether those who answer do so in that time.
async fn come_as_they_are_given(place: &Place, time: Duration) -> bool {
    let [caller, fast, late, slow] = place.buses().await;
    let _fast = constant(&fast, 7).await;
    let mut late = watched(&late, ExposeOptions::default()).await;
    let _slow = endless(&slow).await;
    let stub = caller.stub::<(), i64>("f").timeout(time);
    let Ok(mut replies) = stub.call_all_stream(()).await else { return false };
    let Some(Ok(first)) = replies.recv().await.map(|reply| reply.result) else { return false };
    assert_eq!(first, 7);
    let started = tokio::time::timeout(time, late.started.recv()).await;
    late.go_on.add_permits(1);
    let Some(Ok(second)) = replies.recv().await.map(|reply| reply.result) else { return false };
    assert_eq!((started, second), (Ok(Some(())), 1));
    let missing = replies.recv().await.expect("the third is named");
    assert_eq!(missing.result.expect_err("no answer").kind(), ErrorKind::Timeout);
    assert!(replies.recv().await.is_none());
    assert!(replies.recv().await.is_none(), "and it stays at its end");
    true
}

async fn a_provider_that_joins_a_call_to_all_takes_nobodys_place(place: &Place) {
    let [slow, quick, caller] = place.buses().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let handler = move |(): ()| {
        let opened = Arc::clone(&opened);
        async move { opened.acquire().await.map(|_| 1) }
    };
    let _slow = slow.expose_fn("f", handler).await.expect("exposed");
    let mut replies = caller.stub::<(), i64>("f").call_all_stream(()).await.expect("called");
    // It hears of the call when all are asked again.
    let _quick = constant(&quick, 2).await;
    let first = replies.recv().await.expect("one answers").result;
    assert_eq!(first.expect("the newcomer's answer"), 2);
    gate.add_permits(1);
    let second = replies.recv().await.expect("one runs yet").result;
    assert_eq!(second.expect("who was asked first is waited for"), 1);
    assert!(replies.recv().await.is_none());
}

async fn a_call_that_is_dropped_is_cancelled_where_it_runs(place: &Place) {
    let [caller, provider] = place.buses().await;
    let mut watched = watched(&provider, ExposeOptions::default()).await;
    let stub = caller.stub::<(), i64>("f");
    let call = tokio::spawn(async move { stub.call(()).await });
    watched.started.recv().await.expect("it runs");
    call.abort();
    watched.over.recv().await.expect("the function's future was dropped");
    watched.go_on.add_permits(1);
    let again = caller.stub::<(), i64>("f").call(()).await;
    assert_eq!(again.expect("the next one is served"), 1);
}

async fn a_call_that_is_dropped_at_any_moment_does_not_go_on(place: &Place) {
    let [caller, provider] = place.buses().await;
    let running = Arc::new(());
    let counted = Arc::clone(&running);
    let forever = move |(): ()| {
        let counted = Arc::clone(&counted);
        async move {
            std::future::pending::<()>().await;
            drop(counted);
            Ok::<i64, String>(0)
        }
    };
    let _service = provider.expose_fn("f", forever).await.expect("exposed");
    let stub = caller.stub::<(), i64>("f");
    for round in 0..200 {
        let left = Duration::from_micros(10 * round);
        assert!(tokio::time::timeout(left, stub.call(())).await.is_err(), "it never ends");
        assert!(tokio::time::timeout(left, stub.call_all(())).await.is_err(), "it never ends");
    }
    // Ours, and the one in the function itself.
    while Arc::strong_count(&running) > 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn answers_that_are_dropped_cancel_the_call_where_it_still_runs(place: &Place) {
    let [caller, one, two] = place.buses().await;
    let mut first = watched(&one, ExposeOptions::default()).await;
    let mut second = watched(&two, ExposeOptions::default()).await;
    let stub = caller.stub::<(), i64>("f");
    let mut replies = stub.call_all_stream(()).await.expect("two are there");
    first.started.recv().await.expect("it runs");
    second.started.recv().await.expect("it runs");
    first.go_on.add_permits(1);
    assert_eq!(replies.recv().await.expect("one answers").result.expect("a result"), 1);
    drop(replies);
    second.over.recv().await.expect("the function's future was dropped");
}

async fn positional_and_keyword_arguments_go_in_one_call(place: &Place) {
    let [caller, provider] = place.buses().await;
    let difference = Function::new("difference", &["a", "b"], |arguments| {
        let (a, b): (i64, i64) = (arguments.take()?, arguments.take()?);
        Ok(async move { a.checked_sub(b).ok_or("too small") })
    });
    let _service = provider.expose(difference).await.expect("exposed");
    let difference = caller.stub::<(i64,), i64>("difference");
    let less_one = difference.keywords(&HashMap::from([("b", 1)])).expect("a map");
    assert_eq!(less_one.call((3,)).await.expect("answered"), 2);
    let all = less_one.call_all((3,)).await.expect("answered");
    assert_eq!(*all[0].result.as_ref().expect("a result"), 2);

    let error = difference.keywords(&1).expect_err("no map");
    assert_eq!((error.kind(), error.object()), (ErrorKind::Encode, "difference"));
    let twice = caller.stub::<HashMap<&str, i64>, i64>("difference");
    let twice = twice.keywords(&HashMap::from([("b", 1)])).expect("a map");
    let error = twice.call(HashMap::from([("a", 3)])).await.expect_err("keywords twice");
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
}

async fn a_bound_on_concurrency_makes_calls_wait(place: &Place) {
    let [caller, provider] = place.buses().await;
    let none = ExposeOptions::default().concurrency(0);
    let function = Function::of_one_value("none", |(): ()| async { Ok::<_, String>(1) });
    let error = provider.expose_with(function, none).await.expect_err("no call would run");
    assert_eq!((error.kind(), error.object()), (ErrorKind::Config, "concurrency"));

    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    let pair = Arc::new(tokio::sync::Barrier::new(2));
    let function = Function::of_one_value("f", move |(): ()| {
        let (now, peak, pair) = (Arc::clone(&now), Arc::clone(&peak), Arc::clone(&pair));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // Each waits for the one beside it, and lets a third one begin if it could.
            pair.wait().await;
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, String>(1)
        }
    });
    let two = ExposeOptions::default().concurrency(2);
    let _service = provider.expose_with(function, two).await.expect("exposed");
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let stub = caller.stub::<(), i64>("f");
            tokio::spawn(async move { stub.call(()).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic").expect("answered"), 1);
    }
    assert_eq!(most.load(Ordering::Relaxed), 2, "two side by side, and never three");
}

async fn a_drained_service_answers_what_had_arrived(place: &Place) {
    let [caller, provider] = place.buses().await;
    // The second call waits in the provider's mailbox when the drain begins.
    let mut watched = watched(&provider, ExposeOptions::default().concurrency(1)).await;
    let stub = caller.stub::<(), i64>("f");
    let first = tokio::spawn({
        let stub = stub.clone();
        async move { stub.call(()).await }
    });
    watched.started.recv().await.expect("it runs");
    let mut fence = provider.topic::<i64>("fence").subscribe().await.expect("subscribed");
    let mut second = stub.call_all_stream(()).await.expect("it is on its way");
    caller.topic("fence").publish(&1).await.expect("published");
    fence.recv().await.expect("open").expect("so the second call has arrived too");
    let Watched { _service: service, go_on, .. } = watched;
    let drained = tokio::spawn(service.drain());
    let gone = caller.stub::<(), Vec<u8>>("f").timeout(Duration::from_secs(2));
    while gone.call(()).await.err().map(|error| error.kind()) != Some(ErrorKind::NoSuchRemote) {}
    assert!(!drained.is_finished(), "a call runs yet");
    go_on.add_permits(2);
    assert_eq!(first.await.expect("no panic").expect("answered"), 1);
    let second = second.recv().await.expect("one provider had it");
    assert_eq!(second.result.expect("answered"), 1);
    drained.await.expect("drained");
}

async fn a_call_whose_time_is_over_ends_where_it_runs_though_no_word_reaches_it(place: &Place) {
    let [caller, provider] = place.buses().await;
    let mut watched = watched(&provider, ExposeOptions::default()).await;
    let mut timeouts = lengths(Duration::from_secs(1));
    let call = loop {
        let timeout = timeouts.next().expect("a call that is sent at once is run");
        let stub = caller.stub::<(), i64>("f").timeout(timeout);
        let mut call = tokio::spawn(async move { stub.call(()).await });
        tokio::select! {
            biased;
            begun = watched.started.recv() => begun.expect("it runs"),
            // Its time was over before it arrived.
            _ = &mut call => continue,
        }
        break call;
    };
    // A provider that drains is not reached any more, by a cancellation neither.
    watched._service.drain().await;
    watched.over.recv().await.expect("the function's future was dropped");
    let error = call.await.expect("no panic").expect_err("nothing let it go on");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

async fn a_drained_bus_finishes_its_functions_and_takes_nothing_new(place: &Place) {
    let [caller, provider] = place.buses().await;
    let watched = watched(&provider, ExposeOptions::default()).await;
    let Watched { _service, mut started, go_on, .. } = watched;
    let stub = caller.stub::<(), i64>("f");
    let call = tokio::spawn(async move { stub.call(()).await });
    started.recv().await.expect("it runs");
    let draining = provider.clone();
    let drained = tokio::spawn(async move { draining.drain().await });
    let topic = provider.topic::<i64>("t");
    let closed = loop {
        match topic.subscribe().await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(closed.kind(), ErrorKind::Closed, "{closed}");
    topic.publish(&1).await.expect("its functions may use the bus");
    go_on.add_permits(1);
    assert_eq!(call.await.expect("no panic").expect("answered"), 1);
    drained.await.expect("no panic").expect("drained");
    assert_eq!(topic.publish(&1).await.expect_err("closed").kind(), ErrorKind::Closed);
}
