//! TLS: who is trusted, who is refused and in which words, and that nothing goes without it.

mod authority;
mod place;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use authority::{Authority, Files, Good};
use futures_core::Stream;
use futures_util::StreamExt;
use place::guarded;
use place::server::watched::Sentinel;
use place::server::{RedisServer, free_port};
use pymq::transport::Tls;
use pymq::{Bus, Error, ErrorKind};

const GUARD: Duration = Duration::from_secs(180);
const HERE: &[&str] = &["127.0.0.1", "localhost"];

/// A server that speaks TLS, and on another port plain text, to look at it with.
struct TlsServer {
    server: RedisServer,
    port: u16,
}

impl TlsServer {
    fn start(files: &Files, further: &[&str]) -> Self {
        let port = free_port();
        let number = port.to_string();
        let mut arguments = vec!["--tls-port", &number];
        arguments.extend(["--tls-cert-file", &files.certificate, "--tls-key-file", &files.key]);
        arguments.extend(further);
        Self { server: RedisServer::start_with(&arguments), port }
    }

    /// One that asks its clients for nothing.
    fn trusting(authority: &Authority, names: &[&str]) -> Self {
        let files = authority.issue(names, Good::Now);
        Self::start(&files, &["--tls-auth-clients", "no"])
    }

    fn url(&self, query: &str) -> String {
        format!("rediss://127.0.0.1:{}/0?reconnect_wait=60&{query}", self.port)
    }

    async fn connect(&self, query: &str) -> Bus {
        Bus::connect(&self.url(query)).await.expect("the server is there and trusted")
    }

    async fn refuse(&self, query: &str) -> Error {
        Bus::connect(&self.url(query)).await.expect_err("it should not be trusted")
    }
}

/// Whether the server at hand was built with TLS: some distributions' is not.
fn has_tls() -> bool {
    let binary = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    // Every server ends at once, and says what it misses: a certificate, or TLS itself.
    let output = Command::new(binary)
        .args(["--port", "0", "--tls-port", &free_port().to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("there is a redis-server");
    let known = String::from_utf8_lossy(&output.stdout).contains("-file configured");
    #[expect(clippy::print_stderr, reason = "a test that shows nothing says so")]
    if !known {
        eprintln!("this redis-server was built without TLS: nothing is shown");
    }
    known
}

async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    stream.next().await.expect("the stream is open")
}

/// Events, a queue and calls between two buses, each connection of them used.
async fn talk(one: &Bus, other: &Bus) {
    let mut heard = one.topic::<u32>("topic").subscribe().await.expect("subscribed");
    other.topic("topic").publish(&7).await.expect("published");
    assert_eq!(next(&mut heard).await.expect("an event"), 7);
    let (jobs, results) = (one.queue::<u32>("jobs"), other.queue("jobs"));
    let (got, put) = tokio::join!(jobs.get(), results.put(&8));
    put.expect("put");
    assert_eq!(got.expect("an item"), 8);
    let double = |(a,): (u32,)| async move { a.checked_mul(2).ok_or("too large") };
    let _service = one.expose_fn("double", double).await.expect("exposed");
    assert_eq!(other.stub::<(u32,), u32>("double").call((21,)).await.expect("a result"), 42);
}

#[tokio::test]
async fn events_queues_and_calls_go_over_tls_and_nothing_goes_without() {
    if !has_tls() {
        return;
    }
    let authority = Authority::new();
    let server = TlsServer::trusting(&authority, HERE);
    let query = format!("ca={}", authority.ca());
    guarded(async {
        let (one, other) = (server.connect(&query).await, server.connect(&query).await);
        talk(&one, &other).await;
        let clients = server.server.raw().run(&["CLIENT", "LIST"]).text();
        let ours: Vec<_> = clients.lines().filter(|line| line.contains(" name=pymq-")).collect();
        for role in ["commands", "subscriptions", "waiting"] {
            assert!(ours.iter().any(|line| line.contains(&format!("pymq-{role}"))), "{clients}");
        }
        let over_tls = format!(" laddr=127.0.0.1:{} ", server.port);
        assert!(ours.iter().all(|line| line.contains(&over_tls)), "{clients}");
        let by_name = server.url(&query).replace("127.0.0.1", "localhost");
        let third = Bus::connect(&by_name).await.expect("a name in the certificate will do");
        talk(&one, &third).await;
    })
    .await;
}

#[tokio::test]
async fn an_unknown_authority_is_refused_unless_verification_is_turned_off() {
    if !has_tls() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = TlsServer::trusting(&authority, HERE);
    for query in [format!("ca={}", stranger.ca()), format!("ca={}&verify=chain", stranger.ca())] {
        let error = server.refuse(&query).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains("is not trusted here: name its certificate with ca=PATH"), "{text}");
        assert!(text.contains("rediss://127.0.0.1"), "{text}");
    }
    let (one, other) = (server.connect("verify=none").await, server.connect("verify=none").await);
    guarded(talk(&one, &other)).await;
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused_unless_only_the_chain_counts() {
    if !has_tls() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = TlsServer::trusting(&authority, &["elsewhere.example"]);
    let error = server.refuse(&format!("ca={}", authority.ca())).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("is for another host"), "{error}");
    server.connect(&format!("ca={}&verify=chain", authority.ca())).await;
    server.refuse(&format!("ca={}&verify=chain", stranger.ca())).await;
}

