//! Calls: positional arguments on the first line, keywords on the second, bound as Python does it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pymq::proof::arguments::{Bound, bind};
use pymq_fuzz::python::{Question, ask};

fuzz_target!(|data: &[u8]| {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    match bind(&data[..end], &data[end + 1..]) {
        Bound::Beside => {}
        Bound::Misfit => assert_eq!(None, ask(Question::Call, data)),
        Bound::To(line) => assert_eq!(Some(line), ask(Question::Call, data)),
    }
});
