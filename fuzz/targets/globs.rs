//! Patterns: the first line is one, the others are names; they match exactly where Redis says so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pymq::name::matches;
use pymq_fuzz::redis::matching;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let pattern = lines.next().unwrap_or_default();
    // No name is empty; Redis says of the empty text that only the empty pattern matches it.
    let mut names: Vec<&[u8]> = lines.filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    // In a range, Redis takes bytes beyond ASCII as its processor does: negative ones, or not.
    if names.is_empty() || (pattern.contains(&b'-') && !pattern.is_ascii()) {
        return;
    }
    let mut found = matching(pattern, &names);
    found.sort_unstable();
    names.retain(|name| matches(pattern, name));
    assert_eq!(names, found, "of the pattern {}", pattern.escape_ascii());
});
