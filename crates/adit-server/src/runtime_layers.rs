//! The layered runtime becomes one map (`envoy.config.bootstrap.v3.LayeredRuntime`).

use adit_config::proto::envoy::config::bootstrap::v3 as pb;
use adit_filter::RuntimeValues;
use pb::runtime_layer::LayerSpecifier;
use prost_types::value::Kind;

/// Names of the layers, and whether one may be changed through the admin interface.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The layers' names, in order.
    pub names: Vec<String>,
    /// There is an `admin_layer`.
    pub admin: bool,
    /// What each static layer sets, in order of the layers.
    pub values: Vec<Vec<(String, String)>>,
}

/// Fills `runtime` from the bootstrap: later layers win.
pub(crate) fn load(message: Option<&pb::LayeredRuntime>, runtime: &RuntimeValues) -> Layers {
    let mut layers = Layers::default();
    for layer in message.map(|message| message.layers.as_slice()).unwrap_or_default() {
        layers.names.push(layer.name.clone());
        let mut values = Vec::new();
        match &layer.layer_specifier {
            Some(LayerSpecifier::StaticLayer(values_of)) => flatten("", values_of, &mut values),
            Some(LayerSpecifier::AdminLayer(_)) => layers.admin = true,
            _ => {}
        }
        for (key, value) in &values {
            runtime.set(key, value);
        }
        layers.values.push(values);
    }
    layers
}

/// Nested structs become dotted keys.
fn flatten(prefix: &str, message: &prost_types::Struct, out: &mut Vec<(String, String)>) {
    for (name, value) in &message.fields {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match &value.kind {
            Some(Kind::StructValue(inner)) => flatten(&key, inner, out),
            Some(Kind::BoolValue(value)) => out.push((key, value.to_string())),
            Some(Kind::NumberValue(value)) => out.push((key, value.to_string())),
            Some(Kind::StringValue(value)) => out.push((key, value.clone())),
            Some(Kind::ListValue(_) | Kind::NullValue(_)) | None => {}
        }
    }
}
