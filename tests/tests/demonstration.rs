//! A start without any argument: what it prints, and every line of it pasted into a shell.
#![cfg(feature = "e2e")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use adit_tests::eventually;
use adit_tests::process::{adit_binary, http};

struct Demonstration(Child);

impl Drop for Demonstration {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it, and gives what it printed. Its ports are fixed: another one on this machine is waited for.
fn start() -> (Demonstration, String) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let child = Command::new(adit_binary()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut demonstration = Demonstration(child);
        let mut text = String::new();
        let mut lines = BufReader::new(demonstration.0.stdout.take().unwrap());
        while lines.read_line(&mut text).is_ok_and(|n| n > 0) && !text.contains("Ctrl-C") {}
        if text.contains("Ctrl-C") {
            return (demonstration, text);
        }
        let mut error = String::new();
        demonstration.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert!(error.contains("in use") && Instant::now() < end, "{error}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn every_line_of_the_demonstration_works_when_pasted() {
    let (mut demonstration, text) = start();
    eventually("it is ready", || http(9901, "GET", "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    let shown: Vec<String> = lines
        .iter()
        .map(|line| {
            let out = Command::new("sh").args(["-c", line]).output().unwrap();
            String::from_utf8_lossy(&out.stdout).into_owned()
        })
        .collect();
    let expected = [
        "over a WebSocket",
        "Hello from the origin",
        "Hello from the origin",
        "Hello from the origin",
        "upgrades_total: ",
    ];
    assert_eq!(shown.len(), expected.len(), "{text}");
    for ((line, shown), expected) in lines.iter().zip(&shown).zip(expected) {
        assert!(shown.contains(expected), "{line}\n{shown}");
    }
    // Each of the three that can be told apart went where it says.
    assert!(shown[4].contains("http.websocket.downstream_cx_upgrades_total: 1"), "{}", shown[4]);
    assert!(shown[4].contains("http.connect.downstream_cx_upgrades_total: 2"), "{}", shown[4]);
    assert!(http(9901, "GET", "/").unwrap().contains("<html"));
    Command::new("kill").args(["-INT", &demonstration.0.id().to_string()]).status().unwrap();
    assert_eq!(demonstration.0.wait().unwrap().code(), Some(0));
}
