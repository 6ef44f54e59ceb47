//! Tells the binary which commit it is made of (`--version`).

use std::process::Command;

fn main() {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).output().ok().filter(|out| out.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "0000000000000000000000000000000000000000".to_owned());
    println!("cargo:rustc-env=ADIT_COMMIT={commit}");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    println!("cargo:rustc-env=ADIT_BUILD_TYPE={}", if release { "RELEASE" } else { "DEBUG" });
    if let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={head}");
    }
}
