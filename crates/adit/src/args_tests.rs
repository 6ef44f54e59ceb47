#![allow(clippy::unwrap_used)]
use super::*;

fn options(args: &[&str]) -> Result<Options, String> {
    let all = std::iter::once("adit").chain(args.iter().copied());
    Args::try_parse_from(all).map_err(|error| error.to_string())?.into_options("v", args.is_empty())
}

#[test]
fn only_a_start_without_any_argument_is_the_demonstration() {
    assert!(options(&[]).unwrap().demonstration);
    assert!(!options(&["-c", "a.yaml"]).unwrap().demonstration);
    for args in [&["--mode", "validate"][..], &["--concurrency", "2"], &["-l", "debug"]] {
        let error = options(args).unwrap_err();
        assert!(error.contains("--config-path") && error.contains("--config-yaml"), "{error}");
    }
}

#[test]
fn the_flags_that_envoys_scripts_use() {
    let options = options(&[
        "--config-path",
        "a.yaml",
        "--config-yaml",
        "admin: {}",
        "--mode",
        "validate",
        "--concurrency",
        "3",
        "-l",
        "warning",
        "--component-log-level",
        "router:debug,h2:trace",
        "--log-path",
        "/tmp/l",
        "--base-id",
        "1",
        "--use-dynamic-base-id",
        "--disable-hot-restart",
        "--restart-epoch",
        "0",
        "--drain-time-s",
        "4",
        "--drain-strategy",
        "immediate",
        "--parent-shutdown-time-s",
        "9",
        "--file-flush-interval-msec",
        "50",
        "--file-flush-min-size-kb",
        "1",
        "--allow-unknown-static-fields",
        "--admin-address-path",
        "/tmp/a",
        "--service-node",
        "n",
        "--service-cluster",
        "c",
        "--service-zone",
        "z",
        "--log-format",
        "x",
    ])
    .unwrap();
    assert_eq!(options.concurrency, Some(3));
    assert_eq!(options.mode, Mode::Validate);
    assert_eq!(options.log_level, LogLevel::Warning);
    assert_eq!(options.component_log_level.len(), 2);
    assert_eq!(options.drain_time, Duration::from_secs(4));
    assert_eq!(options.file_flush_min_size, 1024);
    assert_eq!(options.unhonoured, ["--log-format"]);
}

#[test]
fn ports_are_shared_where_envoys_would_be() {
    for (args, shared) in [
        (&[][..], false),
        (&["--base-id", "0", "--restart-epoch", "0"], false),
        (&["--base-id", "1"], true),
        (&["--use-dynamic-base-id"], true),
        (&["--disable-hot-restart"], true),
        (&["--restart-epoch", "1"], true),
    ] {
        assert_eq!(options(&[&["-c", "a"], args].concat()).unwrap().share_ports, shared, "{args:?}");
    }
}

#[test]
fn words_that_are_wrong() {
    assert!(options(&["-c", "a", "-l", "loud"]).unwrap_err().contains("'loud'"));
    assert!(options(&["-c", "a", "--component-log-level", "router"]).unwrap_err().contains("'router'"));
    assert!(options(&["-c", "a", "--no-such-flag"]).unwrap_err().contains("--no-such-flag"));
}
