//! The project's own commands: `cargo xtask <command>`.

mod protos;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((command, rest)) if command == "protos" => protos::run(rest),
        Some((command, _)) => bail!("unknown command {command}: expected protos"),
        None => bail!("no command: expected protos"),
    }
}
