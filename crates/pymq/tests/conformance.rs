//! The contract, rule by rule, on every transport of this crate.

use pymq::conformance::Url;

pymq::conformance_suite!(memory, Url::new("memory://conformance"));
