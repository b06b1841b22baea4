//! The `corelog` binary: everything is in the library's `cli`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The integration puts `corelog::broker::serve` here.
    corelog::cli::main(|_config| Err("this build has no broker".to_owned()))
}
