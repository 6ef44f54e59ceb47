//! Configurations that attack the loader, through the binary: a quick and clear error, never a panic, never a crash.

use std::process::Command;
use std::time::{Duration, Instant};

use adit_tests::process::adit_binary;

/// For a debug build on a loaded machine; an optimized one takes a tenth of a second for the worst.
const BOUND: Duration = Duration::from_secs(30);

/// The exit is 1 soon, with something to read that names a place, and no panic.
#[track_caller]
fn refused(name: &str, text: impl AsRef<[u8]>, file_name: &str, says: &str) {
    let folder =
        std::env::temp_dir().join(format!("adit-config-attack-{}-{}", std::process::id(), name.replace(' ', "-")));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(file_name);
    std::fs::write(&file, text).unwrap();
    for mode in ["validate", "serve"] {
        let start = Instant::now();
        let out = Command::new(adit_binary()).args(["--mode", mode, "-c"]).arg(&file).output().unwrap();
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        let shown: String = errors.chars().take(500).collect();
        assert_eq!(out.status.code(), Some(1), "{name}: {shown}");
        assert!(!errors.contains("panicked") && !errors.contains("overflow"), "{name}: {shown}");
        assert!(errors.contains(says), "{name}: {shown}");
        assert!(errors.len() < 128 << 10, "{name}: {} bytes of errors", errors.len());
        assert!(start.elapsed() < BOUND, "{name}: {:?}", start.elapsed());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn alias_bombs() {
    let mut billion = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        billion += &format!("a{n}: &a{n} [{}]\n", format!("*a{}, ", n - 1).repeat(10));
    }
    refused("a billion aliases", &billion, "config.yaml", "line ");
    let mut merge = String::from("a0: &a0 { x: 1 }\n");
    for n in 1..30 {
        merge += &format!("a{n}: &a{n} {{ l: *a{m}, r: *a{m} }}\n", m = n - 1);
    }
    refused("aliases in mappings", &merge, "config.yaml", "line ");
    refused("an alias to itself", "static_resources: &a\n  clusters: [*a]\n", "config.yaml", "line ");
    refused("an alias to nothing", "static_resources: *nobody\n", "config.yaml", "line ");
}

#[test]
fn depth_bombs() {
    for (name, open, close) in [("sequences", "[", "]"), ("mappings", "{a: ", "}"), ("indented", "", "")] {
        for depth in [101, 1000, 100_000] {
            let text = if open.is_empty() {
                let depth = depth.min(2000);
                (0..depth).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>()
            } else {
                format!("{}x{}\n", open.repeat(depth), close.repeat(depth))
            };
            refused(&format!("{name} {depth} deep"), &text, "config.yaml", "line ");
        }
    }
    let json = format!("{{\"static_resources\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    refused("json deep", json, "config.json", "line ");
    let metadata = format!("node: {{ metadata: {}{{}}{} }}\n", "{ a: ".repeat(5000), " }".repeat(5000));
    refused("a struct deep", metadata, "config.yaml", "line ");
}

#[test]
fn sizes() {
    refused(
        "many nodes",
        format!("static_resources: {{ clusters: [{}] }}\n", "{}, ".repeat(500_000)),
        "config.yaml",
        "line ",
    );
    refused("a huge key", format!("{}: 1\n", "k".repeat(10 << 20)), "config.yaml", "line ");
    refused("a huge value", format!("static_resources: \"{}\"\n", "v".repeat(10 << 20)), "config.yaml", "line ");
    refused("too many bytes", vec![b'#'; 65 << 20], "config.yaml", "");
    refused(
        "many problems",
        format!("static_resources:\n  clusters:\n{}", "  - nme: x\n".repeat(300)),
        "config.yaml",
        "line ",
    );
    refused(
        "more problems than anyone reads",
        format!("static_resources:\n  clusters:\n{}", "  - nme: x\n".repeat(20_000)),
        "config.yaml",
        " more errors\n",
    );
}

#[test]
fn texts_that_are_no_configuration() {
    for (name, text) in [
        ("empty", &b""[..]),
        ("a scalar", b"hello\n"),
        ("a list", b"- a\n- b\n"),
        ("NUL", b"static_resources:\0 {}\n"),
        ("no UTF-8", b"static_resources: { clusters: [{ name: \"\xff\xfe\" }] }\n"),
        ("UTF-16", b"\xff\xfes\0t\0a\0t\0i\0c\0"),
        ("tabs", b"static_resources:\n\tclusters: []\n"),
        ("a duplicate key", b"static_resources: {}\nstatic_resources: {}\n"),
        ("a duplicate key in two spellings", b"static_resources: {}\nstaticResources: {}\n"),
        ("an open quote", b"static_resources: \"\n"),
        ("an open brace", b"static_resources: {\n"),
        ("a merge key", b"a: &a { x: 1 }\nstatic_resources: { <<: *a }\n"),
        ("a port beyond 65535", b"static_resources: { listeners: [{ name: l, stat_prefix: l, address: { socket_address: { address: 127.0.0.1, port_value: 99999 } } }] }\n"),
    ] {
        refused(name, text, "config.yaml", "");
    }
}

#[test]
fn random_bytes() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let words = [
        "static_resources:",
        "  clusters:",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "\n",
        " ",
        "&a ",
        "*a ",
        "'",
        "\"",
        "|",
        ">",
        "#",
        "? ",
        "!!",
        "%",
        "name: x",
        "\t",
        "---\n",
    ];
    for n in 0..30 {
        let text: Vec<u8> = if n % 2 == 0 {
            (0..4096).map(|_| next() as u8).collect()
        } else {
            (0..500).flat_map(|_| words[next() as usize % words.len()].bytes()).collect()
        };
        refused(&format!("random {n}"), text, "config.yaml", "");
    }
}

#[test]
fn huge_regular_expressions() {
    for (name, regex) in [
        ("a counted one", "(a{1000}){1000}".to_owned()),
        ("a long one", format!("({})", "a|".repeat(200_000))),
        ("a broken one", "((((".to_owned()),
    ] {
        let yaml = adit_tests::config::resources(
            &[adit_tests::config::listener(
                "l",
                1,
                &adit_tests::config::hcm(
                    "h",
                    &format!("- match: {{ safe_regex: {{ regex: '{regex}' }} }}\n  route: {{ cluster: c }}\n"),
                    "",
                ),
            )],
            &[adit_tests::config::cluster("c", 1, "")],
        );
        refused(name, yaml, "config.yaml", "regex");
    }
}
