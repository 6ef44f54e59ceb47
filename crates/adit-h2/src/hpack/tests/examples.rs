//! RFC 7541 appendix C.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// A block, what it holds, and the table's size behind it.
fn check(decoder: &mut Decoder, block: &str, fields: &[(&str, &str)], size: usize) {
    let expected: Vec<_> = fields.iter().map(|(name, value)| judged(&(name.to_vec(), value.to_vec()))).collect();
    assert_eq!(decode(decoder, &hex(block)).unwrap(), expected, "{block}");
    assert_eq!(decoder.sizes().iter().sum::<usize>(), size, "{block}");
}

trait ToVec {
    fn to_vec(&self) -> Vec<u8>;
}

impl ToVec for &str {
    fn to_vec(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

#[test]
fn c_2_representations() {
    let header = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    check(&mut Decoder::default(), header, &[("custom-key", "custom-header")], 55);
    check(&mut Decoder::default(), "040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 0);
    check(&mut Decoder::default(), "1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 0);
    check(&mut Decoder::default(), "82", &[(":method", "GET")], 0);
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

const REQUESTS_IN_HUFFMAN: [&str; 3] = [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
];

#[test]
fn c_3_and_c_4_requests() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    for blocks in [plain, REQUESTS_IN_HUFFMAN] {
        let mut decoder = Decoder::default();
        for ((block, fields), size) in blocks.into_iter().zip(REQUESTS).zip([57, 110, 164]) {
            check(&mut decoder, block, fields, size);
        }
    }
}

/// The encoder makes the same choices.
#[test]
fn c_4_requests_encoded() {
    let mut encoder = Encoder::default();
    for (fields, block) in REQUESTS.into_iter().zip(REQUESTS_IN_HUFFMAN) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec(), false)).collect();
        assert_eq!(write(&mut encoder, &fields), hex(block));
    }
}

const RESPONSES: [&[(&str, &str)]; 3] = [
    &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
];

/// With a table of 256 octets: entries are evicted.
#[test]
fn c_5_and_c_6_responses() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f \
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b \
         2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 \
         8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::default();
        decoder.acknowledged(256);
        check(&mut decoder, "3fe1 01", &[], 0);
        for ((block, fields), size) in blocks.into_iter().zip(RESPONSES).zip([222, 222, 215]) {
            check(&mut decoder, block, fields, size);
        }
    }
}
