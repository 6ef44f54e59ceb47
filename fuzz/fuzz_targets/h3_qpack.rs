//! Any block is fields within the limit or an error; what was read goes and comes again.
#![no_main]

use adit_h3::qpack::{decode, encode, start};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (max, block) = input;
    let max = usize::from(max);
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let read = decode(block, max, |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
        Ok::<(), ()>(())
    });
    let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    assert!(size <= max);
    if read.is_ok() {
        let mut again = Vec::new();
        start(&mut again);
        for (name, value) in &fields {
            encode(name, value, &mut again);
        }
        let mut left = fields.iter();
        let read = decode(&again, max, |name, value| {
            assert_eq!(left.next(), Some(&(name.to_vec(), value.to_vec())));
            Ok::<(), ()>(())
        });
        assert!(read.is_ok() && left.next().is_none());
    }
});
