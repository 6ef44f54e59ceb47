//! The frames that are made here; all others are the `h2` crate's.

use super::{
    ACK_OR_END_STREAM, CONTINUATION, END_HEADERS, GOAWAY, HEAD_LEN, HEADERS, PADDED, PRIORITISED, PRIORITY,
    PRIORITY_LEN,
};

/// A PRIORITY frame by which this stream depends on itself. The `h2` crate resets the stream with PROTOCOL_ERROR (RFC 7540
/// section 5.3.1).
pub(crate) fn depends_on_itself(stream: u32) -> [u8; HEAD_LEN + PRIORITY_LEN as usize] {
    let [a, b, c, d] = stream.to_be_bytes();
    [0, 0, PRIORITY_LEN, PRIORITY, 0, a, b, c, d, a, b, c, d, 0]
}

/// A GOAWAY frame of a side that processed no stream of its peer's (RFC 9113 section 6.8).
pub(crate) fn goaway(code: u32) -> [u8; HEAD_LEN + 8] {
    let [a, b, c, d] = code.to_be_bytes();
    [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
}

/// Puts the frames of a whole header block, the first in `octets`, into one HEADERS frame behind `out`, without padding and
/// priority. Gives the number of octets they took; `None`, and nothing is put in, where the payload would be longer than
/// `max`.
pub(crate) fn join(octets: &[u8], max: usize, out: &mut Vec<u8>) -> Option<usize> {
    let start = out.len();
    let took = put_together(octets, out).filter(|_| out.len() - start - HEAD_LEN <= max);
    let len = (out.len() - start).saturating_sub(HEAD_LEN) as u32;
    match (took, len.to_be_bytes(), out.get_mut(start..)) {
        (Some(_), [_, high, middle, low], Some([a, b, c, _, flags, ..])) => {
            (*a, *b, *c) = (high, middle, low);
            *flags = *flags & ACK_OR_END_STREAM | END_HEADERS;
        }
        _ => out.truncate(start),
    }
    took
}

/// The first frame's head as it is, and the fragments of all frames.
fn put_together(octets: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut rest = octets;
    loop {
        let (head, behind) = rest.split_first_chunk::<HEAD_LEN>()?;
        let &[a, b, c, kind, flags, ..] = head;
        let (mut payload, behind) = behind.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)?;
        rest = behind;
        match kind {
            HEADERS => {
                out.extend_from_slice(head);
                if flags & PADDED != 0 {
                    let (&padding, padded) = payload.split_first()?;
                    payload = padded.get(..padded.len().checked_sub(usize::from(padding))?)?;
                }
                if flags & PRIORITISED != 0 {
                    payload = payload.get(usize::from(PRIORITY_LEN)..)?;
                }
            }
            CONTINUATION => {}
            _ => return None,
        }
        out.extend_from_slice(payload);
        if flags & END_HEADERS != 0 {
            return Some(octets.len() - rest.len());
        }
    }
}
