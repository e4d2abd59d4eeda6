//! argv to exit code; nothing else.

// Linked for its `malloc`, which takes the place of the C library's (feature `override`). As a `#[global_allocator]` it
// would be told an alignment with every call and go a longer way for it: 3 % of a request's instructions.
use mimalloc as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    nanogate::cli::run()
}
