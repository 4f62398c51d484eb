//! The program. Everything is in the library; see its map.

use std::process::ExitCode;

/// Chosen for memory: what idle connections leave behind goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A huge page stays as long as one byte of it is in use. A kernel that has none has none to give.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    weir::cli::main()
}
