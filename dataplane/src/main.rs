//! `understudyd`: the daemon. Everything is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    dataplane::args::main()
}
