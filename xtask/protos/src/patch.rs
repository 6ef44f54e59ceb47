//! What is changed in the `.proto` files before they are compiled.

/// File, text that must occur in it exactly once, and what stands there instead.
const PATCHES: &[(&str, &str, &str)] = &[];

/// Packages below `envoy.extensions` that files name relatively (`common.tap.v3.X`). protox looks such a name up in
/// sibling packages of the same name (`envoy.extensions.filters.common`) even if the file does not import them.
const RELATIVE: [&str; 5] = ["async_files", "aws", "dynamic_forward_proxy", "ratelimit", "tap"];

/// The source of the file `name`, with the changes that are listed for it.
///
/// # Panics
/// If a change does not fit: the source of the files has another version than the list was made for.
pub fn source(name: &str, mut text: String) -> String {
    if name.starts_with("envoy/extensions/") {
        for package in RELATIVE {
            text = text.replace(
                &format!(" common.{package}.v3."),
                &format!(" .envoy.extensions.common.{package}.v3."),
            );
        }
    }
    for (_, from, to) in PATCHES.iter().filter(|(file, _, _)| *file == name) {
        assert_eq!(text.matches(from).count(), 1, "{name}: the patch of {from:?} does not fit");
        text = text.replace(from, to);
    }
    text
}
