//! The broker as a program: `pymq-tcp [ADDRESS]`, `127.0.0.1:7117` without one.
//!
//! It prints the address that it listens on and serves until it is killed.
#![allow(clippy::print_stdout, reason = "its address goes to whoever started it")]

use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7117".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("{}", listener.local_addr()?);
    Ok(pymq_tcp::serve(listener).await?)
}
