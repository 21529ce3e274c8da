//! Why a server refuses: what its words mean for us, and words that help people.
//!
//! The one invariant: this is the only file that reads a server's words; everybody else asks the
//! [`Refusal`] for its [`Cause`], or whether it [`passes`](Refusal::passes). The server's own words
//! are in every answer, since they are what people look up.

use std::fmt;

use super::script::Script;
use crate::error::Error;

/// What a refusal means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server loads its data.
    Loading,
    /// It is a replica, or has become one: another server takes the writes.
    ReadOnly,
    /// It is a replica that has lost its master.
    MasterDown,
    /// It ended a wait, since it follows another from now on.
    Unblocked,
    /// It ended a wait because we told it to.
    Ended,
    /// It runs a script.
    Busy,
    /// Its cluster has not settled.
    Unsettled,
    /// Another node of its cluster has the key.
    Moved,
    /// The key, or some of those asked for, are on their way to another node.
    OnItsWay,
    /// It cannot write its own files.
    Misconfigured,
    /// It misses its replicas.
    NoReplicas,
    /// It has no memory left.
    Full,
    /// It has no place for another client.
    NoPlace,
    /// It does not know a script by its digest.
    NoScript,
    /// The user lacks a right.
    Denied,
    /// A key holds a value of another type.
    WrongKind,
    /// It is one of several nodes of a cluster, or none where one was asked for.
    Cluster,
    /// It is a sentinel, which keeps no data, or none where one was asked for, or one that does not
    /// know the master.
    Sentinel,
    /// User or password do not fit.
    NotLoggedIn,
    /// It has no such database.
    NoDatabase,
    /// It is older than 6.2, or no Redis at all.
    TooOld,
    /// The two sides do not trust each other, or one of them speaks no TLS.
    Untrusted,
    /// Anything else.
    Other,
}

/// The codes by which servers begin their refusals.
const CODES: [(&str, Cause); 21] = [
    ("LOADING", Cause::Loading),
    ("READONLY", Cause::ReadOnly),
    ("MASTERDOWN", Cause::MasterDown),
    ("UNBLOCKED", Cause::Unblocked),
    ("BUSY", Cause::Busy),
    ("CLUSTERDOWN", Cause::Unsettled),
    ("TRYAGAIN", Cause::OnItsWay),
    ("MISCONF", Cause::Misconfigured),
    ("NOREPLICAS", Cause::NoReplicas),
    ("OOM", Cause::Full),
    ("NOSCRIPT", Cause::NoScript),
    ("NOPERM", Cause::Denied),
    ("WRONGTYPE", Cause::WrongKind),
    ("MOVED", Cause::Moved),
    ("ASK", Cause::OnItsWay),
    ("CROSSSLOT", Cause::Cluster),
    ("WRONGPASS", Cause::NotLoggedIn),
    ("NOAUTH", Cause::NotLoggedIn),
    ("DENIED", Cause::NotLoggedIn),
    ("NOPROTO", Cause::TooOld),
    ("UNKILLABLE", Cause::Busy),
];

/// Words of refusals that bear no code of their own.
const PHRASES: [(&str, Cause); 10] = [
    // What a node says of keys that a script finds out about by itself, when they are on their way.
    ("non local key", Cause::OnItsWay),
    ("max number of clients", Cause::NoPlace),
    // Scripts are refused in words of their own: the first since 7.2, the other before.
    ("ACL failure in script", Cause::Denied),
    ("user executing the script can't", Cause::Denied),
    ("invalid password", Cause::NotLoggedIn),
    ("AUTH", Cause::NotLoggedIn),
    ("DB index", Cause::NoDatabase),
    ("SELECT", Cause::NoDatabase),
    ("HELLO", Cause::TooOld),
    ("RESP3", Cause::TooOld),
];

impl Cause {
    /// The one table of what passes by itself, so that trying again later is right: claims,
    /// registrations, heartbeats, settlements, subscriptions and connections all ask it.
    fn passes(self) -> bool {
        match self {
            Self::Loading
            | Self::ReadOnly
            | Self::MasterDown
            | Self::Unblocked
            | Self::Ended
            | Self::Busy
            | Self::Unsettled
            | Self::Moved
            | Self::OnItsWay
            | Self::Misconfigured
            | Self::NoReplicas
            | Self::Full
            | Self::NoPlace => true,
            Self::NoScript
            | Self::Denied
            | Self::WrongKind
            | Self::Cluster
            | Self::Sentinel
            | Self::NotLoggedIn
            | Self::NoDatabase
            | Self::TooOld
            | Self::Untrusted
            | Self::Other => false,
        }
    }

