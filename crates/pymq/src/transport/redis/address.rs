//! Addresses of servers, as people write them in one line.
//!
//! The one invariant: an error quotes nothing of an address that might be a piece of a password,
//! however the address is broken. It understands the words and leaves what they lead to, files and
//! hosts, to whoever connects.

use std::path::PathBuf;
use std::time::Duration;

use super::options::{RedisEndpoint, RedisOptions};
use super::quotation;
use super::sentinel::RedisSentinels;
use crate::error::{Error, Result};
use crate::transport::{Tls, TlsVerification};

const FORMS: &str = "use redis://user:password@host:port/database, rediss:// for TLS, \
                     redis+unix:///path?db=0, redis+sentinel://host:port,host:port/master, or \
                     redis+cluster://host:port,host:port";

/// Reads an address, see [`RedisOptions::from_url`].
pub(super) fn read(address: &str) -> Result<RedisOptions> {
    parse(address).map_err(|why| Error::config(quotation::of(address), format!("{why}; {FORMS}")))
}

fn parse(address: &str) -> Result<RedisOptions, String> {
    let (scheme, rest) = address.split_once("://").ok_or("it has no scheme")?;
    let scheme = scheme.replacen("valkey", "redis", 1);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match place.find('/') {
        Some(slash) => place.split_at(slash),
        None => (place, ""),
    };
    if [path, query].iter().any(|part| part.contains('@')) && !authority.contains('@') {
        return Err("in a password '/' is written %2F and '?' %3F, elsewhere '@' is %40".to_owned());
    }
    let (credentials, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut options = match scheme.as_str() {
        "redis" | "rediss" => over_tcp(host, path)?,
        "redis+sentinel" | "rediss+sentinel" => by_sentinels(host, path)?,
        "redis+cluster" | "rediss+cluster" => {
            let mut options = RedisOptions::new(RedisEndpoint::Cluster(hosts(host, 6379)?));
            options.database = database(path)?;
            options
        }
        "redis+unix" => {
            let socket = PathBuf::from(decoded(&format!("{host}{path}"), "the path")?);
            if socket.as_os_str().is_empty() {
                return Err("it names no socket".to_owned());
            }
            RedisOptions::new(RedisEndpoint::Unix(socket))
        }
        _ => return Err("it is of another scheme".to_owned()),
    };
    if scheme.starts_with("rediss") {
        options.settings.tls = Some(Tls::default());
    }
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    options.settings.username = some(decoded(user, "the user")?);
    options.settings.password = some(decoded(password, "the password")?);
    let mut check_hostname = true;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (word, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(&value.replace('+', " "), "the value of a word")?;
        if word == "ssl_check_hostname" {
            check_hostname = truth(word, &value)?;
        } else if !take(&mut options, word, value)? {
            let word = quotation::names(query).find(|name| *name == word).unwrap_or("…");
            return Err(format!("it has a word {word:?} that nobody knows here"));
        }
    }
    match &mut options.settings.tls {
        Some(tls) if !check_hostname && tls.verification == TlsVerification::Full => {
            tls.verification = TlsVerification::Chain;
        }
        None if !check_hostname => return Err(only_with_tls("ssl_check_hostname")),
        _ => {}
    }
    Ok(options)
}

fn over_tcp(host: &str, path: &str) -> Result<RedisOptions, String> {
    let (host, port) = host_and_port(host, 6379)?;
    let host = host.unwrap_or_else(|| "localhost".to_owned());
    let mut options = RedisOptions::new(RedisEndpoint::Tcp(host, port));
    options.database = database(path)?;
    Ok(options)
}

fn by_sentinels(hosts: &str, path: &str) -> Result<RedisOptions, String> {
    let path = path.trim_matches('/');
    let (master, rest) = path.split_once('/').unwrap_or((path, ""));
    let master = some(decoded(master, "the master")?)
        .ok_or("it does not say what the sentinels call the master, after the hosts and a '/'")?;
    let sentinels = RedisSentinels::new(self::hosts(hosts, 26379)?, master);
    let mut options = RedisOptions::new(RedisEndpoint::Sentinels(sentinels));
    options.database = database(rest)?;
    Ok(options)
}

/// Several hosts, with commas between them.
fn hosts(text: &str, usual: u16) -> Result<Vec<(String, u16)>, String> {
    let lacking = "a host is missing: one stands at least, and one between two commas";
    let host = |text| match host_and_port(text, usual)? {
        (Some(host), port) => Ok((host, port)),
        (None, _) => Err(lacking.to_owned()),
    };
    text.split(',').map(host).collect()
}

/// The host, if it names one, and the port; the usual one where it names none.
pub(super) fn host_and_port(text: &str, usual: u16) -> Result<(Option<String>, u16), String> {
    let (host, port) = match text.rfind(']') {
        Some(end) if text.starts_with('[') => (&text[1..end], &text[end + 1..]),
        _ => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| "the port is no number from 0 to 65535")?,
        None if port.is_empty() => usual,
        None => return Err("something stands between the host and its port".to_owned()),
    };
    Ok((some(decoded(host, "the host")?), port))
}

