//! Items of several queues, in order of preference.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Sleep, sleep};

use super::get::taken;
use super::{ByteDelivery, ByteQueue, Delivery, Queue};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::Wait;

/// How long a queue whose broker cannot say anything just now is left alone, while others are waited for.
const PAUSE: Duration = Duration::from_millis(250);

/// Takes an item on lease from the first of `queues` that has one, waiting for any of them as `wait`
/// says; tells which queue it was. `None` if there was none in time.
///
/// What comes to another queue in the same moment stays there. A queue whose broker cannot be reached, or
/// refuses for a while, keeps nobody from the others, and is waited for as they are.
///
/// ```
/// use pymq::{Bus, Wait};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// # let bus = Bus::connect("memory://").await?;
/// let [urgent, normal] = ["urgent", "normal"].map(|name| bus.queue::<u32>(name));
/// normal.put(&1).await?;
/// urgent.put(&2).await?;
/// let queues = [urgent, normal];
/// let (which, job) = pymq::claim_any(&queues, Wait::Forever).await?.expect("there are two");
/// assert_eq!((which, *job), (0, 2));
/// job.ack().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// `Config` for no queue at all, and as [`Queue::claim`], of whichever queue fails first; `ShutDown`
/// only when all are. One that [passes](Error::is_retryable) only if none had an item in time, or no
/// queue can be waited for any more.
pub async fn claim_any<T: DeserializeOwned>(
    queues: &[Queue<T>],
    wait: impl Into<Wait>,
) -> Result<Option<(usize, Delivery<T>)>> {
    first_of(queues, wait.into(), Queue::claim_within).await
}

impl ByteQueue {
    /// As [`claim_any`].
    ///
    /// # Errors
    /// As [`claim_any`].
    pub async fn claim_any(queues: &[Self], wait: Wait) -> Result<Option<(usize, ByteDelivery)>> {
        first_of(queues, wait, Self::claim).await
    }
}

async fn first_of<'a, Q, D, C>(
    queues: &'a [Q],
    wait: Wait,
    claim: impl Fn(&'a Q, Wait) -> C,
) -> Result<Option<(usize, D)>>
where
    C: Future<Output = Result<Option<D>>> + 'a,
{
    if queues.is_empty() {
        let why = "there is no queue to take from; name one or more";
        return Err(Error::new(ErrorKind::Config, "get", "queues", why));
    }
    let mut troubles: Vec<Trouble> = queues.iter().map(|_| Trouble::None).collect();
    for (which, queue) in queues.iter().enumerate() {
        match claim(queue, Wait::No).await {
            Ok(Some(delivery)) => return Ok(Some((which, delivery))),
            looked => troubles[which] = Trouble::of(looked.err())?,
        }
    }
    if wait != Wait::No {
        let ask = |which: usize| Box::pin(claim(&queues[which], wait));
        let open = (0..queues.len()).filter(|which| !troubles[*which].is_shut());
        let mut line: Vec<_> = open.map(|which| (which, Asked::Waits(ask(which)))).collect();
        // While any of them waits; where none does, a `get` of each would have failed.
        while line.iter().any(|(_, asked)| matches!(asked, Asked::Waits(_))) {
            let (place, claimed) = poll_fn(|context| poll_in_order(&mut line, ask, context)).await;
            let which = line[place].0;
            if let Ok(Some(delivery)) = claimed {
                return Ok(Some((which, delivery)));
            }
            troubles[which] = Trouble::of(claimed.err())?;
            if troubles[which].passes() && wait.left() != Some(Duration::ZERO) {
                line[place].1 = Asked::Rests(Box::pin(sleep(PAUSE)));
            } else {
                line.remove(place);
            }
        }
    }
    found_nothing(troubles)
}

/// One of several queues in a wait.
enum Asked<C> {
    Waits(Pin<Box<C>>),
    /// Its claim failed for a reason that passes.
    Rests(Pin<Box<Sleep>>),
}

