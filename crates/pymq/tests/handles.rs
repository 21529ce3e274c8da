//! What users hold goes anywhere: to another thread, into a task, into a static.

use pymq::transport::{Inbox, QueueSpec, Subscription, Transport};
use pymq::{
    Bus, BusBuilder, ByteDelivery, ByteQueue, Deliveries, Delivery, Error, Events, PatternEvents,
    Queue, Replies, Service, Stub, StubReply, Topic, Worker,
};

/// What is in it may be neither: only the handle counts.
type Bare = std::marker::PhantomData<*const ()>;

const fn goes_anywhere<T: Send + Sync + 'static>() {}
const fn goes_to_another_thread<T: Send + 'static>() {}

/// Holds if this file compiles.
#[test]
fn handles_go_to_any_thread_and_into_statics() {
    goes_anywhere::<Bus>();
    goes_anywhere::<BusBuilder>();
    goes_anywhere::<Topic<Bare>>();
    goes_anywhere::<Queue<Bare>>();
    goes_anywhere::<ByteQueue>();
    goes_anywhere::<Stub<Bare, Bare>>();
    goes_anywhere::<Service>();
    goes_anywhere::<Worker>();
    goes_anywhere::<Delivery<u32>>();
    goes_anywhere::<ByteDelivery>();
    goes_anywhere::<StubReply<u32>>();
    goes_anywhere::<Error>();
    goes_anywhere::<QueueSpec>();
    goes_anywhere::<std::sync::Arc<dyn Transport>>();
}

/// The waiting ones too.
#[cfg(feature = "blocking")]
#[test]
fn blocking_handles_go_to_any_thread_and_into_statics() {
    use pymq::blocking;

    goes_anywhere::<blocking::Bus>();
    goes_anywhere::<blocking::Topic<Bare>>();
    goes_anywhere::<blocking::Queue<Bare>>();
    goes_anywhere::<blocking::Stub<Bare, Bare>>();
    goes_anywhere::<blocking::Service>();
    goes_anywhere::<blocking::Worker>();
    goes_anywhere::<blocking::Delivery<u32>>();
}

/// Who reads one has it alone.
#[test]
fn streams_go_to_any_thread() {
    goes_to_another_thread::<Events<u32>>();
    goes_to_another_thread::<PatternEvents<u32>>();
    goes_to_another_thread::<Deliveries<u32>>();
    goes_to_another_thread::<Replies<u32>>();
    goes_to_another_thread::<Subscription>();
    goes_to_another_thread::<Inbox>();
}

#[test]
fn operations_may_be_awaited_on_any_thread() {
    fn sent<T: Send>(_: impl Fn(&Bus) -> T) {}
    sent(|_| async { Bus::connect("memory://").await.map(drop) });
    fn of_bus(bus: Bus) -> impl Future + Send {
        async move {
            bus.topic::<u32>("t").publish(&1).await?;
            bus.queue::<u32>("q").put(&1).await?;
            drop(bus.queue::<u32>("q").claim().await?);
            drop(bus.stub::<(u32,), u32>("f").call((1,)).await);
            bus.close().await
        }
    }
    let _ = of_bus;
}
