//! Upgrades and framing: the upstream attacks.

use adit_tests::peer::{End, Peer};

use crate::lab::{Lab, ROUTES, SMUGGLED, switch, upgrade};

const PLAIN: &str = "GET /plain HTTP/1.1\r\nhost: a\r\n\r\n";

/// The answer is not passed on: a 502, and neither connection is used again.
#[track_caller]
fn invalid(request: &str, answer: impl Into<Vec<u8>>) {
    let answer = answer.into();
    let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    let lab = Lab::new(answer);
    let seen = lab.attack(request);
    assert_eq!(seen.status(), "502", "{shown:?}: {seen:?}");
    assert_eq!(seen.text.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {seen:?}");
    lab.origin_closed();
    for record in lab.records() {
        assert_eq!(record.parts().1, "", "{shown:?}");
    }
    lab.unharmed();
}

#[test]
fn u06_a_101_that_nobody_asked_for() {
    invalid(PLAIN, switch("websocket"));
    invalid(PLAIN, switch("websocket") + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    invalid("CONNECT h:1 HTTP/1.1\r\n\r\n", switch("websocket"));
}

#[test]
fn u07_a_101_with_another_token() {
    invalid(&(upgrade("websocket", "") + SMUGGLED), switch("foo"));
    invalid(&(upgrade("foo", "") + SMUGGLED), switch("foo, bar"));
}

#[test]
fn u08_u15_a_101_that_is_only_a_status() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: close\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.0 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ] {
        invalid(&(upgrade("websocket", "") + SMUGGLED), answer);
    }
}

#[test]
fn u09_a_second_101_is_payload() {
    let lab = Lab::new(switch("foo").repeat(2));
    let seen =
        lab.attack_until(upgrade("foo", ""), |text| text.matches(" 101 ").count() == 2 && text.ends_with("\r\n\r\n"));
    assert!(seen.text.ends_with(&switch("foo")) && seen.text.matches(" 101 ").count() == 2, "{seen:?}");
    lab.unharmed();
}

#[test]
fn u10_a_101_with_framing() {
    // RFC 9112 sections 6.1 and 6.2: a server must send neither in a 1xx.
    for fields in
        ["content-length: 4\r\n", "transfer-encoding: chunked\r\n", "content-length: 4\r\ntransfer-encoding: gzip\r\n"]
    {
        let answer = switch("foo").replace("\r\n\r\n", &format!("\r\n{fields}\r\n")) + "0\r\n\r\nraw";
        invalid(&(upgrade("foo", "") + SMUGGLED), answer);
    }
    // A length of nothing delimits nothing.
    let lab = Lab::new(switch("foo").replace("\r\n\r\n", "\r\ncontent-length: 0\r\n\r\n") + "raw");
    let seen = lab.attack_until(upgrade("foo", "") + "up", |text| text.ends_with("raw"));
    assert!(seen.head().starts_with("http/1.1 101 ") && !seen.head().contains("content-length"), "{seen:?}");
    assert!(seen.text.ends_with("\r\n\r\nraw"), "{seen:?}");
    lab.payload("up");
    lab.unharmed();
}

#[test]
fn u12_interim_answers_before_the_switch() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let lab = Lab::new(format!("{interim}{}down", switch("foo")));
    let seen = lab.attack_until(upgrade("foo", "") + "up", |text| text.ends_with("down"));
    assert!(seen.text.contains("HTTP/1.1 103 ") && seen.text.contains("HTTP/1.1 101 "), "{seen:?}");
    assert!(seen.text.ends_with("down"), "{seen:?}");
    lab.payload("up");
    lab.unharmed();
    // Interim answers and then a refusal: the payload was never released.
    let lab = Lab::new(format!("{interim}HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"));
    let seen = lab.attack(upgrade("foo", "") + SMUGGLED);
    assert!(seen.text.contains("HTTP/1.1 403 ") && seen.end.is_some(), "{seen:?}");
    lab.origin_closed();
    assert_eq!(lab.record().parts().1, "");
    lab.unharmed();
}

#[test]
fn u06_endless_interim_answers_are_given_up() {
    for request in [PLAIN.to_owned(), upgrade("foo", ""), "CONNECT h:1 HTTP/1.1\r\n\r\n".into()] {
        let lab = Lab::new("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20_000));
        let seen = lab.attack(request);
        assert!(seen.text.contains("HTTP/1.1 502 "), "{:?}", &seen.text[seen.text.len().saturating_sub(300)..]);
        lab.origin_closed();
        lab.unharmed();
    }
}

#[test]
fn u27_answers_that_peers_read_differently() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 600 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 +20 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nx: y\n\n",
        "garbage\r\n\r\n",
        "\x16\x03\x01\x02\x00",
    ] {
        // The last two may need more bytes or the end to be judged; the origin ends nothing, so give it a tail.
        invalid(PLAIN, format!("{answer}\r\n\r\n"));
    }
    invalid(PLAIN, format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(70 << 10)));
    invalid(PLAIN, format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(200)));
}

/// A body that breaks the rules after its head was passed on: the client can tell that it is not whole.
#[test]
fn u27_bodies_that_are_cut_or_broken() {
    for (answer, shown) in [
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "a bad chunk"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX0\r\n\r\n", "no line end behind a chunk"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "an absurd size"),
    ] {
        let lab = Lab::new(answer);
        let seen = lab.attack(PLAIN);
        assert!(["200", ""].contains(&seen.status()), "{shown}: {seen:?}");
        assert!(!seen.text.ends_with("0\r\n\r\n"), "{shown}: {seen:?}");
        assert!(seen.end.is_some(), "{shown}: {seen:?}");
        lab.origin_closed();
        lab.unharmed();
    }
}

/// Bytes behind a complete answer are nobody's: neither this client's nor the next one's.
#[test]
fn u01_an_answer_with_a_second_one_behind_it() {
    let lab =
        Lab::new("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison");
    let mut client = Peer::connect(lab.port);
    client.send(PLAIN);
    let seen = lab.collect(&mut client);
    assert_eq!(seen.text.matches("HTTP/1.1 ").count(), 1, "{seen:?}");
    client.send("GET /ok HTTP/1.1\r\nhost: neighbour\r\n\r\n");
    let seen = lab.collect(&mut client);
    assert!(!seen.text.contains("poison") && seen.text.ends_with("\r\n\r\nok"), "{seen:?}");
    drop(client);
    lab.origin_closed();
    lab.unharmed();
}

/// An answer before the request is there would be taken for the next request's.
#[test]
fn u01_an_answer_to_a_request_that_was_not_sent_yet() {
    use std::io::{Read, Write};
    let upstream = adit_tests::origin::serve(|mut socket| {
        // Speaks at once, then again after each head.
        let mut block = [0; 4096];
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
        while let Ok(n) = socket.read(&mut block) {
            if n == 0
                || socket
                    .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine{answer}").as_bytes())
                    .is_err()
            {
                break;
            }
        }
    });
    let port = adit_tests::free_port();
    let _adit = adit_tests::Proxy::adit(&adit_tests::config::resources(
        &[adit_tests::config::listener("l", port, &adit_tests::config::hcm("h", ROUTES, ""))],
        &[adit_tests::config::cluster("c", upstream, "")],
    ));
    for _ in 0..20 {
        let mut client = Peer::connect(port);
        client.send(PLAIN);
        client.head();
        client.expect("mine");
        client.silent(std::time::Duration::from_millis(20));
        client.fin();
        assert_eq!(client.rest(), (vec![], End::Fin));
    }
}
