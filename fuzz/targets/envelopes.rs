//! Requests, replies and control messages: refused, or the same when written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pymq::proof::envelopes::check(data));
