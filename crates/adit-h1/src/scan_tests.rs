use super::*;

fn whole(text: &[u8]) -> Scan {
    Scanner::default().scan(text)
}

#[test]
fn a_head_ends_at_its_first_empty_line() {
    assert_eq!(whole(b"GET / HTTP/1.1\r\na: b\r\n\r\nrest\n"), Scan::Complete(Extent { length: 24, lines: 2 }));
    assert_eq!(whole(b"\r\nrest"), Scan::Complete(Extent { length: 2, lines: 0 }));
    assert_eq!(whole(b"GET / HTTP/1.1\r\na: b\r\n"), Scan::Partial);
    assert_eq!(whole(b"GET / HTTP/1.1\r\na: b\r\n\r"), Scan::Partial);
    assert_eq!(whole(b""), Scan::Partial);
}

#[test]
fn u27_a_lone_cr_or_lf_is_refused() {
    for text in [&b"a\n"[..], b"a\r\nb\n\r\n", b"a\rb", b"a\r\r\n", b"\n", b"a\r\n\n", b"a\r\n\r\r\n"] {
        assert_eq!(whole(text), Scan::BadLine, "{text:?}");
    }
}

#[test]
fn the_split_of_the_input_does_not_matter() {
    for text in [&b"a: b\r\nc\r\n\r\nx"[..], b"a\r\nb\rc\r\n\r\n", b"a\r\nb\n\r\n"] {
        let once = whole(text);
        let mut scanner = Scanner::default();
        let mut found = Scan::Partial;
        for n in 0..=text.len() {
            found = scanner.scan(&text[..n]);
            if found != Scan::Partial {
                break;
            }
        }
        assert_eq!(found, once, "{text:?}");
    }
}

#[test]
fn what_is_looked_for_is_found_wherever_it_stands() {
    for length in 0..40 {
        for wanted in 0..length {
            for around in [b' ', b'\t', 0, 0x0e, 0x7f, 0x80, 0xff, b';', b'9'] {
                for byte in [b'\r', b'\n', b':'] {
                    let mut text = vec![around; length];
                    text[wanted] = byte;
                    for from in 0..=length {
                        let expected = (from <= wanted).then_some(wanted);
                        assert_eq!(find(&text, from, byte), expected);
                        assert_eq!(line_break(&text, from), expected.filter(|_| byte != b':'));
                    }
                }
            }
        }
    }
}
