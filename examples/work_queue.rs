//! Work shared by three workers, one of which is killed, and nothing is lost: `work_queue [ADDRESS]`.
//!
//! In memory the workers are tasks, and killed means dropped in the middle of a job. With an
//! address, e.g. `ipc://jobs`, for which no server is needed, or `redis://localhost`, they are
//! processes, killed by the system. `work_queue work
//! ADDRESS` is one more of them; `worker.py` works at the same jobs in Python.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::time::Duration;

use pymq::{Bus, Event, Events, Queue, Worker};
use serde::{Deserialize, Serialize};

const JOBS: u32 = 12;

#[derive(Clone, Serialize, Deserialize)]
struct Job {
    number: u32,
    seconds: f64,
}

/// What workers tell about a job, for whoever watches.
#[derive(Serialize, Deserialize, Event)]
#[event(topic = "jobs.progress")]
struct Progress {
    worker: u32,
    number: u32,
    done: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [] => oversee("memory://").await,
        [work, address] if work == "work" => serve(address).await,
        [address] => oversee(address).await,
        _ => Err("usage: work_queue [ADDRESS], or work_queue work ADDRESS".into()),
    }
}

/// The jobs. A worker of which nothing is heard for two seconds has lost what it had in hand.
fn jobs(bus: &Bus) -> Queue<Job> {
    bus.queue("jobs").lease(Duration::from_secs(2))
}

/// At least once: a job is acknowledged when this has returned `Ok`.
fn start(bus: &Bus, worker: u32) -> pymq::Result<Worker> {
    let progress = bus.clone();
    jobs(bus).work(1, move |job: Job| {
        let bus = progress.clone();
        async move {
            bus.publish(&Progress { worker, number: job.number, done: false }).await?;
            tokio::time::sleep(Duration::from_secs_f64(job.seconds)).await;
            bus.publish(&Progress { worker, number: job.number, done: true }).await?;
            Ok::<_, pymq::Error>(())
        }
    })
}

/// A worker process: until Ctrl-C, on which it finishes what it has in hand, or something harder.
async fn serve(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::connect(address).await?;
    let worker = start(&bus, std::process::id())?;
    tokio::select! {
        () = worker.ended() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(worker.drain().await?)
}

/// Puts the jobs, starts the workers, kills the first that has begun, and waits for the end.
async fn oversee(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::connect(address).await?;
    let mut progress = bus.subscribe::<Progress>().await?;
    let jobs = jobs(&bus);
    let all: Vec<Job> = (0..JOBS).map(|number| Job { number, seconds: 0.2 }).collect();
    jobs.put_many(&all).await?;

    let mut hands = BTreeMap::new();
    for number in 1..=3 {
        let (worker, hand) = Hand::hire(&bus, address, number)?;
        hands.insert(worker, hand);
    }
    let Progress { worker, number, .. } = next(&mut progress).await?;
    let killed = hands.remove(&worker).ok_or("somebody else works at these jobs, too")?;
    killed.kill()?;
    println!("worker {worker} has begun job {number} and is killed");

    let mut done = BTreeMap::new();
    while done.len() < all.len() {
        let Progress { worker, number, done: is_done } = next(&mut progress).await?;
        if is_done {
            println!("worker {worker} has done job {number}");
            done.insert(number, worker);
        }
    }
    jobs.join().await?;
    println!("all {JOBS} jobs are done; job {number} by worker {}", done[&number]);
    for hand in hands.into_values() {
        hand.kill()?;
    }
    Ok(bus.close().await?)
}

async fn next(progress: &mut Events<Progress>) -> pymq::Result<Progress> {
    progress.recv().await.expect("the bus is open")
}

/// A worker as the overseer has it.
enum Hand {
    Task(Worker),
    Process(Child),
}

impl Hand {
    /// A process where the address reaches one, else a task; with the number that it goes by.
    fn hire(
        bus: &Bus,
        address: &str,
        number: u32,
    ) -> Result<(u32, Self), Box<dyn std::error::Error>> {
        if !bus.capabilities().cross_process {
            return Ok((number, Self::Task(start(bus, number)?)));
        }
        let process = Command::new(std::env::current_exe()?).args(["work", address]).spawn()?;
        Ok((process.id(), Self::Process(process)))
    }

    fn kill(self) -> std::io::Result<()> {
        match self {
            Self::Task(worker) => drop(worker),
            Self::Process(mut process) => {
                process.kill()?;
                process.wait()?;
            }
        }
        Ok(())
    }
}
