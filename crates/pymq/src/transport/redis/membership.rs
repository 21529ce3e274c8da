//! Being subscribed, and what is asked of the task that changes subscriptions.
//!
//! The one invariant: dropping a membership asks for its end, on any thread, without a wait.

use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::purpose::Purpose;
use super::refusal::Refusal;
use super::routes::{Name, Target};
use crate::error::Result;
use crate::transport::Guard;

/// What is asked of the task that changes subscriptions.
pub(super) enum Request {
    Join { id: u64, names: Vec<Name>, target: Target, done: oneshot::Sender<Result<(), Refusal>> },
    Leave { id: u64, names: Vec<Name>, done: Option<oneshot::Sender<Result<(), Refusal>>> },
}

/// Being subscribed; dropping it ends that.
pub(super) struct Membership {
    pub(super) control: mpsc::UnboundedSender<Request>,
    pub(super) id: u64,
    pub(super) names: Vec<Name>,
}

impl Membership {
    fn leave(&mut self, done: Option<oneshot::Sender<Result<(), Refusal>>>) {
        let names = std::mem::take(&mut self.names);
        if !names.is_empty() {
            // Refused only when the task has ended, and every subscription with it.
            let _ = self.control.send(Request::Leave { id: self.id, names, done });
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.leave(None);
    }
}

impl Guard for Membership {
    fn release(mut self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        let (done, left) = oneshot::channel();
        let first = match self.names.first() {
            Some(Name::Topic(name) | Name::Pattern(name)) => name.to_string(),
            None => String::new(),
        };
        self.leave(Some(done));
        Box::pin(async move {
            match left.await {
                Ok(Err(refusal)) => Err(Purpose::change("unsubscribe", &first).refused(&refusal)),
                // An error says that the task has ended: then the socket is gone too.
                Ok(Ok(())) | Err(_) => Ok(()),
            }
        })
    }
}
