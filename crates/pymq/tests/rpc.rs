//! Remote procedure calls as users see them, on every transport.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use place::Place;
use pymq::{ErrorKind, Service};

mod place;

everywhere!(
    a_call_is_answered,
    exactly_one_provider_executes_and_all_are_used,
    all_providers_answer_and_failures_stand_beside_results,
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
    for _ in 0..1000 {
        stub.call(()).await.expect("answered");
    }
    let each: Vec<usize> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    assert_eq!(each.iter().sum::<usize>(), 1000);
    assert!(each.iter().all(|count| *count > 0), "{each:?}");
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

async fn foreign_subscribers_do_not_disturb_a_call_to_all(place: &Place) {
    let [caller, provider, spy] = place.buses().await;
    let _pattern = spy.pattern::<serde_json::Value>("*").await.expect("subscribed");
    let _service = constant(&provider, 1).await;
    let replies = caller.stub::<(), i64>("f").call_all(()).await.expect("answered");
    assert_eq!(replies.len(), 1);
    // One that listens by exact name looks like a provider of the original, until it stays silent.
    let _exact = spy.topic::<serde_json::Value>("f").subscribe().await.expect("subscribed");
    let stub = caller.stub::<(), i64>("f").timeout(Duration::from_millis(300));
    assert_eq!(stub.call_all(()).await.expect("answered").len(), 1);
}

async fn a_function_that_nobody_exposes_is_no_such_remote(place: &Place) {
    let [caller, provider] = place.buses().await;
    let stub = caller.stub::<(), i64>("f");
    assert_eq!(stub.call(()).await.expect_err("nobody").kind(), ErrorKind::NoSuchRemote);
    assert_eq!(stub.call_all(()).await.expect_err("nobody").kind(), ErrorKind::NoSuchRemote);
    let service = constant(&provider, 1).await;
    stub.call(()).await.expect("answered");
    service.end().await;
    assert_eq!(stub.call(()).await.expect_err("gone").kind(), ErrorKind::NoSuchRemote);
}

async fn a_timeout_is_one_deadline_and_cancels_the_call(place: &Place) {
    let [caller, provider] = place.buses().await;
    let (sender, cancelled) = tokio::sync::oneshot::channel::<()>();
    let sender = std::sync::Mutex::new(Some(sender));
    let handler = move |(): ()| {
        // Dropped with the handler's future: that is the cancellation.
        let guard = sender.lock().expect("not poisoned").take();
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), String>>().await
        }
    };
    let _service = provider.expose_fn("f", handler).await.expect("exposed");
    let stub = caller.stub::<(), ()>("f").timeout(Duration::from_millis(200));
    assert_eq!(stub.call(()).await.expect_err("too slow").kind(), ErrorKind::Timeout);
    cancelled.await.expect_err("the handler was dropped, so its end of the channel is gone");
}

async fn a_slow_provider_is_named_when_the_others_have_answered(place: &Place) {
    let [caller, fast, slow] = place.buses().await;
    let _services = (constant(&fast, 1).await, endless(&slow).await);
    let stub = caller.stub::<(), i64>("f").timeout(Duration::from_millis(900));
    let replies = stub.call_all(()).await.expect("one answers");
    let mut named = HashMap::new();
    for reply in &replies {
        let kind = reply.result.as_ref().err().map(pymq::Error::kind);
        named.insert(kind, reply.provider.is_some());
    }
    assert_eq!(named, HashMap::from([(None, true), (Some(ErrorKind::Timeout), true)]));
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