#[tokio::test]
async fn a_certificate_that_has_run_out_is_refused() {
    if !has_tls() {
        return;
    }
    let authority = Authority::new();
    let files = authority.issue(HERE, Good::UntilYesterday);
    let server = TlsServer::start(&files, &["--tls-auth-clients", "no"]);
    for verify in ["full", "chain"] {
        let error = server.refuse(&format!("ca={}&verify={verify}", authority.ca())).await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("has run out: renew it"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_of_the_clients_is_shown_where_it_is_demanded() {
    if !has_tls() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = authority.issue(HERE, Good::Now);
    let ca = authority.ca();
    let server =
        TlsServer::start(&files, &["--tls-auth-clients", "yes", "--tls-ca-cert-file", &ca]);
    let with = |files: &Files| format!("ca={ca}&cert={}&key={}", files.certificate, files.key);
    let good = with(&authority.issue(&["worker"], Good::Now));
    let (one, other) = (server.connect(&good).await, server.connect(&good).await);
    guarded(talk(&one, &other)).await;
    let missing = server.refuse(&format!("ca={ca}")).await;
    assert_eq!(missing.kind(), ErrorKind::Config, "{missing}");
    assert!(missing.to_string().contains("give cert=PATH and key=PATH"), "{missing}");
    let error = server.refuse(&with(&stranger.issue(&["worker"], Good::Now))).await;
    assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::Connection), "{error}");
}

#[tokio::test]
async fn a_restarted_server_is_found_again_over_tls() {
    if !has_tls() {
        return;
    }
    let authority = Authority::new();
    let mut server = TlsServer::trusting(&authority, HERE);
    let query = format!("ca={}", authority.ca());
    let (one, other) = (server.connect(&query).await, server.connect(&query).await);
    guarded(async {
        talk(&one, &other).await;
        let mut heard = one.topic::<u32>("after").subscribe().await.expect("subscribed");
        let jobs = one.queue::<u32>("after");
        let waiting = tokio::spawn(async move { jobs.get().await });
        server.server.restart();
        let lagged = next(&mut heard).await.expect_err("a gap is told");
        assert_eq!(lagged.kind(), ErrorKind::Lagged);
        let began = Instant::now();
        while let Err(error) = other.topic("after").publish(&9).await {
            assert!(began.elapsed() < GUARD, "{error}");
        }
        assert_eq!(next(&mut heard).await.expect("an event"), 9);
        other.queue("after").put(&10).await.expect("put");
        assert_eq!(waiting.await.expect("no panic").expect("an item"), 10);
        talk(&one, &other).await;
    })
    .await;
}

#[tokio::test]
async fn what_an_address_does_not_say_the_builder_does() {
    if !has_tls() {
        return;
    }
    let authority = Authority::new();
    let files = authority.issue(HERE, Good::Now);
    let ca = authority.ca();
    let server =
        TlsServer::start(&files, &["--tls-auth-clients", "yes", "--tls-ca-cert-file", &ca]);
    let tls = Tls::default().ca(&ca).certificate(&files.certificate, &files.key);
    for scheme in ["redis", "rediss"] {
        let url = format!("{scheme}://127.0.0.1:{}", server.port);
        Bus::builder(&url).tls(tls.clone()).connect().await.expect("the builder says it all");
    }
    let twice = Bus::builder(&server.url(&format!("ca={ca}"))).tls(tls).connect().await;
    let error = twice.expect_err("two answers");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("\"tls\" already"), "{error}");
}