fn database(path: &str) -> Result<i64, String> {
    match path.trim_matches('/') {
        "" => Ok(0),
        database => number("the database", database),
    }
}

/// Does what a word of the query says; `false` for one that nobody knows.
fn take(options: &mut RedisOptions, word: &str, value: String) -> Result<bool, String> {
    match word {
        "db" => options.database = number(word, &value)?,
        "user" | "username" => options.settings.username = some(value),
        "pass" | "password" => options.settings.password = some(value),
        "client_name" => options.settings.client_name = some(value),
        "connect_timeout" | "socket_connect_timeout" => {
            options.settings.connect_timeout = Some(seconds(word, &value)?);
        }
        "connect_wait" => options.settings.connect_wait = Some(seconds(word, &value)?),
        "reconnect_wait" => options.settings.reconnect_wait = Some(seconds(word, &value)?),
        "replicas" => {
            options.replicas = value.parse().map_err(|_| format!("{word} is no number"))?;
        }
        "sentinel_username" => sentinels(options, word)?.username = some(value),
        "sentinel_password" => sentinels(options, word)?.password = some(value),
        _ => {
            let Some(understood) = Word::find(word) else { return Ok(false) };
            let tls = options.settings.tls.as_mut().ok_or_else(|| only_with_tls(word))?;
            match understood {
                Word::Ca => tls.ca = some(value).map(PathBuf::from),
                Word::Certificate => tls.certificate = some(value).map(PathBuf::from),
                Word::Key => tls.key = some(value).map(PathBuf::from),
                Word::Verify => tls.verification = verification(word, &value)?,
            }
        }
    }
    Ok(true)
}

fn sentinels<'a>(
    options: &'a mut RedisOptions,
    word: &str,
) -> Result<&'a mut RedisSentinels, String> {
    match &mut options.endpoint {
        RedisEndpoint::Sentinels(sentinels) => Ok(sentinels),
        _ => Err(format!("{word} means something with redis+sentinel:// only")),
    }
}

/// The words of TLS, ours and those of redis-py.
enum Word {
    Ca,
    Certificate,
    Key,
    Verify,
}

impl Word {
    fn find(word: &str) -> Option<Self> {
        match word {
            "ca" | "ssl_ca_certs" | "ssl_ca_path" => Some(Self::Ca),
            "cert" | "ssl_certfile" => Some(Self::Certificate),
            "key" | "ssl_keyfile" => Some(Self::Key),
            "verify" | "ssl_cert_reqs" => Some(Self::Verify),
            _ => None,
        }
    }
}

fn verification(word: &str, value: &str) -> Result<TlsVerification, String> {
    match value {
        // A client has no use for a certificate that may be missing: Python treats both alike.
        "full" | "required" | "optional" => Ok(TlsVerification::Full),
        "chain" => Ok(TlsVerification::Chain),
        "none" => Ok(TlsVerification::Nothing),
        _ => Err(format!("{word} is full, chain or none")),
    }
}

fn only_with_tls(word: &str) -> String {
    format!("{word} means something with rediss:// only")
}

fn truth(word: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "0" | "" => Ok(false),
        _ => Err(format!("{word} is true or false")),
    }
}

fn number(word: &str, value: &str) -> Result<i64, String> {
    value.parse().map_err(|_| format!("{word} is no number"))
}

