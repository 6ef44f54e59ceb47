//! Headers that a configuration adds or removes: pseudo-headers and `host` are not its to change.

use prost_reflect::{DynamicMessage, Kind, Value};

use super::Whole;
use crate::{Path, walk};

pub(super) fn check(whole: &mut Whole, message: &DynamicMessage) {
    walk::visit(message, &Path::root(), &mut |message, path| {
        for (field, value) in message.fields() {
            let Value::List(items) = value else { continue };
            let options = matches!(field.kind(), Kind::Message(inner) if inner.full_name() == HEADER_VALUE_OPTION);
            let removes = field.name().ends_with("_headers_to_remove");
            if !options && !removes {
                continue;
            }
            for (index, item) in items.iter().enumerate() {
                let name = if removes { item.as_str().map(str::to_owned) } else { added(item) };
                if name.is_some_and(|name| name.starts_with(':') || name.eq_ignore_ascii_case("host")) {
                    let what = if removes { "removed" } else { "modified" };
                    let here = path.field(field.name()).index(index);
                    whole.error(&here, format!(":-prefixed or host headers may not be {what}"));
                }
            }
        }
    });
}

const HEADER_VALUE_OPTION: &str = "envoy.config.core.v3.HeaderValueOption";

fn added(option: &Value) -> Option<String> {
    let header = option.as_message()?.get_field_by_name("header")?;
    let key = header.as_message()?.get_field_by_name("key")?;
    key.as_str().map(str::to_owned)
}
