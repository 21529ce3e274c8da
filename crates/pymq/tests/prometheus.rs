//! What is scraped of a bus.

use std::time::Duration;

use place::Place;
use pymq::Retry;
use pymq::prometheus::Metrics;

mod place;

everywhere!(what_a_bus_did_and_how_it_stands_is_in_the_text);

/// The value of a series, by the text in front of it.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

async fn what_a_bus_did_and_how_it_stands_is_in_the_text(place: &Place) {
    let bus = place.bus().await;
    let metrics = Metrics::new();
    bus.observe(metrics.clone());
    let _service = bus
        .expose_fn("double", |(n,): (i64,)| async move {
            n.checked_mul(2).ok_or_else(|| "too large".to_owned())
        })
        .await
        .expect("exposed");
    let double = bus.stub::<(i64,), i64>("double");
    assert_eq!(double.call((2,)).await.expect("a result"), 4);
    double.call((i64::MAX,)).await.expect_err("too large");
    let mut notes = bus.topic::<i64>("notes").subscribe().await.expect("subscribed");
    bus.topic("notes").publish(&1).await.expect("published");
    assert_eq!(notes.recv().await.expect("open").expect("an event"), 1);
    let jobs = bus.queue::<i64>("jobs").retry(Retry::at_once());
    jobs.put_many(&[1, 2]).await.expect("a put");
    let worker = jobs.work_deliveries(1, async |job: pymq::Delivery<i64>| match job.deliveries() {
        1 => Err("once more"),
        _ => Ok(()),
    });
    jobs.join().await.expect("done");
    worker.expect("a worker").drain().await.expect("a good end");
    jobs.put(&3).await.expect("a put");

    let text = metrics.text(&bus).await;
    let names = |labels: &str, name: &str| value(&text, &format!("{name}{{{labels}}}"));
    let sent = "messaging_client_sent_messages_total";
    let consumed = "messaging_client_consumed_messages_total";
    for (name, labels, expected) in [
        ("rpc_client_call_duration_seconds_count", r#"rpc_method="double""#, 1.0),
        (
            "rpc_client_call_duration_seconds_count",
            r#"rpc_method="double",error_type="Error""#,
            1.0,
        ),
        (
            "rpc_server_call_duration_seconds_count",
            r#"rpc_method="double",error_type="Error""#,
            1.0,
        ),
        (sent, r#"messaging_destination_name="notes",messaging_operation_name="publish""#, 1.0),
        (sent, r#"messaging_destination_name="jobs",messaging_operation_name="put""#, 3.0),
        (consumed, r#"messaging_destination_name="notes",messaging_operation_name="receive""#, 1.0),
        (consumed, r#"messaging_destination_name="jobs",messaging_operation_name="process""#, 4.0),
        ("pymq_redelivered_messages_total", r#"messaging_destination_name="jobs""#, 2.0),
        ("messaging_process_duration_seconds_count", r#"messaging_destination_name="jobs""#, 2.0),
        ("pymq_queue_items", r#"queue="jobs",state="waiting""#, 1.0),
        ("pymq_queue_items", r#"queue="jobs",state="dead""#, 0.0),
    ] {
        assert_eq!(names(labels, name), Some(expected), "{name} {labels} in\n{text}");
    }
    assert_eq!(value(&text, "pymq_connected"), Some(1.0));
    assert_eq!(value(&text, "pymq_lost_posts"), Some(0.0));
    assert_eq!(value(&text, "pymq_reconnects_total"), Some(0.0));
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(lines.iter().all(|line| line.rsplit_once(' ').is_some()), "{text}");
}

#[tokio::test]
async fn a_bus_that_is_closed_is_told_to_be_away() {
    let (place, metrics) = (Place::memory(), Metrics::new());
    let bus = place.bus().await;
    bus.observe(metrics.clone());
    bus.close().await.expect("closed");
    let text = tokio::time::timeout(Duration::from_secs(60), metrics.text(&bus)).await;
    let text = text.expect("it waits for nobody");
    assert_eq!(value(&text, "pymq_connected"), Some(0.0));
    assert!(!text.contains("pymq_queue_items"), "{text}");
}
