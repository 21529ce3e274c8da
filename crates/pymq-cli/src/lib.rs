//! `pymq` on the command line: publish, subscribe, call and serve, queues and dead letters, who is
//! there, and what is wrong.
//!
//! It stands on the public interface of [`pymq`] alone. Data goes to the standard output, talk to the
//! standard error; what ended it is in the exit code ([`Exit`]). The binary and the Python package's
//! console script are the same program: both call [`main`].

use std::ffi::OsString;

mod arguments;
mod commands;
mod confirm;
mod context;
mod failure;
mod input;
mod interrupt;
mod log;
mod output;
mod screen;
mod table;
mod value;

use clap::Parser;

use crate::arguments::CommandLine;
pub use crate::failure::Exit;
use crate::output::Output;

/// Runs a command line, the program's name first; gives the exit code.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    let line = match CommandLine::try_parse_from(words) {
        Ok(line) => line,
        Err(error) => return output::refusal_of_words(&error).code(),
    };
    let output = Output::new(line.common.json);
    let ended = log::shown(line.common.verbose, || {
        interrupt::unless_interrupted(commands::run(line, &output))
    });
    match ended {
        Ok(()) => Exit::Done.code(),
        Err(failure) => {
            output.fail(&failure);
            failure.exit().code()
        }
    }
}
