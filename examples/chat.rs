//! A chat over publish/subscribe: `chat [NAME [ADDRESS]]`, one process per person.
//!
//! Type a line to say it in the lobby; `/room text` whispers it in another room, and the pattern
//! hears those too. In memory nobody else can come, so there is a parrot. `chat.py` is the same in
//! Python, and they hear each other.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::io::BufRead as _;

use pymq::{Bus, Events, Topic};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct Said {
    who: String,
    text: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_else(|| "me".to_owned());
    let address = words.next().unwrap_or_else(|| "memory://".to_owned());
    let bus = Bus::connect(&address).await?;
    let mut heard = bus.pattern::<Said>("chat.*").await?;
    if !bus.capabilities().cross_process {
        let lobby = bus.topic("chat.lobby");
        let heard = lobby.subscribe().await?;
        tokio::spawn(parrot(lobby, heard));
    }
    let mut typed = lines();
    loop {
        tokio::select! {
            event = heard.recv() => match event {
                // Someone who says it otherwise, or too much at once, does not end the chat.
                Some(Err(error)) => println!("({error})"),
                Some(Ok((room, said))) if said.who != name => println!("{room} {}: {}", said.who, said.text),
                Some(Ok(_)) => {}
                None => return Ok(()),
            },
            line = typed.recv() => match line {
                Some(line) => say(&bus, &name, &line).await?,
                None => return bus.close().await,
            },
        }
    }
}

async fn say(bus: &Bus, name: &str, line: &str) -> pymq::Result<()> {
    let (room, text) = match line.strip_prefix('/').and_then(|rest| rest.split_once(' ')) {
        Some((room, text)) => (room, text),
        None => ("lobby", line),
    };
    let said = Said { who: name.to_owned(), text: text.to_owned() };
    let receivers = bus.topic(format!("chat.{room}")).publish(&said).await?;
    match receivers {
        Some(receivers) => println!("({receivers} here)"),
        None => println!("(said)"),
    }
    Ok(())
}

/// Says everything again.
async fn parrot(lobby: Topic<Said>, mut heard: Events<Said>) -> pymq::Result<()> {
    while let Some(said) = heard.recv().await {
        let Said { who, text } = said?;
        if who != "parrot" {
            lobby.publish(&Said { who: "parrot".to_owned(), text }).await?;
        }
    }
    Ok(())
}

/// What is typed, line by line: a thread waits for it, since a terminal cannot be awaited.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