    /// What the words of a server mean.
    fn of(words: &str) -> Self {
        if words.contains("via CLIENT UNBLOCK") {
            return Self::Ended;
        }
        let code = code(words);
        let by_code = CODES.iter().find(|(known, _)| *known == code);
        let by_phrase = || PHRASES.iter().find(|(phrase, _)| words.contains(phrase));
        by_code.or_else(by_phrase).map_or(Self::Other, |(_, cause)| *cause)
    }
}

/// The code of what was refused, out of the words that two commands wrap around it.
///
/// `EXECABORT Transaction discarded because of: NOPERM …`, and before 7.0 from a script
/// `ERR Error running script (call to f_…): @user_script:3: -OOM command not allowed …` or
/// `…: @user_script:3: WRONGTYPE Operation …`.
fn code(words: &str) -> &str {
    let old = words.contains("Error running script").then(|| words.rsplit_once("user_script:"));
    let in_script = old.flatten().and_then(|(_, line)| line.split_once(": "));
    let inner = in_script.or_else(|| words.split_once("discarded because of: "));
    let words = inner.map_or(words, |(_, inner)| inner);
    let words = words.strip_prefix('-').unwrap_or(words);
    words.split(' ').next().unwrap_or_default()
}

/// A server's no: the connection is well, and nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    cause: Cause,
    words: String,
}

impl Refusal {
    /// What the server said.
    pub(super) fn new(words: impl Into<String>) -> Self {
        let words = words.into();
        Self { cause: Cause::of(&words), words }
    }

    /// What we found out ourselves.
    pub(super) fn found(cause: Cause, words: impl Into<String>) -> Self {
        Self { cause, words: words.into() }
    }

    /// The same where a script of that digest was refused: Valkey 9 names the line only.
    pub(super) fn of_script(mut self, digest: &str) -> Self {
        let named = format!("script: {digest}, on @user_script");
        self.words = self.words.replacen("script: on @user_script", &named, 1);
        self
    }

    /// The same in other words.
    pub(super) fn reworded(self, how: impl FnOnce(&str) -> String) -> Self {
        Self { words: how(&self.words), ..self }
    }

    /// The refusal that an operation failed with, where one was the reason.
    pub(super) fn within(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// Whether an operation failed for a reason that passes by itself.
    pub(super) fn passed_on(error: &Error) -> bool {
        Self::within(error).is_some_and(Self::passes)
    }

    pub(super) fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether it passes by itself, so that trying again later is right.
    pub(super) fn passes(&self) -> bool {
        self.cause.passes()
    }

    /// Whether the writes are another server's by now: then a new connection may lead to it.
    pub(super) fn is_elsewhere(&self) -> bool {
        use Cause::{MasterDown, Moved, ReadOnly, Unblocked};
        matches!(self.cause, ReadOnly | MasterDown | Unblocked | Moved)
    }

    /// Whether what was asked for is on its way from one node to another: a moment later it is there.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.cause == Cause::OnItsWay
    }

    /// Whether it is for a cluster to settle, with nothing wrong about what was asked.
    pub(super) fn is_of_a_cluster(&self) -> bool {
        matches!(self.cause, Cause::Moved | Cause::OnItsWay | Cause::Unsettled)
    }

    /// Whether an operation failed because a cluster has to settle something.
    pub(super) fn is_a_clusters(error: &Error) -> bool {
        Self::within(error).is_some_and(Self::is_of_a_cluster)
    }

    /// Whether an operation failed because another node of a cluster has the key.
    pub(super) fn has_moved(error: &Error) -> bool {
        Self::within(error).is_some_and(|refusal| refusal.cause == Cause::Moved)
    }

    /// The same, or because the key is on its way there.
    pub(super) fn has_left(error: &Error) -> bool {
        Self::has_moved(error) || Self::within(error).is_some_and(Self::is_on_its_way)
    }

    /// Which slot another node has, and where that one is, if this says so: `MOVED 3999 host:port`.
    pub(super) fn moved_to(&self) -> Option<(u16, (String, u16))> {
        let (_, rest) = self.words.split_once("MOVED ")?;
        let mut words = rest.split_whitespace();
        let slot = words.next()?.parse().ok()?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        // A node may not know the other's name.
        let host = Some(host).filter(|host| !host.is_empty() && *host != "?")?;
        Some((slot, (host.to_owned(), port.parse().ok()?)))
    }

