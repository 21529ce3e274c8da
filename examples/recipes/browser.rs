//! Stream to a browser: events of the bus as server-sent events. A framework's streaming response
//! does the same: one subscription for each browser, left when the browser leaves.
//!
//! With a port as argument it serves until it is stopped; without one it shows itself and ends.

use std::time::Duration;

use pymq::Bus;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn answer(bus: Bus, browser: TcpStream) -> Outcome {
    let mut browser = BufReader::new(browser);
    let mut line = String::from("request");
    while !line.trim().is_empty() {
        line.clear();
        browser.read_line(&mut line).await?; // the request and its headers
    }
    let mut prices = bus.pattern::<f64>("prices.*").await?;
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n";
    browser.write_all(head.as_bytes()).await?;
    while let Some(event) = prices.recv().await {
        let (topic, price) = event?;
        browser.write_all(format!("data: {topic} {price}\n\n").as_bytes()).await?;
    }
    Ok(())
}

async fn serve(bus: Bus, listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (browser, _) = listener.accept().await?;
        // A browser that left ends its own answer, at the next event.
        tokio::spawn(answer(bus.clone(), browser));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let port = std::env::args().nth(1);
    let bus = Bus::connect("memory://").await?;
    let listener =
        TcpListener::bind(format!("127.0.0.1:{}", port.as_deref().unwrap_or("0"))).await?;
    let address = listener.local_addr()?;
    println!("http://{address}");
    tokio::spawn(serve(bus.clone(), listener));

    let prices = bus.topic::<f64>("prices.tea");
    let publishing = async {
        for number in 0..1_000_000 {
            prices.publish(&(1.0 + f64::from(number) / 10.0)).await?;
            tokio::time::sleep(Duration::from_millis(if port.is_some() { 500 } else { 5 })).await;
        }
        Ok(())
    };
    match port {
        Some(_) => publishing.await,
        None => tokio::select! { ended = publishing => ended, seen = look(address) => seen },
    }
}

/// What a browser does: asks, and reads events.
async fn look(address: std::net::SocketAddr) -> Outcome {
    let mut server = BufReader::new(TcpStream::connect(address).await?);
    server.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    let mut lines = server.lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(event) = line.strip_prefix("data: ") {
            println!("{event}");
            assert!(event.starts_with("prices.tea "));
            return Ok(());
        }
    }
    Err("the server ended".into())
}
