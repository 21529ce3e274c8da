//! An address as errors quote it.
//!
//! The one invariant: nothing is shown that may be a password or a piece of one, however the address
//! is broken: what is shown has the form of a user, a host, a path or the name of a word.

use super::address::host_and_port;

/// An address without what may be a password.
pub(super) fn of(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return "address".to_owned() };
    // The last one: a password may hold any number of them that should have been encoded.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => (user(credentials), rest),
        None => (String::new(), rest),
    };
    let (place, words) = match rest.split_once('?') {
        Some((place, query)) => (place, words(query)),
        None => (rest, String::new()),
    };
    format!("{scheme}://{user}{}{words}", self::place(place))
}

/// Who logs in. Without a ':' it may be a password that lacks one.
fn user(credentials: &str) -> String {
    match credentials.split_once(':') {
        Some((user, _)) => format!("{}:…@", user.split(['/', '?']).next().unwrap_or_default()),
        None => "…@".to_owned(),
    }
}

/// Hosts and path. What stands in a port's place and is none may be a password that lacks its host.
fn place(place: &str) -> &str {
    let authority = place.split('/').next().unwrap_or_default();
    if authority.split(',').all(|host| host_and_port(host, 0).is_ok()) { place } else { "…" }
}

/// The names of the words, without their values.
fn words(query: &str) -> String {
    let mut shown: Vec<_> = names(query).map(|name| format!("{name}=…")).collect();
    if shown.len() < query.split('&').count() {
        shown.push("…".to_owned());
    }
    format!("?{}", shown.join("&"))
}

/// The names that may be shown. Behind a password there are none: it may go on there.
pub(super) fn names(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split('&').map_while(|word| word.split_once('='));
    words.map(|(name, _)| name).take_while(|name| is_name(name) && !is_secret(name))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

/// Whether a word of that name may hold a password, in whatever spelling.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "pwd", "auth", "secret", "token"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::super::RedisOptions;
    use super::*;

    #[test]
    fn an_error_quotes_what_is_no_password_of_an_address() {
        for (address, quoted) in [
            ("redis://h:1/x?db=4&client_name=me", "redis://h:1/x?db=…&client_name=…"),
            ("redis://me:secret@h:1/x", "redis://me:…@h:1/x"),
            ("redis+sentinel://h1,[::1]:7", "redis+sentinel://h1,[::1]:7"),
            ("redis://h?hots=typo&pass=secret&db=1", "redis://h?hots=…&…"),
        ] {
            assert_eq!(of(address), quoted);
        }
    }

    #[test]
    fn errors_never_show_a_password_however_the_address_is_broken() {
        for address in [
            "redis://me:secret@h:port/0",
            "redis://:secret@h/x",
            "redis://:sec/secret@h",
            "redis://:12/secret@h/0",
            "redis://:sec?secret@h",
            "redis://:sec?secret=1&secret@h",
            "redis://:sec@secret@h:x",
            "redis+unix:///s?pass=secret&db=x",
            "redis+unix:///s?password=secret&db=x",
            "redis://:secret%FF@h",
            "redis://a@b?secret@h",
            "redis+sentinel://:secret@h",
            "redis+sentinel://h/m?sentinel_password=secret&db=x",
            "redis+sentinel://h,:secret@h2/m/x",
            "secret",
            "me:secret@h",
            // The host, or what stands before the ':', was forgotten.
            "redis://:secret",
            "redis://me:secret/0",
            "redis://me:12secret?db=1",
            "redis+sentinel://h1,me:secret/m",
            "redis+cluster://h1:1,h2:secret",
            "redis://secret@h:x",
            // A word of another library, of another spelling, or glued to another one.
            "rediss://h?ssl_password=secret",
            "redis://h?Password=secret",
            "redis://h?PASS=secret",
            "redis://h?pwd=secret",
            "redis://h?%70assword=secret",
            "redis://h?db=1;password=secret",
            "redis://h?db=1,password=secret",
            "redis://h?db=1&amp;password=secret",
            "redis://h?my_key=secret",
            "redis://h?pass=1&secret=2",
            "redis://h?pass=1&secret",
            "redis://h?secret",
        ] {
            let error = RedisOptions::from_url(address).expect_err(address);
            assert!(!format!("{error} {error:?}").contains("secret"), "{address}: {error:?}");
        }
        let options = RedisOptions::from_url("rediss://me:secret@h/1?client_name=x");
        let options = options.expect("an address");
        assert!(!format!("{options:?}{}", options.shown()).contains("secret"));
    }
}
