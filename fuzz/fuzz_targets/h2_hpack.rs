//! Any header blocks are decoded or refused, and what was decoded is the same once we have encoded it; nothing panics.
#![no_main]

use adit_h2::hpack::{Decoder, Encoder, Field};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Option<u16>, Option<u16>, Vec<&[u8]>)| {
    let (limit, peer_limit, blocks) = input;
    let (mut decoder, mut encoder, mut peer) = (Decoder::default(), Encoder::default(), Decoder::default());
    for (at, block) in blocks.into_iter().enumerate() {
        if let (1, Some(limit)) = (at, limit) {
            decoder.acknowledged(limit.into());
        }
        if let (2, Some(limit)) = (at, peer_limit) {
            encoder.set_max_table_size(limit.into());
            peer.acknowledged(limit.into());
        }
        let mut fields = Vec::new();
        if decoder.decode(block, &mut |field, octets| fields.push((field, octets))).is_err() {
            return;
        }
        fields.retain(|(field, _)| *field != Field::Malformed);
        let mut again = BytesMut::new();
        encoder.begin(&mut again);
        for (field, _) in &fields {
            match field {
                Field::Pseudo(name, value) => encoder.pseudo(*name, value.as_bytes(), &mut again),
                Field::Regular(name, value) => encoder.field(name, value, &mut again),
                Field::Malformed => {}
            }
        }
        let mut found = Vec::new();
        assert!(peer.decode(&again, &mut |field, octets| found.push((field, octets))).is_ok());
        assert_eq!(found, fields);
    }
});
