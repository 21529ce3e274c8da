//! A Redis server that says which channels match a pattern.

use std::sync::Mutex;

use server::{Answer, Raw, RedisServer};

#[path = "../../crates/pymq/tests/server/mod.rs"]
mod server;

/// Which of `channels` match `pattern`, in no order; equal ones are named once.
pub fn matching(pattern: &[u8], channels: &[&[u8]]) -> Vec<Vec<u8>> {
    static REDIS: Mutex<Option<Redis>> = Mutex::new(None);
    let mut redis = REDIS.lock().expect("nobody panics while asking");
    redis.get_or_insert_with(Redis::start).matching(pattern, channels)
}

struct Redis {
    subscriber: Raw,
    asker: Raw,
    _server: RedisServer,
}

impl Redis {
    fn start() -> Self {
        let server = RedisServer::start();
        Self { subscriber: server.raw(), asker: server.raw(), _server: server }
    }

    fn matching(&mut self, pattern: &[u8], channels: &[&[u8]]) -> Vec<Vec<u8>> {
        self.change(b"SUBSCRIBE", channels);
        let found = self.asker.run_bytes(&[b"PUBSUB", b"CHANNELS", pattern]);
        self.change(b"UNSUBSCRIBE", channels);
        let Answer::List(found) = found else { panic!("the server said {found:?}") };
        found
            .into_iter()
            .map(|channel| match channel {
                Answer::Text(channel) => channel,
                other => panic!("a channel that is {other:?}"),
            })
            .collect()
    }

    fn change(&mut self, command: &[u8], channels: &[&[u8]]) {
        self.subscriber.write(&[&[command], channels].concat());
        for _ in channels {
            self.subscriber.read();
        }
    }
}
