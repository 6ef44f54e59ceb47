//! The `adit` binary: arguments in, exit code out. Everything else is in `adit-server`.
//!
//! Floor F5.

mod args;

use std::process::ExitCode;

use clap::Parser;

use args::Args;

/// Leaves less between the blocks of idle tunnels than the C library's allocator, and gives what a peak leaves behind back to
/// the kernel by itself, from a thread of its own.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// `<commit>/<version>/Clean/RELEASE/rustls`, the shape of Envoy's version.
const VERSION: &str =
    concat!(env!("ADIT_COMMIT"), "/", env!("CARGO_PKG_VERSION"), "/Clean/", env!("ADIT_BUILD_TYPE"), "/rustls");

fn main() -> ExitCode {
    let raw: Vec<_> = std::env::args_os().collect();
    let bare = raw.len() <= 1;
    let args = match Args::try_parse_from(raw) {
        Ok(args) => args,
        Err(error) => {
            let code = u8::from(error.use_stderr());
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if args.version {
        println!("adit  version: {VERSION}");
        return ExitCode::SUCCESS;
    }
    if args.hot_restart_version {
        println!("disabled");
        return ExitCode::SUCCESS;
    }
    let options = match args.into_options(VERSION, bare) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    ExitCode::from(adit_server::run(options))
}
