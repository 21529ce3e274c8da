//! A whole bus over this transport: what it is for, and what happens when the server dies.

mod server;

use pymq::transport::{QueueSpec, Queues as _, Wait};
use pymq::{Bus, ErrorKind, Namespace};
use pymq_tcp::Tcp;
use server::Server;

async fn connect(server: &Server) -> Bus {
    let transport = Tcp::connect(server.address()).await.expect("the server listens");
    Bus::over(transport, Namespace::default()).expect("a runtime")
}

#[tokio::test]
async fn events_queues_and_calls_work_between_two_connections() -> pymq::Result<()> {
    let server = Server::start();
    let (here, there) = (connect(&server).await, connect(&server).await);

    let mut heard = there.pattern::<u32>("numbers.*").await?;
    here.topic("numbers.odd").publish(&7_u32).await?;
    assert_eq!(heard.recv().await.expect("the bus is open")?, ("numbers.odd".to_owned(), 7));

    here.queue("jobs").put(&"sweep").await?;
    let job = there.queue::<String>("jobs").claim().await?;
    assert_eq!(*job, "sweep");
    job.ack().await?;

    let double = |(x,): (i64,)| async move { x.checked_mul(2).ok_or("too large") };
    let _services =
        [there.expose_fn("double", double).await?, here.expose_fn("double", double).await?];
    let double = here.stub::<_, i64>("double");
    assert_eq!(double.call((21,)).await?, 42);
    assert_eq!(double.call_all((2,)).await?.len(), 2);
    let refused = double.call((i64::MAX,)).await.expect_err("it does not fit");
    assert_eq!(refused.kind(), ErrorKind::Remote);
    Ok(())
}

#[tokio::test]
async fn what_a_vanished_client_held_is_somebody_elses() -> pymq::Result<()> {
    let server = Server::start();
    let (vanishing, other) = (Tcp::connect(server.address()).await?, connect(&server).await);
    let jobs = other.queue::<u32>("jobs");
    jobs.put(&1).await?;
    let spec = QueueSpec::new(other.namespace().whole("jobs"));
    assert_eq!(vanishing.claim(&spec.into(), 1, Wait::Forever).await?.len(), 1);
    drop(vanishing);
    let job = jobs.claim().await?;
    assert_eq!((*job, job.deliveries()), (1, 2));
    job.ack().await
}

#[tokio::test]
async fn a_dead_server_ends_streams_and_fails_operations() -> pymq::Result<()> {
    let server = Server::start();
    let bus = connect(&server).await;
    let mut events = bus.topic::<u32>("numbers").subscribe().await?;
    let jobs = bus.queue::<u32>("jobs");
    let waiting = jobs.get();
    let dying = async {
        tokio::task::yield_now().await;
        drop(server);
    };
    let (waited, ()) = tokio::join!(waiting, dying);
    assert_eq!(waited.expect_err("nobody put").kind(), ErrorKind::Ambiguous);
    assert!(events.recv().await.is_none());
    let late = jobs.put(&1).await.expect_err("there is no server");
    assert_eq!(late.kind(), ErrorKind::Connection);
    assert!(late.is_retryable());
    bus.close().await
}
