//! Which dead letters are meant, and how they are gone through.

use pymq::ByteQueue;
use pymq::transport::{DeadLetter, Failure as Death, Letters};

use crate::arguments::Which;
use crate::failure::Failure;
use crate::output::printable;
use crate::value::Shown;

/// How many are read in the first step, in later ones at most, and how many bytes about: nobody knows
/// how large they are before.
const FIRST: usize = 16;
const MOST: usize = 500;
const BYTES: usize = 4 << 20;

impl Which {
    /// Whether every one is meant.
    pub(super) fn is_all(&self) -> bool {
        let Self { count: _, error, reason, contains, id } = self;
        error.is_none() && reason.is_none() && contains.is_none() && id.is_none()
    }

    /// Whether this one is meant, by all that is said of it.
    pub(super) fn fits(&self, letter: &DeadLetter) -> bool {
        let shown = Shown::of(&letter.payload);
        let said = |text: &String| printable(&error_of(&letter.failure)).contains(text);
        self.reason.is_none_or(|reason| letter.failure.reason == reason)
            && self.error.as_ref().is_none_or(said)
            && self.id.as_deref().is_none_or(|id| shown.id() == Some(id))
            && self.contains.as_ref().is_none_or(|text| shown.line().contains(text))
    }

    /// How many are meant, of how many.
    pub(super) async fn counted(&self, queue: &ByteQueue) -> Result<(usize, usize), Failure> {
        let most = self.count.unwrap_or(usize::MAX);
        let mut pages = Pages::of(queue).await?;
        let all = pages.unseen();
        if self.is_all() {
            return Ok((all.min(most), all));
        }
        let mut meant = 0;
        while meant < most {
            let page = pages.next().await?;
            if page.is_empty() {
                break;
            }
            meant += page.iter().filter(|letter| self.fits(letter)).count();
        }
        Ok((meant.min(most), all))
    }

    /// Takes those out that are meant, `most` of them; says how many.
    pub(super) async fn taken(
        &self,
        queue: &ByteQueue,
        most: usize,
        take: impl AsyncFn(Letters) -> pymq::Result<usize>,
    ) -> Result<usize, Failure> {
        if self.is_all() {
            return Ok(take(Letters::Oldest(self.count.unwrap_or(usize::MAX))).await?);
        }
        let (mut chosen, mut taken) = (0, 0);
        let mut pages = Pages::of(queue).await?;
        let interrupted = |failure: Failure, taken| match taken {
            0 => failure,
            some => failure.and(&format!("; done with {some} before it")),
        };
        while chosen < most {
            let page = pages.next().await.map_err(|failure| interrupted(failure, taken))?;
            if page.is_empty() {
                break;
            }
            let these = page.into_iter().filter(|letter| self.fits(letter)).take(most - chosen);
            let these: Vec<_> = these.map(|letter| letter.receipt).collect();
            if these.is_empty() {
                continue;
            }
            chosen += these.len();
            pages.skip -= these.len();
            let done = take(Letters::These(these)).await;
            taken += done.map_err(|error| interrupted(error.into(), taken))?;
        }
        Ok(taken)
    }
}

/// The type and the words of an error, or what its consumer said; empty where there is neither.
pub(super) fn error_of(Death { error, words, .. }: &Death) -> String {
    match (error.is_empty(), words.is_empty()) {
        (true, _) => words.clone(),
        (false, true) => error.clone(),
        (false, false) => format!("{error}: {words}"),
    }
}

/// The dead letters that were there when it began, the oldest first.
pub(super) struct Pages<'a> {
    queue: &'a ByteQueue,
    skip: usize,
    unseen: usize,
    size: usize,
}

impl<'a> Pages<'a> {
    pub(super) async fn of(queue: &'a ByteQueue) -> Result<Self, Failure> {
        let unseen = queue.stats().await?.dead;
        Ok(Self { queue, skip: 0, unseen, size: FIRST })
    }

    /// How many it has not read yet.
    pub(super) fn unseen(&self) -> usize {
        self.unseen
    }

    /// Some more; none behind the last one.
    pub(super) async fn next(&mut self) -> Result<Vec<DeadLetter>, Failure> {
        let page = match self.unseen.min(self.size) {
            0 => Vec::new(),
            size => self.queue.letters(self.skip, size).await?,
        };
        let bytes: usize = page.iter().map(|letter| letter.payload.len()).sum();
        self.size = (BYTES * page.len() / bytes.max(1)).clamp(1, MOST);
        self.skip += page.len();
        self.unseen = if page.is_empty() { 0 } else { self.unseen - page.len() };
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use pymq::{Bus, ErrorKind};

    use super::*;

    const COUNT: u32 = 100;

    /// A queue with dead letters of the numbers below `COUNT`.
    async fn of_numbers() -> ByteQueue {
        let bus = Bus::connect("memory://").await.expect("memory is there");
        let numbers = bus.queue::<u32>("numbers");
        for number in 0..COUNT {
            numbers.put(&number).await.expect("a put");
            let item = numbers.claim().await.expect("an item");
            item.reject_because(if number % 10 == 3 { "three" } else { "else" })
                .await
                .expect("it is ours");
        }
        bus.byte_queue("numbers")
    }

    fn with_error(text: &str, count: Option<usize>) -> Which {
        Which { count, error: Some(text.into()), reason: None, contains: None, id: None }
    }

    async fn numbers(queue: &ByteQueue) -> Vec<u32> {
        let letters = queue.letters(0, COUNT as usize).await.expect("letters");
        letters.iter().map(|it| serde_json::from_slice(&it.payload).expect("a number")).collect()
    }

    #[tokio::test]
    async fn only_the_oldest_of_those_that_are_meant_are_taken_from_every_page() {
        let queue = of_numbers().await;
        let which = with_error("three", Some(7));
        assert_eq!(which.counted(&queue).await.expect("counted"), (7, 100));
        let take = async |letters| queue.discard(letters).await;
        assert_eq!(which.taken(&queue, 7, take).await.expect("taken"), 7);
        let left: Vec<_> = (0..COUNT).filter(|it| it % 10 != 3 || *it >= 73).collect();
        assert_eq!(numbers(&queue).await, left);
        let which = with_error("else", None);
        assert_eq!(which.counted(&queue).await.expect("counted"), (90, 93));
        assert_eq!(which.taken(&queue, 90, take).await.expect("taken"), 90);
        assert_eq!(numbers(&queue).await, [73, 83, 93]);
    }

    #[tokio::test]
    async fn a_failure_says_what_was_done_before_it() {
        let queue = of_numbers().await;
        let turns = std::cell::Cell::new(0);
        let take = async |letters| match turns.replace(turns.get() + 1) {
            0 => queue.discard(letters).await,
            _ => {
                Err(pymq::Error::new(ErrorKind::Connection, "discard", "numbers", "the line broke"))
            }
        };
        let failure = with_error("three", None).taken(&queue, 10, take).await;
        let words = failure.expect_err("it fails").to_string();
        assert!(words.ends_with("; done with 2 before it"), "{words}");
    }
}
