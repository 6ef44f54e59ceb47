//! The benchmark of adit against its peers: `adit-bench suite` runs proxies and measures them, `adit-bench load` is the
//! load generator with its origin that the suite runs for each measurement.
//!
//! It knows nothing of adit but its command line: every proxy is measured from outside, by the kernel's accounting.
//! Read first: [`spec::LoadSpec`], [`load::run`], [`suite::run`]. Not part of the product.

mod load;
mod origin;
mod proc;
mod spec;
mod suite;
mod tunnel;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "adit-bench", about = "Measures adit and its peers")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One measurement: the argument is a `LoadSpec` as JSON, the result is one line of JSON
    Load {
        /// The specification
        spec: String,
    },
    /// Everything: runs the proxies, measures them in alternation, writes the reports
    Suite(suite::Options),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Load { spec } => {
            let spec: spec::LoadSpec = serde_json::from_str(&spec)?;
            let result = load::run(&spec)?;
            println!("{}", serde_json::to_string(&result)?);
            Ok(())
        }
        Command::Suite(options) => suite::run(&options),
    }
}
