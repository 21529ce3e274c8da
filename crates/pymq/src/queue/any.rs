//! Items of several queues, in order of preference.

use futures_util::future::select_all;
use serde::de::DeserializeOwned;

use super::get::taken;
use super::{ByteDelivery, ByteQueue, Delivery, Queue};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::Wait;

/// Takes an item on lease from the first of `queues` that has one, waiting for any of them as `wait`
/// says; tells which queue it was. `None` if there was none in time.
///
/// What comes to another queue in the same moment stays there.
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
/// only when all are.
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
    let mut open: Vec<usize> = (0..queues.len()).collect();
    let mut shut = None;
    for (which, queue) in queues.iter().enumerate() {
        match claim(queue, Wait::No).await {
            Ok(Some(delivery)) => return Ok(Some((which, delivery))),
            Ok(None) => {}
            Err(error) => note_shut(error, which, &mut open, &mut shut)?,
        }
    }
    while wait != Wait::No && !open.is_empty() {
        // Polled in order, so that of two that come together the preferred one is taken; those that
        // are dropped then lose nothing.
        let claims = open.iter().map(|which| Box::pin(claim(&queues[*which], wait)));
        let (claimed, place, _) = select_all(claims).await;
        let which = open[place];
        match claimed {
            Ok(delivery) => return Ok(delivery.map(|delivery| (which, delivery))),
            Err(error) => note_shut(error, which, &mut open, &mut shut)?,
        }
    }
    match shut.filter(|_| open.is_empty()) {
        Some(error) => Err(error),
        None => Ok(None),
    }
}

/// Leaves a queue that was shut down alone; any other failure is the caller's.
fn note_shut(
    error: Error,
    which: usize,
    open: &mut Vec<usize>,
    shut: &mut Option<Error>,
) -> Result<()> {
    if error.kind() != ErrorKind::ShutDown {
        return Err(error);
    }
    open.retain(|other| *other != which);
    *shut = Some(error);
    Ok(())
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
