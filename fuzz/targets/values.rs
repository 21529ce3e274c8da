//! Values: accepted or refused as Python's `json` does it, and read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pymq_fuzz::python::{Question, ask};

fuzz_target!(|data: &[u8]| {
    assert_eq!(pymq::proof::values::check(data), ask(Question::Value, data));
});
