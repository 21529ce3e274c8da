//! Why a server refuses, in words that help: what is missing and where it is granted.
//!
//! The one invariant: the server's own words are in every answer, since they are what people look
//! up. The one table of refusals that pass by themselves stands here; what to do about them is their
//! readers' business.

use super::link::Script;

/// The codes of refusals that pass by themselves: the server loads, follows another, cannot write
/// its log, misses its replicas, runs a script, or has no memory or place for a client just now.
const PASSING: [&str; 10] = [
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "UNBLOCKED",
    "BUSY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
];

/// Whether a refusal passes by itself, so that trying again later is right.
pub(super) fn passes(words: &str) -> bool {
    let code = words.split(' ').next().unwrap_or_default();
    PASSING.contains(&code) || words.contains("max number of clients")
}

/// Why an operation on `object` was refused.
pub(super) fn explained(words: &str, object: &str) -> String {
    if words.contains("OOM") {
        format!("the server has no memory left ({words}); get or purge items, or raise maxmemory")
    } else if words.contains("WRONGTYPE") {
        format!("the key {object:?} holds a value of another type; delete it or use another name")
    } else if is_denied(words) {
        denied(words, object)
    } else {
        words.to_owned()
    }
}

/// Why a server did not let us in.
pub(super) fn not_admitted(words: &str) -> String {
    if is_denied(words) {
        denied(words, "")
    } else if words.contains("TLS") || words.contains("certificate") {
        words.to_owned()
    } else if words.contains("DB index") || words.contains("SELECT") {
        format!("{words}; has the server such a database?")
    } else {
        format!("{words}; is it a Redis server of 6.2 or later, and do user and password fit?")
    }
}

fn is_denied(words: &str) -> bool {
    // Scripts are refused in words of their own: the first since 7.2, the other before.
    words.contains("NOPERM")
        || words.contains("ACL failure in script")
        || words.contains("user executing the script can't")
}

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
    let line = words.split_once("run this command").and(words.rsplit_once("user_script:"))?.1;
    let line: String = line.trim_start().chars().take_while(char::is_ascii_digit).collect();
    let is_digest = |word: &&str| word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let digest = words.split(|c: char| !c.is_ascii_alphanumeric()).find(is_digest)?;
    let line = Script::line(digest, line.parse().ok()?)?;
    let (_, call) = line.rsplit_once("redis.call('")?;
    Some(call.split('\'').next()?.to_lowercase())
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
    use super::*;

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
            let text = explained(words, "__eventbus:shop:jobs");
            assert!(text.contains(&format!("its ACL lacks {rule}")), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_name_out_of_reach_is_answered_with_the_rules_of_its_namespace() {
        let keys =
            "NOPERM this user has no permissions to access one of the keys used as arguments";
        let text = explained(keys, "__eventbus:shop:jobs");
        let rules = "~__eventbus:shop:* ~__pymq:shop:* ~__pymq:{__eventbus:shop:*";
        assert!(text.contains(rules), "{text}");
        let channels = "NOPERM No permissions to access a channel";
        let text = explained(channels, "__eventbus:shop:orders.*");
        assert!(text.contains("&__eventbus:shop:orders.* (patterns"), "{text}");
    }

    #[test]
    fn at_the_door_the_advice_is_about_what_was_wrong() {
        let text = not_admitted("WRONGPASS invalid username-password pair or user is disabled.");
        assert!(text.ends_with("do user and password fit?"), "{text}");
        let text = not_admitted("ERR DB index is out of range");
        assert!(text.ends_with("has the server such a database?"), "{text}");
    }
}
