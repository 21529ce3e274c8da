//! A look at the bus, on the calling thread.

use super::Bus;
use super::mirror::waiting;
use crate::error::Result;
use crate::inspect::{self, FunctionFacts, TopicFacts};
use crate::transport::{Finding, Holder, Leftover};

impl Bus {
    /// As [`pymq::Bus::inspect`](crate::Bus::inspect).
    ///
    /// ```
    /// # fn main() -> pymq::Result<()> {
    /// let bus = pymq::blocking::Bus::connect("memory://")?;
    /// bus.queue("jobs").put(&"sweep")?;
    /// assert_eq!(bus.inspect().queues()?, ["jobs"]);
    /// # Ok(()) }
    /// ```
    pub fn inspect(&self) -> Inspection {
        Inspection { inner: self.asynchronous().inspect(), bus: self.clone() }
    }
}

/// As [`pymq::Inspection`](crate::Inspection), waiting.
#[derive(Clone, Debug)]
pub struct Inspection {
    inner: inspect::Inspection,
    bus: Bus,
}

impl Inspection {
    waiting! {
        Inspection:
        fn topics(&self) -> Result<Vec<TopicFacts>>;
        fn functions(&self) -> Result<Vec<FunctionFacts>>;
        fn queues(&self) -> Result<Vec<String>>;
        fn holders(&self, queue: &str) -> Result<Vec<Holder>>;
        fn examine(&self) -> Result<Vec<Finding>>;
        fn leftovers(&self) -> Result<Vec<Leftover>>;
        fn tidy(&self, leftover: &Leftover) -> Result<()>;
    }
}
