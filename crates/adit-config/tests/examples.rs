//! Envoy's own example configurations load.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use adit_config::{LoadOptions, Source, load};

#[test]
fn every_example_of_envoy_loads() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/envoy");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "yaml") {
            continue;
        }
        let source = Source::read(&path).unwrap();
        if let Err(error) = load(&[source], &LoadOptions::default()) {
            panic!("{error}");
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
}
