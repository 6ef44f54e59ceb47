//! Where adit differs on purpose: the test, the case, what adit's answer holds, the parts that differ, and why
//! (docs/differences.md). Without a name an entry is for every case of its test whose name ends so.

use crate::case::Part;
use crate::case::Part::{Answer, End, Log, Origin, Stats};

pub struct Entry {
    pub test: &'static str,
    /// Names of cases, or their ends.
    pub cases: &'static [&'static str],
    /// What adit's answer holds.
    pub holds: &'static str,
    pub parts: &'static [Part],
    pub why: &'static str,
}

const fn entry(
    test: &'static str,
    cases: &'static [&'static str],
    holds: &'static str,
    parts: &'static [Part],
    why: &'static str,
) -> Entry {
    Entry { test, cases, holds, parts, why }
}

/// Cases whose bytes on the wire are not compared: why, and their names or their ends.
pub const BYTES_ASIDE: &[(&str, &[&str])] = &[
    (
        "Envoy counts what it has read, whether it makes anything of it or not",
        &[
            "more than its length",
            "answer before the body",
            "post direct",
            "pipelined",
            "pipelined after close",
            "good then bad",
            "leading space",
            "max requests",
            "/y2-limit",
            "ws retries used up",
            "websocket 101 with length",
            "foo 101 with length",
        ],
    ),
    (
        "a head that is not taken is not taken apart",
        &["many", "101 fields", "70 KiB of head", "http/1.2", "http/2.0", "a.com:443#x"],
    ),
    ("fields of one name go on as they came; Envoy joins some", &["xff three fields", "connection in two fields"]),
];

