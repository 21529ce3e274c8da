//! `check`: one line and a code, for containers and monitors.

use std::time::{Duration, Instant};

use pymq::Bus;
use serde::Serialize;
use tokio::time::timeout;

use super::counted;
use crate::arguments::{Check, Common};
use crate::context::connect;
use crate::failure::{Exit, Failure};
use crate::output::Output;

#[derive(Serialize)]
struct Checked {
    well: bool,
    /// Milliseconds of a round trip.
    ping: f64,
    wrong: Vec<String>,
}

pub(super) async fn check(common: &Common, check: Check, output: &Output) -> Result<(), Failure> {
    let begun = Instant::now();
    let within = check.timeout;
    match timeout(within, examine(common, check)).await {
        Ok(checked) => show(&checked?, output),
        Err(_) => {
            let words = format!("no answer within {:.1} s", begun.elapsed().as_secs_f64());
            Err(Failure::new(Exit::Timeout, words))
        }
    }
}

fn show(checked: &Checked, output: &Output) -> Result<(), Failure> {
    output.object(checked)?;
    if checked.well {
        return output.line(&format!("well: answered in {:.1} ms", checked.ping));
    }
    Err(Failure::new(Exit::Failed, checked.wrong.join("; ")))
}

async fn examine(common: &Common, check: Check) -> Result<Checked, Failure> {
    let bus = connect(common).await?;
    let ping = bus.ping().await?;
    let mut wrong = Vec::new();
    if !check.function.is_empty() {
        let functions = bus.inspect().functions().await?;
        for name in check.function {
            let found = functions.iter().find(|function| function.name == name);
            match found {
                Some(found) if !found.providers.is_empty() || found.others > 0 => {}
                Some(_) => wrong.push(format!("no provider of {name:?} answers")),
                None => wrong.push(format!("nobody provides {name:?}")),
            }
        }
    }
    for (queue, most) in check.dead {
        let dead = bus.byte_queue(&queue).stats().await?.dead;
        if dead > most {
            wrong.push(format!("{queue:?} has {}", counted(dead, "dead letter")));
        }
    }
    for (queue, most) in check.waiting {
        let waiting = bus.byte_queue(&queue).stats().await?.waiting;
        if waiting > most {
            wrong.push(format!("{} wait in {queue:?}", counted(waiting, "item")));
        }
    }
    close(&bus).await;
    Ok(Checked { well: wrong.is_empty(), ping: ping.as_secs_f64() * 1000.0, wrong })
}

async fn close(bus: &Bus) {
    // It was well a moment ago; what goes wrong now is nobody's business.
    let _ = timeout(Duration::from_secs(1), bus.close()).await;
}
