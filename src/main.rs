//! The `corelog` binary: everything is in the library's `cli`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    corelog::cli::main(|config| {
        corelog::broker::serve(config).map_err(|failure| failure.to_string())
    })
}