pub const DELIBERATE: &[Entry] = &[
    // HTTP/1 heads
    entry(
        "heads::request_heads",
        &["two hosts", "bare lf", "bare cr", "obs-fold", "two spaces", "host with userinfo", "empty host"],
        "HTTP/1.1 400",
        &[Answer],
        "heads that peers read differently",
    ),
    entry("heads::request_heads", &["http/0.9"], "HTTP/1.1 400", &[Answer], "a request line without a version"),
    entry("heads::request_heads", &["fragment"], "HTTP/1.1 400", &[Log, Stats], "refused by the codec"),
    entry(
        "heads::request_heads",
        &["FIN behind a request"],
        "HTTP/1.1 200",
        &[Answer],
        "a client's FIN is a half-close",
    ),
    entry("heads::http10", &["1.0 post chunked"], "400", &[Answer], "RFC 9112 section 6.1"),
    entry("heads::http10", &["1.0 upgrade"], "200", &[Answer], "HTTP/1.0 has no upgrades, RFC 9110 section 7.8"),
    entry("heads::http10", &["0.9"], "", &[Answer], "a request line without a version"),
    entry("clients::paths", &["/a^b`c"], "HTTP/1.1 400", &[Answer], "the URI type refuses a backquote"),
    entry(
        "clients::paths",
        &["reject: /a%2Fb", "reject: /a%2fb?x=%2F", "reject: /a%5cb"],
        "400",
        &[Log],
        "the path is logged as it came",
    ),
    entry("clients::answers_of_the_manager", &["absolute off: absolute"], "404", &[Answer], "refused by the codec"),
    entry(
        "clients::answers_of_the_manager",
        &["underscores rejected: underscore"],
        "400",
        &[Log, Stats],
        "refused above the codec",
    ),
    entry(
        "heads::request_bodies",
        &["chunk size 0x", "chunk without crlf"],
        "400",
        &[Origin],
        "the head goes on before the body is read",
    ),
    entry("heads::request_bodies", &["body cut by FIN"], "", &[End], "what was cut is reset"),
    // answers
    entry(
        "heads::answers",
        &["hop by hop"],
        "HTTP/1.1 200",
        &[Answer],
        "what `connection` names goes no further, RFC 9110 section 7.6.1",
    ),
    entry(
        "heads::answers",
        &["cut length", "cut chunk", "reset body"],
        "",
        &[End],
        "a truncated answer never looks whole",
    ),
    entry(
        "heads::answers",
        &["status 1000", "status 99", "status 600", "unasked 101"],
        "HTTP/1.1 502",
        &[Answer],
        "no status, or none that was asked for",
    ),
    entry(
        "heads::answers",
        &["103 first", "102 first"],
        "HTTP/1.1 10",
        &[Answer],
        "interim answers pass, RFC 9110 section 15.2",
    ),
    entry(
        "clients::answers_of_the_manager",
        &["proxied 100: answer 1xx"],
        "HTTP/1.1 200",
        &[Answer],
        "nobody asked for a 100",
    ),
    entry(
        "clients::answers_of_the_manager",
        &["proxied 100: expect body"],
        "",
        &[Stats],
        "a 100 that passes through is not counted",
    ),
    entry(
        "routes::failures",
        &["/t1-slow-body", "/t2-body", "/t4-body", "ws idle", "ws max duration"],
        "",
        &[End],
        "what is cut short is reset",
    ),
    entry("routes::timeouts_of_the_manager", &["answer stalls"], "", &[End], "what is cut short is reset"),
    // routes
    entry("routes::actions", &["x-host bad"], "200", &[Origin], "what is no host is not sent as one"),
    entry(
        "routes::actions",
        &["/r4/a?b", "/r6/a?b"],
        "location",
        &[Log],
        "a redirected request is logged with its own path",
    ),
    entry(
        "filters::filter_state_and_hashes",
        &["mirrored", "mirrored body"],
        "200",
        &[Origin],
        "shadows carry the client's fields and no others",
    ),
    // upgrades
    entry(
        "upgrades::answers",
        &["websocket 200", "websocket 302", "websocket 200 with upgrade"],
        "\nok",
        &[Answer],
        "a refusal keeps its body",
    ),
    entry(
        "upgrades::answers",
        &["websocket 426", "foo 426", "foo 200 with upgrade"],
        "upgrade, close",
        &[Answer],
        "a refused upgrade closes",
    ),
    entry(
        "upgrades::answers",
        &["websocket 103 then 101", "foo 103 then 101"],
        "HTTP/1.1 103",
        &[Answer],
        "interim answers pass",
    ),
    entry(
        "upgrades::answers",
        &["101 with other token", "101 without connection", "101 without upgrade"],
        "HTTP/1.1 502",
        &[Answer],
        "a 101 that switches to nothing that was asked for",
    ),
    entry(
        "upgrades::answers",
        &["websocket 101 with length", "foo 101 with length"],
        "HTTP/1.1 502",
        &[Log],
        "early bytes that go nowhere are not counted",
    ),
    entry("upgrades::answers", &["tunnel then reset"], "101", &[End], "a reset stays a reset"),
    entry(
        "upgrades::answers",
        &["tunnel then close"],
        "101",
        &[Log, Stats],
        "an upstream that ends first is no failure",
    ),
    entry("upgrades::requests", &["h2c and websocket"], "101", &[Answer], "only h2c is taken out of the list"),
    entry("upgrades::requests", &["connection nominates"], "101", &[Origin], "what `connection` names goes no further"),
    entry(
        "clients::answers_of_the_manager",
        &["ignored upgrades: upgrade foo, websocket"],
        "\nok",
        &[Answer],
        "a refusal keeps its body",
    ),
    // CONNECT
    entry(
        "upgrades::connect_targets",
        &["a.com:0", "2130706433:80", "long label"],
        "HTTP/1.1 400",
        &[Answer],
        "no target, RFC 9110 section 9.3.6",
    ),
    entry(
        "upgrades::connect_targets",
        &["a_b.com:443"],
        "200",
        &[Answer],
        "underscores stand in names that resolvers know",
    ),
    entry("upgrades::connect_targets", &["a.com:443#x"], "400", &[Log], "details"),
    entry("upgrades::connect_heads", &["two hosts"], "HTTP/1.1 400", &[Answer], "heads that peers read differently"),
    entry("upgrades::connect_heads", &["upgrade too"], "200", &[Answer], "a CONNECT is a CONNECT"),
    entry(
        "upgrades::connect_heads",
        &["202", "204", "200 with length"],
        "HTTP/1.1 20",
        &[Answer],
        "a 2xx has no framing and closes nothing",
    ),
    entry(
        "clients::addresses",
        &["remote, internal: everything"],
        "200",
        &[Stats],
        "x-envoy-upstream-alt-stat-name names no second stats",
    ),
    entry("upgrades::connect_heads", &["101"], "HTTP/1.1 502", &[Answer], "a 101 to a CONNECT"),
    entry(
        "upgrades::terminated",
        &["post", "post chunked", "post dead"],
        "connection: close",
        &[Answer],
        "the answer leaves before the body was read",
    ),
    entry(
        "upgrades::stripped_ports",
        &["any connect a.com.:443"],
        "404",
        &[Log],
        "a CONNECT is logged with its target",
    ),
];
