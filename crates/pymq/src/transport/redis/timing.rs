//! Durations that several rooms share and that are not for the user to say, with reasons.

use std::time::Duration;

/// How long one wait at the server lasts: a host that vanishes cannot take anything for longer.
pub(super) const SLICE: Duration = Duration::from_secs(5);
/// After how long a waiting command has certainly come back: a slice, and a second for the way.
/// For so long an ended wait is waited for, and for no less a server may be silent.
pub(super) const SLICE_AND_WAY: Duration = Duration::from_secs(6);
/// How long the answer to what was sent is waited for at least, however short the operation's own
/// time is: a round trip takes some, and an operation that may not wait is an attempt all the same.
pub(super) const ROUND_TRIP: Duration = Duration::from_secs(1);
/// A timer that fires so late tells that the whole process stood still, and for so long an answer that came
/// meanwhile is read yet.
pub(super) const STOOD_STILL: Duration = Duration::from_millis(250);
/// How long a ping waits for its answer.
pub(super) const PING: Duration = Duration::from_secs(5);
/// The longest that anything may take: no process lives as long, and every clock counts so far.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// For so long whoever took an item in the moment in which its slot began to move may take to say that it lives:
/// after [`SLICE_AND_WAY`] it looks what a connection that it lost may have taken, and it has as long again to
/// reach the node. Its lease, which nobody but itself knows, counts from then on.
pub(super) const TAKEN_UNNOTED: Duration = Duration::from_secs(12);
/// How often what goes on is told again in the log.
pub(super) const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// The longest pause before something that was refused is asked for again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(5);