    /// What the user's rights do not reach, where that is no command: `~` for a key, `&` for a
    /// channel.
    pub(super) fn reach(&self) -> Option<char> {
        let words = &self.words;
        let of_command = command(words).or_else(|| command_in_script(words)).is_some();
        match (of_command, words.contains("channel"), words.contains("key")) {
            (false, true, _) => Some('&'),
            (false, false, true) => Some('~'),
            _ => None,
        }
    }

    /// Why an operation on `object` was refused.
    pub(super) fn explained(&self, object: &str) -> String {
        let words = &self.words;
        match self.cause {
            Cause::Full => format!(
                "the server has no memory left ({words}); get or purge items, or raise maxmemory"
            ),
            Cause::WrongKind => match side_key_in_script(words) {
                Some(what) => format!(
                    "the queue's key \"__pymq:{{{object}}}:{what}\" holds a value of another type, \
                     which is not ours; move it away"
                ),
                None => format!(
                    "the key {object:?} holds a value of another type, or one beside it does, which is \
                     not ours; move it away or use another name"
                ),
            },
            Cause::Denied => denied(words, object),
            Cause::Moved | Cause::OnItsWay => {
                format!("it is moving to another node of the cluster ({words}); try again")
            }
            _ => words.clone(),
        }
    }

    /// Why a server did not let us in.
    pub(super) fn not_admitted(&self) -> String {
        let words = &self.words;
        match self.cause {
            Cause::Denied => denied(words, ""),
            Cause::NoDatabase => format!("{words}; has the server such a database?"),
            Cause::NotLoggedIn => format!("{words}; do user and password fit?"),
            Cause::NoPlace => format!("{words}; end some of its clients, or raise maxclients"),
            Cause::TooOld => format!("{words}; PyMQ needs a Redis server of 6.2 or later"),
            Cause::Other => format!("{words}; is it a Redis server of 6.2 or later?"),
            _ => words.clone(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Refusal {}

/// What an ACL forbids, and the rule that would allow it.
fn denied(words: &str, object: &str) -> String {
    let rule = match command(words).or_else(|| command_in_script(words)) {
        Some(command) => format!("+{command}"),
        None if words.contains("channel") => names('&', object),
        None if words.contains("key") => names('~', object),
        None => "a command of the scripts".to_owned(),
    };
    format!("the user may not do this ({words}); its ACL lacks {rule}, see SECURITY.md")
}

/// The command that the words name, `command` or `command|subcommand`.
fn command(words: &str) -> Option<String> {
    let (_, rest) = words.split_once("run the '")?;
    Some(rest.split('\'').next()?.to_lowercase())
}

/// The command in the line of the script that the words name, if they tell of a command.
fn command_in_script(words: &str) -> Option<String> {
    words.split_once("run this command")?;
    let (_, call) = line_of_script(words)?.rsplit_once("redis.call('")?;
    Some(call.split('\'').next()?.to_lowercase())
}

/// Which key beside a queue's list the line of the script touches that the words name.
fn side_key_in_script(words: &str) -> Option<&'static str> {
    let (_, call) = line_of_script(words)?.rsplit_once("redis.call('")?;
    let (_, arguments) = call.split_once(", ")?;
    match arguments.split([',', ')']).next()?.trim_start_matches("queue.") {
        "dead" => Some("dead"),
        "epochs" => Some("epochs"),
        "later" => Some("later"),
        list if list.starts_with("urgent") => Some("urgent:\u{2026}"),
        "held" | "own" => Some("held:\u{2026}"),
        "id" => Some("id:\u{2026}"),
        "spare" => Some("spare"),
        "waits" => Some("waits"),
        _ => None,
    }
}

/// The line of one of our scripts that the words name.
fn line_of_script(words: &str) -> Option<&'static str> {
    let (_, line) = words.rsplit_once("user_script:")?;
    let line: String = line.trim_start().chars().take_while(char::is_ascii_digit).collect();
    let is_digest = |word: &&str| word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let digest = words.split(|c: char| !c.is_ascii_alphanumeric()).find(is_digest)?;
    Script::line(digest, line.parse().ok()?)
}

/// The rule for the names that an operation needs: those of the object's namespace, or a pattern as
/// it is, since the server compares patterns letter by letter.
fn names(kind: char, object: &str) -> String {
    if kind == '&' && object.contains(['*', '?', '[']) {
        return format!("{kind}{object} (patterns stand there as they are)");
    }
    let namespace = match object.match_indices(':').nth(1) {
        Some((end, _)) => &object[..=end],
        None => object,
    };
    let ours = namespace.replacen("__eventbus:", "__pymq:", 1);
    format!("{kind}{namespace}* {kind}{ours}* {kind}__pymq:{{{namespace}*")
}

#[cfg(test)]
mod tests {
    use super::super::purpose::Purpose;
    use super::*;

    #[test]
    fn a_node_says_where_a_slot_is() {
        let moved = |words: &str| Refusal::new(words).moved_to();
        let place = |host: &str, port| Some((3999, (host.to_owned(), port)));
        assert_eq!(moved("MOVED 3999 127.0.0.1:6381"), place("127.0.0.1", 6381));
        assert_eq!(moved("MOVED 3999 ::1:6381"), place("::1", 6381));
        for unclear in
            ["MOVED 3999 :6381", "MOVED 3999 ?:6381", "MOVED", "MOVED x h:1", "ASK 1 h:1"]
        {
            assert_eq!(moved(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn a_denied_command_is_named_whichever_version_says_so() {
        for (words, rule) in [
            ("NOPERM this user has no permissions to run the 'publish' command", "+publish,"),
            (
                "NOPERM User keykeeper has no permissions to run the 'client|id' command",
                "+client|id,",
            ),
            (
                "ERR ACL failure in script: User channel has no permissions to run the 'lrem' command script: 1, on @user_script:6.",
                "+lrem,",
            ),
            (
                "ERR The user executing the script can't run this command or subcommand",
                "a command of the scripts,",
            ),
        ] {
            let text = Refusal::new(words).explained("__eventbus:shop:jobs");
            assert!(text.contains(&format!("its ACL lacks {rule}")), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_name_out_of_reach_is_answered_with_the_rules_of_its_namespace() {
        let keys =
            "NOPERM this user has no permissions to access one of the keys used as arguments";
        let text = Refusal::new(keys).explained("__eventbus:shop:jobs");
        let rules = "~__eventbus:shop:* ~__pymq:shop:* ~__pymq:{__eventbus:shop:*";
        assert!(text.contains(rules), "{text}");
        let channels = "NOPERM No permissions to access a channel";
        let text = Refusal::new(channels).explained("__eventbus:shop:orders.*");
        assert!(text.contains("&__eventbus:shop:orders.* (patterns"), "{text}");
    }

    #[test]
    fn at_the_door_the_advice_is_about_what_was_wrong() {
        let words = "WRONGPASS invalid username-password pair or user is disabled.";
        let text = Refusal::new(words).not_admitted();
        assert!(text.ends_with("do user and password fit?"), "{text}");
        let text = Refusal::new("ERR DB index is out of range").not_admitted();
        assert!(text.ends_with("has the server such a database?"), "{text}");
    }
    #[test]
    fn a_refusal_means_what_its_command_said_whatever_was_wrapped_around_it() {
        for (words, cause) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", Cause::Full),
            (
                "ERR Error running script (call to f_1): @user_script:3: @user_script: 3: -OOM \
                 command not allowed when used memory > 'maxmemory'.",
                Cause::Full,
            ),
            (
                "ERR Error running script (call to f_1): @user_script:15: WRONGTYPE Operation \
                 against a key holding the wrong kind of value",
                Cause::WrongKind,
            ),
            (
                "READONLY You can't write against a read only replica. script: 1, on \
                 @user_script:1.",
                Cause::ReadOnly,
            ),
            (
                "EXECABORT Transaction discarded because of: NOPERM this user has no \
                 permissions to run the 'exec' command",
                Cause::Denied,
            ),
            ("ERR max number of clients reached", Cause::NoPlace),
            ("NOSCRIPT No matching script. Please use EVAL.", Cause::NoScript),
            (
                "ERR Script attempted to access a non local key in a cluster node script: 1, on \
                 @user_script:5.",
                Cause::OnItsWay,
            ),
            (
                "ERR Error running script (call to f_1): @user_script:5: @user_script: 5: Lua \
                 script attempted to access a non local key in a cluster node",
                Cause::OnItsWay,
            ),
            ("ERR wrong number of arguments for 'get' command", Cause::Other),
        ] {
            assert_eq!(Refusal::new(words).cause(), cause, "{words}");
        }
    }

    #[test]
    fn an_operation_that_failed_remembers_whether_its_reason_passes() {
        let of = |words: &str| Purpose::change("put", "jobs").refused(&Refusal::new(words));
        assert!(Refusal::passed_on(&of("MISCONF Redis is configured to save RDB snapshots")));
        assert!(!Refusal::passed_on(&of("WRONGTYPE Operation against a key")));
        assert!(!Refusal::passed_on(&Error::closed("put", "jobs")));
    }
}
