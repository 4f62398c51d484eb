//! The program. Everything is in the library; see its map.

use std::process::ExitCode;

/// Chosen for memory: what idle connections leave behind goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::cli::main()
}
