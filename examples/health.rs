//! Health for whoever supervises a service, and metrics for Prometheus: `health [ADDRESS]`.
//!
//! `/ready` says whether the bus can be reached, `/metrics` what Prometheus scrapes. In axum each is one
//! handler (docs/deploy/axum.md); here a few lines of HTTP stand in its place, so that nothing else
//! is needed.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use pymq::Bus;
use pymq::prometheus::{CONTENT_TYPE, Metrics};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What is answered: a status, a type and a text.
type Answer = (&'static str, &'static str, String);

/// Nobody is asked for it, so a supervisor may look as often as it likes.
fn ready(bus: &Bus) -> Answer {
    let health = bus.health();
    let status = if health.state.is_connected() { "200 OK" } else { "503 Service Unavailable" };
    (status, "text/plain", format!("{}, {} reconnects\n", health.state, health.reconnects))
}

async fn metrics(bus: &Bus, metrics: &Metrics) -> Answer {
    ("200 OK", CONTENT_TYPE, metrics.text(bus).await)
}

async fn answer(stream: TcpStream, bus: Bus, counts: Metrics) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    // The headers are of no interest, but the client wants them read.
    let mut header = String::new();
    while stream.read_line(&mut header).await? > 2 {
        header.clear();
    }
    let (status, kind, text) = match request.split(' ').nth(1) {
        Some("/ready") => ready(&bus),
        Some("/metrics") => metrics(&bus, &counts).await,
        _ => ("404 Not Found", "text/plain", "it is /ready or /metrics\n".to_owned()),
    };
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "memory://".to_owned());
    let bus = Bus::connect(&address).await?;
    let counts = Metrics::new();
    bus.observe(counts.clone());
    bus.queue("jobs").put(&"sweep").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/ready", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let (bus, counts) = (bus.clone(), counts.clone());
        // A client that goes away in the middle is nobody's trouble.
        tokio::spawn(async move { answer(stream, bus, counts).await.ok() });
    }
}
