//! Any text, as YAML and as JSON: loading ends with a configuration or with at least one error.

#![no_main]

use adit_config::{LoadOptions, Source, load, to_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // No file is opened: the text could name any.
    let options = LoadOptions { check_files: false, ..LoadOptions::default() };
    for name in ["fuzz.yaml", "fuzz.json"] {
        match load(&[Source::new(name, text)], &options) {
            Ok(loaded) => assert!(to_json(&loaded.bootstrap).is_some()),
            Err(error) => assert!(error.errors().next().is_some()),
        }
    }
});
