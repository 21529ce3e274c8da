//! Processes of one machine that talk without a server, and are killed at random while they do.
//!
//! A child is this test binary once more, told by its environment what to be ([`children`]). What it has
//! surely done it says in whole lines on its output, which outlive it.
#![cfg(all(feature = "ipc", target_os = "linux"))]

#[path = "../place/shared.rs"]
mod shared;

mod children;
mod damage;
mod full;
mod killed;
mod leftovers;
mod place;
mod refusals;
mod storm;

#[test]
#[ignore = "a child of the tests here"]
fn a_child() {
    children::be_one();
}
