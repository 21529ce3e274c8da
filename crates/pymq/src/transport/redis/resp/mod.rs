//! RESP3, the protocol of Redis: commands to bytes, bytes to replies and pushes, one socket each.
//!
//! Nothing here waits for more than one socket, and nothing here reconnects: a [`Socket`] lives once,
//! and what comes after it is its owner's business. `command` and `decode` know no socket and no
//! runtime; `driver` moves bytes between them and a socket; `socket` opens sockets and introduces
//! itself; `hello` looks at what the server says of itself. Everything that a server can send is
//! bounded before it is read, see [`decode::Limits`].
//!
//! The protocol: <https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md>.

mod command;
mod decode;
mod driver;
mod exchange;
mod header;
mod hello;
mod posts;
mod push;
mod reply;
mod socket;

pub(super) use command::{Batch, Command, Words, Written};
pub(super) use driver::Pushes;
pub(super) use hello::Expected;
pub(super) use posts::{Posted, Posts};
pub(super) use push::Push;
pub(super) use reply::{Fault, Reply};
pub(super) use socket::{Socket, Subscribing, WeakSocket};
