//! The test server itself: it starts, dies, comes back and stands still as it is told.
#![cfg(feature = "redis")]

mod server;

use server::RedisServer;

#[test]
fn a_server_answers_and_comes_back_empty_after_a_restart() {
    let mut server = RedisServer::start();
    assert_eq!(server.raw().run(&["SET", "key", "value"]).text(), "OK");
    server.restart();
    assert_eq!(server.raw().run(&["EXISTS", "key"]).number(), 0);
}

#[test]
fn a_paused_server_goes_on_where_it_stood() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    server.pause();
    raw.write(&[b"PING"]);
    server.resume();
    assert_eq!(raw.read().text(), "PONG");
}
