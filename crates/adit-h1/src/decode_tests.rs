#![allow(clippy::unwrap_used)]
use super::*;

const LIMITS: Limits = Limits { max_bytes: 1000, max_fields: 10, keep: true };

/// Everything that comes out when the input arrives in pieces of `size` bytes, and what is left of it.
fn run(body: Body, input: &[u8], size: usize, max: usize) -> (Vec<u8>, Result<bool, StreamError>, Vec<u8>, Decoder) {
    let mut decoder = Decoder::new(body, LIMITS);
    let (mut buf, mut out) = (BytesMut::new(), Vec::new());
    let mut pieces = input.chunks(size.max(1));
    loop {
        match decoder.step(&mut buf, max) {
            Ok(Step::Data(data)) => {
                assert!(!data.is_empty() && data.len() <= max);
                out.extend_from_slice(&data);
                if let Err(error) = decoder.settle(&mut buf) {
                    return (out, Err(error), buf.to_vec(), decoder);
                }
            }
            Ok(Step::More) => match pieces.next() {
                Some(piece) => buf.extend_from_slice(piece),
                None => {
                    let end = decoder.end_of_input().map(|()| true);
                    return (out, end, buf.to_vec(), decoder);
                }
            },
            Ok(Step::End) => {
                let mut left = buf.to_vec();
                pieces.for_each(|piece| left.extend_from_slice(piece));
                return (out, Ok(false), left, decoder);
            }
            Err(error) => return (out, Err(error), Vec::new(), decoder),
        }
    }
}

/// The same for every split.
fn every_split(body: Body, input: &[u8]) -> (Vec<u8>, Result<bool, StreamError>, Vec<u8>) {
    let (out, end, left, _) = run(body, input, input.len(), usize::MAX);
    for size in [1, 2, 3, 7] {
        for max in [1, 4, usize::MAX] {
            let again = run(body, input, size, max);
            assert_eq!((&again.0, again.1), (&out, end), "in pieces of {size}");
            if end.is_ok() {
                assert_eq!(again.2, left);
            }
        }
    }
    (out, end, left)
}

#[test]
fn a_length_is_counted() {
    assert_eq!(every_split(Body::Length(5), b"helloGET"), (b"hello".to_vec(), Ok(false), b"GET".to_vec()));
    assert_eq!(every_split(Body::Length(5), b"hell").1, Err(StreamError::Truncated));
    assert_eq!(every_split(Body::Empty, b"GET"), (vec![], Ok(false), b"GET".to_vec()));
}

#[test]
fn the_end_of_the_connection_ends_what_nothing_delimits() {
    assert_eq!(every_split(Body::UntilClose, b"hello"), (b"hello".to_vec(), Ok(true), vec![]));
    assert_eq!(every_split(Body::Raw, b""), (vec![], Ok(true), vec![]));
}

#[test]
fn chunks() {
    let text = b"5\r\nhello\r\n00a;x=\"y\"\r\n0123456789\r\n0\r\n\r\nGET";
    assert_eq!(every_split(Body::Chunked, text), (b"hello0123456789".to_vec(), Ok(false), b"GET".to_vec()));
    assert_eq!(every_split(Body::Chunked, b"0;a\r\n\r\n"), (vec![], Ok(false), vec![]));
    assert_eq!(every_split(Body::Chunked, b"A\r\n0123456789\r\n0\r\n\r\n").0, b"0123456789");
}

#[test]
fn chunks_that_stop_are_truncated() {
    for text in ["", "5", "5\r", "5\r\n", "5\r\nhell", "5\r\nhello", "5\r\nhello\r\n", "0\r\n", "0\r\nx: y\r\n"] {
        assert_eq!(every_split(Body::Chunked, text.as_bytes()).1, Err(StreamError::Truncated), "{text:?}");
    }
}

#[test]
fn u27_chunk_lines_that_peers_read_differently() {
    for text in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5 x\r\nhello\r\n0\r\n\r\n",
        "5 \nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "0\r\n\n",
        "0\r\nx: y\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\r\nx\r\n\r\n",
        "10000000000000000\r\n",
        "ffffffffffffffff1\r\n",
        "8000000000000000\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
    ] {
        let end = every_split(Body::Chunked, text.as_bytes()).1;
        assert_eq!(end, Err(StreamError::Protocol("http1.codec_error")), "{text:?}");
    }
}

#[test]
fn spaces_behind_a_size() {
    let text = b"5 \r\nhello\r\n3\t ;x=y\r\nabc\r\n0   \r\n\r\n";
    assert_eq!(every_split(Body::Chunked, text), (b"helloabc".to_vec(), Ok(false), vec![]));
    let many = format!("1{}\r\nx\r\n0\r\n\r\n", " ".repeat(MAX_EXTENSIONS + 1));
    assert!(run(Body::Chunked, many.as_bytes(), 4096, 4096).1.is_err());
}

#[test]
fn extensions_are_bounded_over_the_whole_body() {
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(1000));
    let some = format!("{}0\r\n\r\n", chunk.repeat(16));
    assert_eq!(run(Body::Chunked, some.as_bytes(), 4096, 4096).1, Ok(false));
    assert!(run(Body::Chunked, chunk.repeat(17).as_bytes(), 4096, 4096).1.is_err());
}

#[test]
fn trailers_are_kept_where_wanted_and_bounded() {
    let text = b"0\r\nX-Sum: 1\r\ncontent-length: 5\r\nhost: h\r\n\r\n";
    let (_, end, _, mut decoder) = run(Body::Chunked, text, 1, 100);
    assert_eq!(end, Ok(false));
    let trailers = decoder.take_trailers().unwrap();
    assert_eq!((trailers.len(), trailers.get("x-sum").unwrap().as_bytes()), (1, &b"1"[..]));
    assert!(decoder.take_trailers().is_none());

    let large = format!("0\r\nx: {}\r\n\r\n", "y".repeat(2000));
    for size in [1, 5000] {
        assert_eq!(
            run(Body::Chunked, large.as_bytes(), size, 100).1,
            Err(StreamError::TooLarge("http1.headers_too_large"))
        );
    }
    let limits = Limits { max_fields: usize::MAX, ..LIMITS };
    let mut decoder = Decoder::new(Body::Chunked, limits);
    assert!(matches!(decoder.step(&mut BytesMut::from(&text[..]), 100), Ok(Step::End)));
    assert_eq!(decoder.take_trailers().unwrap().len(), 1);
    let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(11));
    assert_eq!(run(Body::Chunked, many.as_bytes(), 9999, 100).1, Err(StreamError::TooLarge("http1.too_many_headers")));
}
