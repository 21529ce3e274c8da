//! The scripts of the queue protocol; each file says what it takes and returns.
//!
//! The one invariant: a script changes a queue in one step, and works when the server's memory is
//! full if consumers need it to drain. They touch the keys of one queue only.

use crate::transport::redis::script::Script;

pub(super) static REGISTER: Script = Script::new(include_str!("register.lua"));
pub(super) static REAP: Script = Script::new(include_str!("reap.lua"));
pub(super) static SETTLE: Script = Script::new(include_str!("settle.lua"));
pub(super) static CLAIM: Script = Script::new(include_str!("claim.lua"));
pub(super) static CLOSE: Script = Script::new(include_str!("close.lua"));
pub(super) static PUT: Script = Script::new(include_str!("put.lua"));
pub(super) static WITHDRAW: Script = Script::new(include_str!("withdraw.lua"));
pub(super) static EXTEND: Script = Script::new(include_str!("extend.lua"));
pub(super) static STATS: Script = Script::new(include_str!("stats.lua"));
pub(super) static REDRIVE: Script = Script::new(include_str!("redrive.lua"));
pub(super) static SHUT_DOWN: Script = Script::new(include_str!("shutdown.lua"));
