//! Whatever arrives, in whatever pieces.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use adit_h1::probe::{self, Outcome};
use adit_h1::{ClientConfig, ServerConfig};
use adit_http::{RequestHead, RequestKind, ResponseHead, Token};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

/// Pieces of messages, put together in any order: closer to the edges than random bytes are.
const WORDS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.1\r\n",
    "CONNECT h:1 HTTP/1.1\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 101 X\r\n",
    "HTTP/1.0 204\r\n",
    "host: h\r\n",
    "content-length: 5\r\n",
    "content-length: 0\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "connection: upgrade\r\n",
    "connection: close, x\r\n",
    "upgrade: websocket\r\n",
    "upgrade: h2c, foo\r\n",
    "expect: 100-continue\r\n",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ",",
    "5\r\n",
    "hello",
    "0\r\n",
    "ffff\r\n",
    "5;a=b\r\n",
    "x: y\r\n",
    "x : y\r\n",
    "\0",
    "\u{e9}",
    "HTTP/1.1",
    "GET",
    "/",
    "http://h/x",
    "*",
    "#",
    "-",
    "+5",
    "0x5",
];

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

/// A request or a response that begins well, and then anything.
fn begun(line: &'static str) -> impl Strategy<Value = Vec<u8>> {
    soup().prop_map(move |rest| [line.as_bytes(), &rest].concat())
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        soup(),
        begun("POST / HTTP/1.1\r\nhost: h\r\n"),
        begun("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"),
        begun("HTTP/1.1 200 OK\r\n"),
        begun("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    ]
}

/// The input cut at the given places.
fn cut<'a>(input: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    cuts.push(input.len());
    cuts.sort_unstable();
    let mut from = 0;
    cuts.into_iter()
        .map(|to| {
            let piece = &input[from..to];
            from = to;
            piece
        })
        .collect()
}

fn shown<H: std::fmt::Debug>(outcome: &Outcome<H>) -> String {
    format!("{outcome:?}")
}

fn name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z0-9!#$%&'*+.^_`|~-]{0,12}".prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap())
}

fn value() -> impl Strategy<Value = HeaderValue> {
    let bytes = prop::collection::vec(prop_oneof![0x21u8..0x7f, Just(b' '), Just(b'\t'), 0x80u8..=0xff], 0..30);
    bytes.prop_map(|bytes| HeaderValue::from_bytes(bytes.trim_ascii()).unwrap())
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec((name(), value()), 0..20).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value);
        }
        map
    })
}

fn request() -> impl Strategy<Value = RequestHead> {
    let kind = prop_oneof![
        3 => Just(RequestKind::Plain),
        1 => "[a-zA-Z0-9/.-]{1,12}(, [a-z]{1,5})?".prop_map(|token| RequestKind::Upgrade(Token::new(&token).unwrap())),
        1 => "[a-z][a-z0-9-]{0,10}y:[1-9][0-9]{0,3}".prop_map(|target| RequestKind::Connect(target.parse().unwrap())),
    ];
    let method = prop::sample::select(vec![Method::GET, Method::POST, Method::PUT, Method::HEAD, Method::OPTIONS]);
    let path = "/[a-zA-Z0-9/._~%-]{0,20}(\\?[a-z=&]{0,10})?";
    (kind, method, path, "[a-z]{1,10}(:[0-9]{1,4})?", fields()).prop_map(|(kind, method, path, host, headers)| {
        let mut head = RequestHead::new(kind, method);
        head.headers = headers;
        head.authority = Some(host.parse().unwrap());
        head.path = Some(path.parse().unwrap());
        match &head.kind {
            RequestKind::Connect(target) => {
                head.authority = Some(target.clone());
                head.method = Method::CONNECT;
                head.path = None;
            }
            RequestKind::Upgrade(token) => {
                head.headers.insert("upgrade", token.as_str().parse().unwrap());
                head.headers.insert("connection", HeaderValue::from_static("upgrade"));
            }
            RequestKind::Plain => {}
        }
        head
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_request_means_the_same_however_it_is_cut(input in input(), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let cfg = ServerConfig { enable_trailers: true, ..ServerConfig::default() };
        let whole = shown(&probe::request(&[&input], &cfg));
        prop_assert_eq!(&shown(&probe::request(&cut(&input, &cuts), &cfg)), &whole);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&shown(&probe::request(&bytes, &cfg)), &whole);
    }

    #[test]
    fn a_response_means_the_same_however_it_is_cut(input in input(), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let cfg = ClientConfig { enable_trailers: true, ..ClientConfig::default() };
        for kind in [RequestKind::Plain, RequestKind::Upgrade(Token::new("websocket").unwrap()), RequestKind::Connect("h:1".parse().unwrap())] {
            let whole = shown(&probe::response(&[&input], &cfg, kind.clone(), false));
            prop_assert_eq!(&shown(&probe::response(&cut(&input, &cuts), &cfg, kind, false)), &whole);
        }
    }

    #[test]
    fn what_is_written_is_read_back(head in request(), end in any::<bool>()) {
        let wire = probe::write_request(&head, end, &ClientConfig::default()).unwrap();
        let Outcome::Taken(message) = probe::request(&[&wire], &ServerConfig::default()) else {
            panic!("not taken: {wire:?}");
        };
        let mut got = message.head;
        if got.headers.get("content-length").is_some_and(|length| length == "0") {
            got.headers.remove("content-length");
        }
        prop_assert_eq!(&got.kind, &head.kind);
        prop_assert_eq!(&got.method, &head.method);
        prop_assert_eq!(&got.path, &head.path);
        prop_assert_eq!(&got.authority, &head.authority);
        prop_assert_eq!(&got.headers, &head.headers);
    }

    #[test]
    fn what_is_answered_is_read_back(to in request(), headers in fields(), status in 200u16..600, end in any::<bool>()) {
        let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
        head.headers = headers;
        let wire = probe::write_response(&head, end, &to).unwrap();
        let read = probe::response(&[&wire], &ClientConfig::default(), to.kind.clone(), to.method == Method::HEAD);
        let Outcome::Taken(message) = read else {
            panic!("not taken: {wire:?}");
        };
        let mut got = message.head;
        got.headers.remove("content-length");
        prop_assert_eq!(got.status, head.status);
        prop_assert_eq!(&got.headers, &head.headers);
        if end && !head.accepts(&to.kind) {
            prop_assert_eq!(message.end.unwrap_or(false), true, "the answer has no body and says so: {:?}", wire);
        }
    }
}
