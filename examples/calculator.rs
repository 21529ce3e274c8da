//! Calls to one of several providers, and to all: `calculator`, in memory.
//!
//! With several processes: `calculator serve ADDRESS` in as many as you like, then `calculator
//! ADDRESS`, or `calculator.py ADDRESS`, the same client in Python.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::sync::atomic::{AtomicU64, Ordering};

use pymq::{Bus, ErrorKind};

/// Python: `stub("calculator.divide")(1, by=2)`.
#[pymq::service("calculator")]
trait Calculator {
    async fn divide(&self, number: f64, by: f64) -> Result<f64, String>;
    /// The sum and how many numbers there were.
    async fn sum(&self, numbers: Vec<f64>) -> (f64, usize);
    /// How many calls this calculator has answered.
    async fn answered(&self) -> u64;
}

#[derive(Default)]
struct Abacus {
    answered: AtomicU64,
}

impl Calculator for Abacus {
    async fn divide(&self, number: f64, by: f64) -> Result<f64, String> {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if by == 0.0 { Err(format!("{number} divided by nothing")) } else { Ok(number / by) }
    }

    async fn sum(&self, numbers: Vec<f64>) -> (f64, usize) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        (numbers.iter().sum(), numbers.len())
    }

    async fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [] => {
            let bus = Bus::connect("memory://").await?;
            let _one = bus.expose(CalculatorServer::new(Abacus::default())).await?;
            let _other = bus.expose(CalculatorServer::new(Abacus::default())).await?;
            calculate(&bus).await?;
        }
        [serve, address] if serve == "serve" => {
            let bus = Bus::connect(address).await?;
            let _service = bus.expose(CalculatorServer::new(Abacus::default())).await?;
            println!("serving");
            std::future::pending::<()>().await;
        }
        [address] => calculate(&Bus::connect(address).await?).await?,
        _ => return Err("usage: calculator [ADDRESS], or calculator serve ADDRESS".into()),
    }
    Ok(())
}

async fn calculate(bus: &Bus) -> pymq::Result<()> {
    let calculator = CalculatorClient::new(bus);
    println!("1 / 4 = {}", calculator.divide(1.0, 4.0).await?);
    let (sum, count) = calculator.sum(vec![1.0, 2.0, 3.5]).await?;
    println!("the sum of {count} numbers is {sum}");
    match calculator.divide(1.0, 0.0).await {
        Err(error) if error.kind() == ErrorKind::Remote => println!("1 / 0: {error}"),
        other => println!("1 / 0 = {}", other?),
    }
    // One provider has executed each of these calls; now all of them are asked.
    let mut answered = Vec::new();
    for reply in bus.stub::<(), u64>("calculator.answered").call_all(()).await? {
        answered.push(reply.result?);
    }
    println!("{} calculators have answered {} calls", answered.len(), answered.iter().sum::<u64>());
    Ok(())
}
