//! Takes orders over HTTP and works on them, tells its health and its metrics, and stops gracefully.
//! The address of the bus is `PYMQ_URL`; `PORT` is 8000 if it is not said.

use std::env;
use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use pymq::prometheus::{CONTENT_TYPE, Metrics};
use pymq::{Bus, PutOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone)]
struct Service {
    bus: Bus,
    counts: Metrics,
}

/// The id makes a repeated request harmless: the same order is queued once within an hour.
async fn order(State(service): State<Service>, Path(id): Path<u64>) -> (StatusCode, String) {
    let once = PutOptions::new().id(format!("order-{id}"));
    match service.bus.queue("orders").put_with(&id, once).await {
        Ok(_) => (StatusCode::ACCEPTED, format!("accepted {id}\n")),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

async fn ship(id: u64) -> Result<(), String> {
    println!("begun {id}");
    tokio::time::sleep(Duration::from_millis(500)).await; // stands for work
    println!("shipped {id}");
    Ok(())
}

/// It asks nobody, so a supervisor may look as often as it likes.
async fn ready(State(service): State<Service>) -> (StatusCode, String) {
    let health = service.bus.health();
    let status = match health.state.is_connected() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}, {} reconnects\n", health.state, health.reconnects))
}

/// It asks the broker how the queues stand.
async fn metrics(State(service): State<Service>) -> ([(&'static str, &'static str); 1], String) {
    ([("content-type", CONTENT_TYPE)], service.counts.text(&service.bus).await)
}

async fn stopped() {
    let mut asked = signal(SignalKind::terminate()).expect("the system has SIGTERM");
    tokio::select! {
        _ = asked.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::var("PYMQ_URL").unwrap_or_else(|_| "redis://localhost".to_owned());
    let port = env::var("PORT").unwrap_or_else(|_| "8000".to_owned());
    let bus = Bus::builder(&address).connect_wait(Duration::from_secs(30)).connect().await?;
    let counts = Metrics::new();
    bus.observe(counts.clone());
    let _worker = bus.queue("orders").work(4, ship)?;

    let app = Router::new()
        .route("/orders/{id}", post(order))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Service { bus: bus.clone(), counts });
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
    bus.drain().await?; // takes no more, and finishes what is in hand
    println!("left in good order");
    Ok(())
}
