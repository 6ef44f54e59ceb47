//! In whatever pieces octets come, they do the same.

use fastrand::Rng;

use super::*;

fn random_frame(rng: &mut Rng) -> Vec<u8> {
    let stream = rng.choice([0, 1, 1, 3, 3, 5, 7, 9, 2]).unwrap();
    let kind = rng.choice([0, 0, 0, 1, 1, 1, 2, 3, 4, 6, 8, 8, 9, 0x16]).unwrap();
    let flags = rng.choice([0, 1, 4, 5, 5, 8, 0x0d, 0x25]).unwrap();
    let payload = match kind {
        frame::HEADERS => {
            rng.choice([GET, OK, &[0x40, 1, b'x', 1, b'y'], &[0xbe], &[0x80], &GET[..3]]).unwrap().to_vec()
        }
        frame::RST_STREAM | frame::WINDOW_UPDATE => rng.u32(0..9).to_be_bytes().to_vec(),
        frame::PRIORITY => vec![0, 0, 0, 0, 1],
        frame::PING => vec![7; 8],
        frame::SETTINGS if rng.bool() => vec![0, 4, 0, 0, rng.u8(..), 1],
        frame::SETTINGS => vec![],
        frame::DATA => (0..rng.usize(0..5000)).map(|_| rng.u8(..)).collect(),
        _ => (0..rng.usize(0..40)).map(|_| rng.u8(..)).collect(),
    };
    octets(kind, flags, if matches!(kind, frame::PING | frame::SETTINGS) { 0 } else { stream }, &payload)
}

/// What the input led to: an error if any, what was sent, which requests came, and what of their contents.
type Result = (std::result::Result<(), Fault>, Vec<Sent>, Vec<(Vec<u8>, bool)>);

fn run(is_server: bool, pieces: &[&[u8]]) -> Result {
    let mut end = End::ready(&Http2Options::default(), is_server);
    let mut keys = Vec::new();
    if !is_server {
        keys.extend((0..4).map(|_| end.core.open(&request(), false).unwrap()));
    }
    let mut fed = Ok(());
    for piece in pieces {
        fed = fed.and_then(|()| end.feed(piece));
    }
    while let Some(arrived) = end.core.accept() {
        keys.push(arrived.key);
    }
    let sent = end.sent();
    let mut contents = Vec::new();
    for key in keys {
        let (mut content, mut ended) = (Vec::new(), false);
        while let std::task::Poll::Ready(Ok(received)) = end.core.poll_chunk(key, &noop()) {
            match received {
                send::Received::Chunk(chunk) => content.extend_from_slice(&chunk),
                send::Received::End => {
                    ended = true;
                    break;
                }
            }
        }
        contents.push((content, ended));
    }
    (fed, sent, contents)
}

#[test]
fn any_splitting_of_the_input_gives_the_same() {
    let mut good = 0;
    for seed in 0..3000 {
        let mut rng = Rng::with_seed(seed);
        let is_server = rng.bool();
        let mut input = Vec::new();
        if is_server {
            for stream in [1, 3, 5] {
                input.extend(octets(frame::HEADERS, GOES_ON, stream, GET));
            }
        }
        for _ in 0..rng.usize(1..12) {
            input.extend(random_frame(&mut rng));
        }
        let whole = run(is_server, &[&input]);
        good += usize::from(whole.0.is_ok());
        let mut pieces = Vec::new();
        let mut rest = &input[..];
        let most = rng.choice([1, 3, 20, 3000]).unwrap();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rng.usize(1..=most).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        let split = run(is_server, &pieces);
        if whole.0.is_ok() {
            assert_eq!(split, whole, "seed {seed}");
        } else {
            // The error is the same; what of DATA came before it may not be.
            assert_eq!((split.0, split.1), (whole.0, whole.1), "seed {seed}");
        }
    }
    assert!(good > 200, "{good}");
}

#[test]
fn any_octets_end_in_frames_or_an_error() {
    for seed in 0..20_000 {
        let mut rng = Rng::with_seed(seed);
        let mut end = End::ready(&Http2Options::default(), rng.bool());
        if !end.core.is_server {
            end.core.open(&request(), false).unwrap();
        }
        let input: Vec<u8> =
            (0..rng.usize(0..200)).map(|_| if rng.bool() { rng.u8(..) } else { rng.u8(0..10) }).collect();
        let _ = end.feed(&input);
        end.sent();
    }
}
