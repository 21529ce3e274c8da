//! The scripts of the queue protocol; each file says what it takes and returns.
//!
//! The one invariant: a script loses nothing wherever it is refused, and works when the server's
//! memory is full if consumers need it to drain. They touch the keys of one queue only.

use std::time::Duration;

use crate::transport::redis::script::Script;

/// The most items that one run of a script moves: everybody else waits for it.
pub(super) const PORTION: &str = "1000";

/// A script after what it shares with others.
macro_rules! script {
    ($($file:literal),+) => {
        Script::new(concat!($(include_str!($file)),+))
    };
}

pub(super) static REAP: Script = script!("urgent.lua", "letter.lua", "give_back.lua", "reap.lua");
pub(super) static CLOSE: Script = script!("urgent.lua", "letter.lua", "give_back.lua", "close.lua");
pub(super) static CONFIRM: Script = script!("confirm.lua");
pub(super) static SETTLE: Script =
    script!("later.lua", "urgent.lua", "letter.lua", "give_back.lua", "settle.lua");
pub(super) static KEEP: Script = script!("later.lua", "keep.lua");
pub(super) static LEAVE: Script = script!("leave.lua");
pub(super) static TAKE: Script = script!("take.lua");
pub(super) static TAKE_FIRST: Script = script!("urgent.lua", "take_first.lua");
pub(super) static SHOW: Script = script!("show.lua");
pub(super) static EXTEND: Script = script!("extend.lua");
pub(super) static PUT: Script = script!("later.lua", "urgent.lua", "put.lua");
pub(super) static LINE_UP: Script = script!("later.lua", "urgent.lua", "line_up.lua");
pub(super) static WITHDRAW: Script = script!("withdraw.lua");
pub(super) static STATS: Script = script!("later.lua", "urgent.lua", "stats.lua");
pub(super) static REDRIVE: Script = script!("urgent.lua", "letter.lua", "named.lua", "redrive.lua");
pub(super) static DISCARD: Script = script!("named.lua", "discard.lua");
pub(super) static SHUT_DOWN: Script = script!("shutdown.lua");

/// A duration as the scripts are told it, in milliseconds.
pub(super) fn milliseconds(duration: Duration) -> String {
    // Far beyond any life, and far from what a clock in a script could not count; never less than
    // what was asked for.
    duration.as_nanos().div_ceil(1_000_000).clamp(1, 1 << 42).to_string()
}
