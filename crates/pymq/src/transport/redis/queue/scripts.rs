//! The scripts of the queue protocol; each file says what it takes and returns.
//!
//! The one invariant: a script loses nothing wherever it is refused, and works when the server's
//! memory is full if consumers need it to drain. They touch the keys of one queue only.

use crate::transport::redis::script::Script;

/// A script after the functions that several share.
macro_rules! with_give_back {
    ($file:literal) => {
        Script::new(concat!(include_str!("give_back.lua"), include_str!($file)))
    };
}

/// The same for those that know of items for later.
macro_rules! with_later {
    ($($file:literal),+) => {
        Script::new(concat!(include_str!("later.lua"), $(include_str!($file)),+))
    };
}

pub(super) static REAP: Script = with_give_back!("reap.lua");
pub(super) static CLOSE: Script = with_give_back!("close.lua");
pub(super) static SETTLE: Script = with_later!("give_back.lua", "settle.lua");
pub(super) static KEEP: Script = with_later!("keep.lua");
pub(super) static LEAVE: Script = Script::new(include_str!("leave.lua"));
pub(super) static TAKE: Script = Script::new(include_str!("take.lua"));
pub(super) static SHOW: Script = Script::new(include_str!("show.lua"));
pub(super) static EXTEND: Script = Script::new(include_str!("extend.lua"));
pub(super) static PUT: Script = with_later!("put.lua");
pub(super) static LINE_UP: Script = with_later!("line_up.lua");
pub(super) static WITHDRAW: Script = Script::new(include_str!("withdraw.lua"));
pub(super) static STATS: Script = with_later!("stats.lua");
pub(super) static REDRIVE: Script = Script::new(include_str!("redrive.lua"));
pub(super) static SHUT_DOWN: Script = Script::new(include_str!("shutdown.lua"));