#[tokio::test]
async fn tls_to_a_plain_port_and_plain_text_to_a_tls_port_are_told_apart() {
    if !has_tls() {
        return;
    }
    let authority = Authority::new();
    let server = TlsServer::trusting(&authority, HERE);
    let to_plain = format!(
        "rediss://127.0.0.1:{}?connect_timeout=1&ca={}",
        server.server.port(),
        authority.ca()
    );
    let error = Bus::connect(&to_plain).await.expect_err("no TLS there");
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("use redis://"), "{error}");
    let to_tls = format!("redis://127.0.0.1:{}", server.port);
    let error = Bus::connect(&to_tls).await.expect_err("TLS there");
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("use rediss://"), "{error}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_before_anything_is_tried() {
    let authority = Authority::new();
    let files = authority.issue(&["worker"], Good::Now);
    let other = authority.issue(&["other"], Good::Now);
    let (ca, certificate, key) = (authority.ca(), files.certificate, files.key);
    for (query, named) in [
        ("ca=/nowhere/ca.pem".to_owned(), "/nowhere/ca.pem"),
        (format!("ca={key}"), &*key),
        (format!("ca={ca}&cert=/nowhere/c.pem&key={key}"), "/nowhere/c.pem"),
        (format!("ca={ca}&cert={certificate}&key=/nowhere/k.pem"), "/nowhere/k.pem"),
        (format!("ca={ca}&cert={certificate}&key={ca}"), "(PEM, without a password)"),
        (format!("ca={ca}&cert={certificate}&key={}", other.key), "no client certificate"),
        (format!("ca={ca}&cert={certificate}"), "give both"),
        (format!("ca={ca}&key={key}"), "give both"),
    ] {
        // Nobody listens on port 1: what is said is said before that is found out.
        let url = format!("rediss://127.0.0.1:1?{query}");
        let error = Bus::connect(&url).await.expect_err("it cannot be used");
        assert_eq!(error.kind(), ErrorKind::Config, "{query}: {error}");
        assert!(error.to_string().contains(named), "{query}: {error}");
    }
    let error = Bus::builder("redis+unix:///run/redis.sock").tls(Tls::default()).connect().await;
    let error = error.expect_err("it has no TLS");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("a unix socket has no TLS"), "{error}");
    let error = Bus::connect("rediss://no_such host:1").await.expect_err("no host has that name");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no host name"), "{error}");
}

#[tokio::test]
async fn sentinels_and_the_master_that_they_name_are_spoken_to_over_tls() {
    if !has_tls() {
        return;
    }
    let authority = Authority::new();
    let files = authority.issue(HERE, Good::Now);
    let server = TlsServer::start(&files, &["--tls-auth-clients", "no"]);
    let port = free_port();
    let sentinel = Sentinel::start(&[
        format!("tls-port {port}"),
        format!("tls-cert-file {}", files.certificate),
        format!("tls-key-file {}", files.key),
        format!("tls-ca-cert-file {}", authority.ca()),
        "tls-auth-clients no".to_owned(),
        "tls-replication yes".to_owned(),
        format!("sentinel monitor mymaster 127.0.0.1 {} 1", server.port),
    ]);
    guarded(async {
        let url = format!("rediss+sentinel://127.0.0.1:{port}/mymaster");
        let trusting = format!("{url}?ca={}", authority.ca());
        let one = Bus::connect(&trusting).await.expect("both are trusted");
        let other = Bus::connect(&trusting).await.expect("both are trusted");
        talk(&one, &other).await;
        let over_tls = format!("rediss://127.0.0.1:{}", server.port);
        assert_eq!(one.health().server, Some(over_tls));
        let error = Bus::connect(&url).await.expect_err("the system does not trust them");
        assert_eq!(error.kind(), ErrorKind::Connection);
        assert!(error.to_string().contains("no sentinel answers"), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
        let plain = format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port());
        let refused = Bus::connect(&plain).await.expect_err("the master speaks TLS only");
        assert_eq!(refused.kind(), ErrorKind::Connection, "{refused}");
    })
    .await;
}
