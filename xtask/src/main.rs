//! The project's own commands: `cargo xtask <command>`.

mod bench;
mod ci;
mod configs;
mod e2e;
mod flaky;
mod protos;
mod run;
mod tidy;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask <command>

  ci        everything below but bench, as .ci/run does: format, clippy, docs, tidy, deny, tests, configs, e2e
  tidy      dependency edges between crates, file sizes, what must not be in the tree
  configs   load every file in configs/ with the binary's --mode validate
  e2e       the end-to-end tests on real sockets, with counterparts that others wrote (installs what is missing)
  bench     measures adit and its peers: --against envoy,haproxy,nginx,nghttpx (--help shows all options)
  protos    make the generated messages anew (--check: say whether they are as committed)
";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        print!("{USAGE}");
        bail!("no command");
    };
    std::env::set_current_dir(run::root())?;
    match command.as_str() {
        "bench" => bench::run(rest),
        "ci" => ci::run(),
        "tidy" => tidy::run(),
        "configs" => configs::run(),
        "e2e" => e2e::run(rest),
        "protos" => protos::run(rest),
        _ => {
            print!("{USAGE}");
            bail!("unknown command {command}");
        }
    }
}
