//! Ctrl-C and SIGTERM: a command ends between two lines, or, where it is stuck in a write, after a
//! moment all the same.

use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::failure::{Exit, Failure};

/// How long a command may take to give back what it holds.
const GRACE: Duration = Duration::from_secs(3);

/// Runs a command until it ends or somebody ends it.
pub(crate) fn unless_interrupted(
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = runtime()?;
    let interrupted = watch()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            outcome = command => outcome,
            // An error says that no signal can be heard; then none ends it.
            Ok(exit) = interrupted => Err(Failure::silent(exit)),
        }
    });
    // What the command held goes back in tasks of the runtime; threads that read input stay behind.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

fn runtime() -> Result<Runtime, Failure> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::new(Exit::Failed, format!("cannot begin: {error}")))
}

/// Waits for a signal on a thread of its own, since the command's may be stuck.
fn watch() -> Result<oneshot::Receiver<Exit>, Failure> {
    let (tell, interrupted) = oneshot::channel();
    let runtime = runtime()?;
    let (ready, armed) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let exit = runtime.block_on(async {
            let signal = signal();
            // An error says that nobody waits, which is impossible.
            let _ = ready.send(());
            signal.await
        });
        let Some(exit) = exit else { return };
        // An error says that the command has ended just now.
        let _ = tell.send(exit);
        thread::sleep(GRACE);
        std::process::exit(exit.code().into());
    });
    // An error says that the thread has ended, and no signal will be heard.
    let _ = armed.recv();
    Ok(interrupted)
}

#[cfg(unix)]
fn signal() -> impl Future<Output = Option<Exit>> {
    use tokio::signal::unix::{SignalKind, signal};

    let interrupt = signal(SignalKind::interrupt());
    let terminate = signal(SignalKind::terminate());
    async move {
        let (mut interrupt, mut terminate) = (interrupt.ok()?, terminate.ok()?);
        tokio::select! {
            _ = interrupt.recv() => Some(Exit::Interrupted),
            _ = terminate.recv() => Some(Exit::Terminated),
        }
    }
}

#[cfg(not(unix))]
fn signal() -> impl Future<Output = Option<Exit>> {
    async { tokio::signal::ctrl_c().await.ok().map(|()| Exit::Interrupted) }
}
