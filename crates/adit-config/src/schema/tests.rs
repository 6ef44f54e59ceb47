#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn the_embedded_schema_is_whole() {
    let schema = schema();
    assert!(schema.message("envoy.config.bootstrap.v3.Bootstrap").is_some());
    assert!(schema.known("envoy.extensions.filters.http.lua.v3.Lua"));
    assert!(schema.field("envoy.config.cluster.v3.Cluster.name").unwrap().rules.is_some());
    assert!(schema.field("envoy.config.bootstrap.v3.Admin.access_log_path").unwrap().deprecated);
    assert!(schema.oneof_required("envoy.config.route.v3.Route.action"));
}

/// A misspelt line of supported.txt would refuse what is implemented.
#[test]
fn every_supported_field_exists() {
    let mut wrong = Vec::new();
    for (message, fields) in &schema().supported {
        match schema().message(message) {
            None => wrong.push((*message).to_owned()),
            Some(descriptor) => wrong.extend(
                fields
                    .iter()
                    .filter(|field| descriptor.get_field_by_name(field).is_none())
                    .map(|field| format!("{message}.{field}")),
            ),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
