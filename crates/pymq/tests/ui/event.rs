//! Events that say no topic, or say it wrongly.
use pymq::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
struct WithoutTopic {
    id: u64,
}

#[derive(Serialize, Deserialize, Event)]
#[event(name = "shop.Misnamed")]
struct Misnamed {
    id: u64,
}

#[derive(Serialize, Deserialize, Event)]
#[event(topic = "")]
struct Empty {
    id: u64,
}

#[derive(Serialize, Deserialize, Event)]
#[event(topic = "shop.One", topic = "shop.Two")]
struct Torn {
    id: u64,
}

#[derive(Serialize, Deserialize, Event)]
#[event(topic = "shop.Generic")]
struct Generic<T> {
    value: T,
}

fn main() {}
