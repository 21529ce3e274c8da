//! When an item whose handler failed is tried again.

use std::sync::Arc;
use std::time::Duration;

/// How much longer or shorter a delay may be, by default, so that what failed together does not come
/// back together.
const JITTER: f64 = 0.2;

/// When an item whose handler failed comes again: by default after 1, 4, 16, 64 s, and every 64 s
/// from then on, each ±20 %.
///
/// A queue's [`max_deliveries`](crate::Queue::max_deliveries) bounds it whatever it says: with five, the
/// default, an item is tried at once and four times more, within about 85 s.
///
/// ```
/// use std::time::Duration;
/// use pymq::Retry;
///
/// let patient = Retry::exponential(Duration::from_secs(10), 2.0, Duration::from_secs(3600));
/// assert_eq!(patient.jitter(0.0).delay(3), Some(Duration::from_secs(40)));
/// assert_eq!(Retry::never().delay(1), None);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    steps: Steps,
    jitter: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Steps {
    Listed(Arc<[Duration]>),
    Exponential { first: Duration, factor: f64, most: Duration },
}

impl Retry {
    /// Not at all: an item that failed is a dead letter.
    pub fn never() -> Self {
        Self::after([])
    }

    /// At once, as often as [`max_deliveries`](crate::Queue::max_deliveries) lets it.
    pub fn at_once() -> Self {
        Self::exponential(Duration::ZERO, 1.0, Duration::ZERO)
    }

    /// After these delays, one for each failure; then it is a dead letter.
    pub fn after(delays: impl IntoIterator<Item = Duration>) -> Self {
        Self { steps: Steps::Listed(delays.into_iter().collect()), jitter: JITTER }
    }

    /// After `first`, then after `factor` times as long as before, and never longer than `most`, each a
    /// little longer or shorter by [chance](Self::jitter). A factor below 1 counts as 1.
    pub fn exponential(first: Duration, factor: f64, most: Duration) -> Self {
        Self { steps: Steps::Exponential { first, factor: factor.max(1.0), most }, jitter: JITTER }
    }

    /// How much longer or shorter a delay may be by chance, as a share of it: 0.2 by default, from
    /// 0 to 1.
    #[must_use]
    pub fn jitter(self, share: f64) -> Self {
        Self { jitter: share.clamp(0.0, 1.0), ..self }
    }

    /// After which time an item that failed comes again, by its number of deliveries; `None` is never.
    pub fn delay(&self, deliveries: u32) -> Option<Duration> {
        let failures = deliveries.saturating_sub(1);
        let delay = match &self.steps {
            Steps::Listed(delays) => *delays.get(failures as usize)?,
            Steps::Exponential { first, factor, most } => {
                let exponent = i32::try_from(failures).unwrap_or(i32::MAX);
                // However often nothing is multiplied, it is no number times infinity.
                let grown = if first.is_zero() { 0.0 } else { factor.powi(exponent) };
                let seconds = first.as_secs_f64() * grown;
                Duration::try_from_secs_f64(seconds).map_or(*most, |delay| delay.min(*most))
            }
        };
        let factor = 1.0 + self.jitter * (2.0 * chance() - 1.0);
        Some(Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(delay))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1), 4.0, Duration::from_secs(64))
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    (high >> 16) as f64 / (u64::MAX >> 16) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(retry: &Retry, deliveries: u32) -> Option<f64> {
        retry.delay(deliveries).map(|delay| delay.as_secs_f64())
    }

    #[test]
    fn the_default_is_1_4_16_64_seconds_give_or_take_a_fifth() {
        for (deliveries, expected) in [(1, 1.0), (2, 4.0), (3, 16.0), (4, 64.0), (9, 64.0)] {
            for _ in 0..100 {
                let delay = seconds(&Retry::default(), deliveries).expect("it comes again");
                assert!((0.8..=1.2).contains(&(delay / expected)), "{deliveries}: {delay}");
            }
        }
    }

    #[test]
    fn a_list_ends_and_no_length_is_too_long() {
        let list = Retry::after([Duration::from_secs(5), Duration::MAX]).jitter(0.0);
        assert_eq!(seconds(&list, 1), Some(5.0));
        assert!(list.delay(2).is_some());
        assert_eq!(list.delay(3), None);
        let steep = Retry::exponential(Duration::MAX, f64::INFINITY, Duration::MAX);
        assert!(steep.delay(u32::MAX).is_some());
        let odd = Retry::exponential(Duration::from_secs(1), f64::NAN, Duration::from_secs(9));
        assert!(odd.jitter(f64::NAN).delay(3).is_some());
        assert_eq!(Retry::at_once().delay(7), Some(Duration::ZERO));
        let nothing = Retry::exponential(Duration::ZERO, 2.0, Duration::from_secs(9));
        assert_eq!(nothing.delay(u32::MAX), Some(Duration::ZERO));
        assert_eq!(Retry::never().delay(1), None);
    }
}
