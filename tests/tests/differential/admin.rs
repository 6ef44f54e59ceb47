//! The same names in `/stats` and `/stats/prometheus` after the same traffic.

use std::collections::BTreeSet;

use crate::case::{Case, Do, send};
use crate::lab::{Lab, check};
use crate::origin::Reply;
use crate::yaml::Yaml;

/// What Envoy has and adit has not: its admin interface counts itself, `track_remaining` has pools of pools, and the
/// matches of transport sockets are counted.
const ABSENT: &[&str] =
    &["http.admin.", "listener.admin.", "http.async-client.", "remaining_cx_pools", "default.total_match_count"];

fn names(lab: &Lab, path: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let of = |side: &crate::side::Side| {
        let text = side.masked_admin(path);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let name = |line: &str| match line.rsplit_once("} ") {
            Some((name, _)) => format!("{name}}}"),
            None => line.split(": ").next().unwrap_or_default().to_owned(),
        };
        lines.map(name).filter(|name| !name.is_empty()).collect()
    };
    (of(&lab.adit), of(&lab.envoy))
}

#[test]
fn every_name_of_envoys_exists() {
    let mut lab = Yaml::routes(
        "- match: { connect_matcher: {} }\n  route: { cluster: c, upgrade_configs: [{ upgrade_type: CONNECT }] }\n- match: { prefix: / }\n  route: { cluster: c }\n",
    )
    .hcm("upgrade_configs: [{ upgrade_type: websocket }]\n")
    .cluster(
        "circuit_breakers: { thresholds: [{ track_remaining: true }] }\noutlier_detection: {}\nhealth_checks: [{ timeout: 1s, interval: 5s, unhealthy_threshold: 2, healthy_threshold: 1, tcp_health_check: {} }]\n",
    )
    .lab();
    lab.cases([
        Case::get("/"),
        Case::get("/404").origin(Reply::Answer("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")),
        Case::new("bad", "BAD\r\n\r\n"),
        Case::steps(
            "connect",
            vec![send("CONNECT a.com:443 HTTP/1.1\r\n\r\n"), Do::Head, send("x"), Do::Pause(100), Do::Fin],
        )
        .origin(Reply::Tunnel("HTTP/1.1 200 OK\r\n\r\n")),
    ]);
    let mut report = String::new();
    for path in ["/stats", "/stats/prometheus"] {
        let (ours, theirs) = names(&lab, path);
        let absent = |name: &&String| {
            let dotted = name.replace('_', ".");
            !ABSENT.iter().any(|known| name.contains(known) || dotted.contains(&known.replace('_', ".")))
                && !name.contains("envoy_http_conn_manager_prefix=\"a")
                && !name.contains("envoy_listener_address=\"admin\"")
                && !name.contains("envoy_listener_admin")
        };
        for name in theirs.difference(&ours).filter(absent) {
            report.push_str(&format!("{path} lacks {name}\n"));
        }
    }
    check(&report);
}