fn seconds(word: &str, value: &str) -> Result<Duration, String> {
    let seconds: f64 = value.parse().map_err(|_| format!("{word} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("{word} is a number of seconds above 0"))
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A text without its percent-encoding; what is no encoding stays as it is.
fn decoded(text: &str, what: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = match after {
            [high, low, ..] if *first == b'%' => hexadecimal(*high).zip(hexadecimal(*low)),
            _ => None,
        };
        match byte {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("{what} is no UTF-8 once its %… are decoded"))
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Settings;

    fn options(address: &str) -> RedisOptions {
        read(address).unwrap_or_else(|error| panic!("{address} is an address: {error}"))
    }

    fn tcp(host: &str, port: u16) -> RedisEndpoint {
        RedisEndpoint::Tcp(host.to_owned(), port)
    }

    #[test]
    fn an_address_is_read_whole() {
        let options = options("redis://me:p%40ss@example.org:7000/3");
        assert_eq!(options.endpoint, tcp("example.org", 7000));
        assert_eq!(options.database, 3);
        assert_eq!(options.settings.username.as_deref(), Some("me"));
        assert_eq!(options.settings.password.as_deref(), Some("p@ss"));
        assert_eq!(options.settings.tls, None);
    }

    #[test]
    fn what_an_address_leaves_out_is_the_usual() {
        for address in ["redis://", "redis://localhost", "redis://localhost:6379/"] {
            let options = options(address);
            assert_eq!(options.endpoint, tcp("localhost", 6379));
            assert_eq!((options.database, options.settings), (0, Settings::default()));
        }
        assert_eq!(options("redis://me@h").settings.username.as_deref(), Some("me"));
        assert_eq!(options("redis://:p@h").settings.password.as_deref(), Some("p"));
    }

    #[test]
    fn a_host_may_be_an_ipv6_address_with_and_without_a_port() {
        assert_eq!(options("redis://[::1]").endpoint, tcp("::1", 6379));
        assert_eq!(options("redis://:p@[fe80::1%25eth0]:1/2").endpoint, tcp("fe80::1%eth0", 1));
        assert_eq!(options("redis://[::1]:7").shown(), "redis://[::1]:7");
    }

    #[test]
    fn valkey_is_another_word_for_redis() {
        for (theirs, ours) in [
            ("valkey://me:p@h:7/3", "redis://me:p@h:7/3"),
            ("valkeys://h?verify=chain", "rediss://h?verify=chain"),
            ("valkey+unix:///s", "redis+unix:///s"),
            ("valkeys+sentinel://h/m", "rediss+sentinel://h/m"),
        ] {
            let [theirs, ours] = [theirs, ours].map(|address| format!("{:?}", options(address)));
            assert_eq!(theirs, ours);
        }
    }

    #[test]
    fn sentinels_are_named_with_what_they_call_the_master() {
        let options = options(
            "rediss+sentinel://me:p@h1,[::1]:7,h3:8/my%20master/2?sentinel_username=s\
             &sentinel_password=s%2Fp&client_name=x&verify=chain",
        );
        let RedisEndpoint::Sentinels(sentinels) = &options.endpoint else {
            panic!("{options:?} has no sentinels");
        };
        let hosts = [("h1", 26379), ("::1", 7), ("h3", 8)];
        assert_eq!(sentinels.hosts, hosts.map(|(host, port)| (host.to_owned(), port)));
        assert_eq!(sentinels.master, "my master");
        assert_eq!(sentinels.username.as_deref(), Some("s"));
        assert_eq!(sentinels.password.as_deref(), Some("s/p"));
        assert_eq!(options.database, 2);
        assert_eq!(options.settings.password.as_deref(), Some("p"));
        let tls = options.settings.tls.as_ref();
        assert_eq!(tls.map(|tls| tls.verification), Some(TlsVerification::Chain));
        assert_eq!(options.shown(), "rediss+sentinel://h1:26379,[::1]:7,h3:8/my master");
        assert!(!format!("{options:?}").contains("s/p"));
    }

    #[test]
    fn a_password_may_hold_what_an_address_gives_meaning_to() {
        for (written, meant) in [
            ("a%3Ab%2Fc%3Fd%23e%25", "a:b/c?d#e%"),
            ("a:b@c#d+e", "a:b@c#d+e"),
            ("100%", "100%"),
            ("%C3%A9", "é"),
        ] {
            let options = options(&format!("redis://:{written}@h/1"));
            assert_eq!(options.settings.password.as_deref(), Some(meant), "{written}");
            assert_eq!(options.endpoint, tcp("h", 6379));
        }
    }

    #[test]
    fn a_unix_address_names_a_path_and_what_goes_with_it() {
        for address in [
            "redis+unix:///run/my%20redis.sock?db=2&user=me&pass=p",
            "redis+unix://me:p@/run/my%20redis.sock?db=2",
            "redis+unix://me@/run/my%20redis.sock?db=2&password=p",
        ] {
            let options = options(address);
            assert_eq!(options.endpoint, RedisEndpoint::Unix("/run/my redis.sock".into()));
            assert_eq!(options.database, 2);
            assert_eq!(options.settings.username.as_deref(), Some("me"));
            assert_eq!(options.settings.password.as_deref(), Some("p"));
        }
    }

    #[test]
    fn the_words_of_the_query_are_understood() {
        let options = options(
            "redis://h/1?db=4&client_name=me&connect_timeout=2.5&reconnect_wait=1&user=u&pass=a+b",
        );
        assert_eq!(options.database, 4);
        assert_eq!(options.settings.client_name.as_deref(), Some("me"));
        assert_eq!(options.settings.connect_timeout(), Duration::from_millis(2500));
        assert_eq!(options.settings.reconnect_wait(), Duration::from_secs(1));
        assert_eq!(options.settings.username.as_deref(), Some("u"));
        assert_eq!(options.settings.password.as_deref(), Some("a b"));
    }

    #[test]
    fn tls_takes_our_words_and_those_of_redis_py() {
        for address in [
            "rediss://h?ca=/ca.pem&cert=/c.pem&key=/k.pem&verify=chain",
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem\
             &ssl_check_hostname=False&ssl_cert_reqs=required",
        ] {
            let tls = options(address).settings.tls.expect("rediss:// is TLS");
            assert_eq!(tls.ca, Some("/ca.pem".into()));
            assert_eq!(tls.certificate, Some("/c.pem".into()));
            assert_eq!(tls.key, Some("/k.pem".into()));
            assert_eq!(tls.verification, TlsVerification::Chain);
        }
        let verification = |words: &str| {
            options(&format!("rediss://h{words}"))
                .settings
                .tls
                .expect("rediss:// is TLS")
                .verification
        };
        assert_eq!(verification(""), TlsVerification::Full);
        assert_eq!(verification("?verify=none"), TlsVerification::Nothing);
        let none = "?ssl_check_hostname=false&ssl_cert_reqs=none";
        assert_eq!(verification(none), TlsVerification::Nothing);
    }

    #[test]
    fn what_cannot_be_understood_is_named_with_the_forms_that_can() {
        for (address, named) in [
            ("redis://h:port", "port"),
            ("redis://h:65536", "port"),
            ("redis://[::1]7", "between the host and its port"),
            ("redis://h/zero", "the database"),
            ("redis://h/1/2", "the database"),
            ("redis://h?db=x", "db"),
            ("redis://h?hots=typo", "hots"),
            ("redis://h?connect_timeout=0", "connect_timeout"),
            ("redis://h?reconnect_wait=soon", "reconnect_wait"),
            ("redis://h?ca=/ca.pem", "rediss://"),
            ("redis://h?ssl_check_hostname=false", "rediss://"),
            ("rediss://h?verify=perhaps", "full, chain or none"),
            ("rediss://h?ssl_check_hostname=perhaps", "true or false"),
            ("redis+unix://", "socket"),
            ("redis://%FF@h", "UTF-8"),
            ("redis+sentinel://h", "call the master"),
            ("redis+sentinel://h/", "call the master"),
            ("redis+sentinel://h,/m", "a host is missing"),
            ("redis+sentinel:///m", "a host is missing"),
            ("redis+cluster://", "a host is missing"),
            ("redis+cluster://h/x", "the database"),
            ("redis+sentinel://h:x/m", "port"),
            ("redis+sentinel://h/m/n", "the database"),
            ("redis+sentinel://h/m?ca=/ca.pem", "rediss://"),
            ("redis://h?sentinel_password=p", "redis+sentinel://"),
            ("redis+nonsense://h", "another scheme"),
        ] {
            let error = read(address).expect_err(address);
            assert_eq!(error.kind(), crate::ErrorKind::Config);
            let text = error.to_string();
            assert!(text.contains(named) && text.contains("redis+unix:///path"), "{text}");
        }
    }
}