/// The first answer of those who wait, in their order: of two that come together the preferred one is
/// taken, and those that are dropped then lose nothing. Whose pause is over waits again.
fn poll_in_order<C: Future>(
    line: &mut [(usize, Asked<C>)],
    ask: impl Fn(usize) -> Pin<Box<C>>,
    context: &mut Context<'_>,
) -> Poll<(usize, C::Output)> {
    for (place, (which, asked)) in line.iter_mut().enumerate() {
        if let Asked::Rests(pause) = asked
            && pause.as_mut().poll(context).is_ready()
        {
            *asked = Asked::Waits(ask(*which));
        }
        if let Asked::Waits(claim) = asked
            && let Poll::Ready(claimed) = claim.as_mut().poll(context)
        {
            return Poll::Ready((place, claimed));
        }
    }
    Poll::Pending
}

/// What keeps a queue from giving anything, as far as it is known.
enum Trouble {
    /// None: it is empty.
    None,
    /// Whether it has items is not known.
    Passes(Error),
    /// It is empty for good.
    Shut(Error),
}

impl Trouble {
    /// # Errors
    /// Those that do not pass: they are the caller's at once.
    fn of(failed: Option<Error>) -> Result<Self> {
        match failed {
            None => Ok(Self::None),
            Some(error) if error.kind() == ErrorKind::ShutDown => Ok(Self::Shut(error)),
            // What a claim may have taken whose answer was lost is found again.
            Some(error) if error.is_retryable() || error.kind() == ErrorKind::Ambiguous => {
                Ok(Self::Passes(error))
            }
            Some(error) => Err(error),
        }
    }

    fn passes(&self) -> bool {
        matches!(self, Self::Passes(_))
    }

    fn is_shut(&self) -> bool {
        matches!(self, Self::Shut(_))
    }
}

/// Nothing is there only where each queue said so, or is shut down and another one is not.
fn found_nothing<D>(troubles: Vec<Trouble>) -> Result<Option<D>> {
    let (mut shut, mut all_shut) = (None, true);
    for trouble in troubles {
        match trouble {
            Trouble::Passes(error) => return Err(error),
            Trouble::Shut(error) => shut = Some(error),
            Trouble::None => all_shut = false,
        }
    }
    shut.filter(|_| all_shut).map_or(Ok(None), Err)
}

/// Takes an item as [`claim_any`] does, for good: at most once, as [`Queue::get`].
///
/// # Errors
/// As [`claim_any`].
pub async fn get_any<T: DeserializeOwned>(
    queues: &[Queue<T>],
    wait: impl Into<Wait>,
) -> Result<Option<(usize, T)>> {
    let claimed = claim_any(queues, wait).await?;
    claimed.map(|(which, delivery)| Ok((which, taken(delivery)?))).transpose()
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_fails_for_a_while_is_asked_again_while_another_is_waited_for() {
        let attempts = AtomicU32::new(0);
        let claim = |queue: &&str, wait: Wait| {
            let idle = *queue == "idle";
            let attempt = if idle { 0 } else { attempts.fetch_add(1, Ordering::Relaxed) };
            async move {
                match (idle, attempt, wait) {
                    (true, _, Wait::No) => Ok(None),
                    (true, ..) => pending().await,
                    (false, 0..5, _) => Err(lost()),
                    (false, ..) => Ok(Some(7)),
                }
            }
        };
        let got = first_of(&["lost", "idle"], Wait::Forever, claim).await;
        assert_eq!(got.expect("it is back"), Some((0, 7)));
        assert_eq!(attempts.into_inner(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_queue_can_be_waited_for_the_reason_is_told() {
        let lost = |_: &(), _| async { Err::<Option<()>, _>(lost()) };
        for wait in [Wait::No, Wait::at_most(PAUSE), Wait::Forever] {
            let error = first_of(&[(), ()], wait, lost).await.expect_err("nobody can be asked");
            assert_eq!(error.kind(), ErrorKind::Connection);
        }
    }

    fn lost() -> Error {
        Error::new(ErrorKind::Connection, "claim", "jobs", "there is no server")
    }
}
