//! The payload of SETTINGS (RFC 9114 section 7.2.4).

use crate::error::code;
use crate::shared::PeerSettings;
use crate::{frame, varint};

const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
const H3_DATAGRAM: u64 = 0x33;

/// What we advertise. A dynamic QPACK table and blocked streams stay at their defaults: none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) max_field_section_size: u64,
    pub(crate) extended_connect: bool,
    pub(crate) datagrams: bool,
}

/// Appends the frame.
pub(crate) fn encode(settings: Settings, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(24);
    let mut put = |id, value| {
        varint::encode(id, &mut payload);
        varint::encode(value, &mut payload);
    };
    put(MAX_FIELD_SECTION_SIZE, settings.max_field_section_size);
    if settings.extended_connect {
        put(ENABLE_CONNECT_PROTOCOL, 1);
    }
    if settings.datagrams {
        put(H3_DATAGRAM, 1);
    }
    frame::header(frame::SETTINGS, payload.len() as u64, out);
    out.extend_from_slice(&payload);
}

/// What the peer advertises, or the code of the error that it is. The payload is bounded by its frame.
pub(crate) fn decode(mut payload: &[u8]) -> Result<PeerSettings, u32> {
    let mut settings = PeerSettings::default();
    let mut seen: Vec<u64> = Vec::new();
    while !payload.is_empty() {
        let (id, size) = varint::decode(payload).ok_or(code::FRAME_ERROR)?;
        let rest = payload.get(size..).ok_or(code::FRAME_ERROR)?;
        let (value, size) = varint::decode(rest).ok_or(code::FRAME_ERROR)?;
        payload = rest.get(size..).ok_or(code::FRAME_ERROR)?;
        // Identifiers of HTTP/2 are reserved (RFC 9114 section 7.2.4.1); none comes twice.
        if matches!(id, 0x0 | 0x2..=0x5) {
            return Err(code::SETTINGS_ERROR);
        }
        seen.push(id);
        match id {
            MAX_FIELD_SECTION_SIZE => settings.max_field_section_size = value,
            ENABLE_CONNECT_PROTOCOL => settings.extended_connect = flag(value)?,
            H3_DATAGRAM => settings.datagrams = flag(value)?,
            _ => {}
        }
    }
    seen.sort_unstable();
    let repeated = seen.windows(2).any(|pair| pair.first() == pair.last());
    if repeated { Err(code::SETTINGS_ERROR) } else { Ok(settings) }
}

fn flag(value: u64) -> Result<bool, u32> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(code::SETTINGS_ERROR),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn payload(pairs: &[(u64, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (id, value) in pairs {
            varint::encode(*id, &mut out);
            varint::encode(*value, &mut out);
        }
        out
    }

    #[test]
    fn what_we_say_is_understood() {
        let ours = Settings { max_field_section_size: 61_440, extended_connect: true, datagrams: true };
        let mut out = Vec::new();
        encode(ours, &mut out);
        let peer = PeerSettings { max_field_section_size: 61_440, extended_connect: true, datagrams: true };
        assert_eq!(decode(&out[2..]), Ok(peer));
        assert_eq!(decode(&[]), Ok(PeerSettings::default()));
    }

    #[test]
    fn unknown_settings_mean_nothing() {
        assert_eq!(decode(&payload(&[(0x21, 7), (0x1, 4096), (0x7, 100)])), Ok(PeerSettings::default()));
    }

    #[test]
    fn bad_settings_have_their_codes() {
        for (pairs, code) in [
            (&[(0x2, 0)][..], code::SETTINGS_ERROR),
            (&[(0x0, 0)], code::SETTINGS_ERROR),
            (&[(0x8, 2)], code::SETTINGS_ERROR),
            (&[(0x33, 9)], code::SETTINGS_ERROR),
            (&[(0x21, 1), (0x6, 5), (0x21, 1)], code::SETTINGS_ERROR),
        ] {
            assert_eq!(decode(&payload(pairs)), Err(code), "{pairs:?}");
        }
        assert_eq!(decode(&[0x6]), Err(code::FRAME_ERROR));
        assert_eq!(decode(&[0x6, 0x40]), Err(code::FRAME_ERROR));
    }
}
