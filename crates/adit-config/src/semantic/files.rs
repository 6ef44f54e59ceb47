//! Files that the configuration names: what is read must be readable, what is written must be writable. Envoy opens
//! them while it loads, also if it only validates.

use std::fs::{self, OpenOptions};

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use super::Whole;
use crate::{Path, read_data_source, walk};

pub(super) fn check(whole: &mut Whole, message: &DynamicMessage) {
    walk::visit(message, &Path::root(), &mut |message, path| {
        let descriptor = message.descriptor();
        let found = match descriptor.full_name() {
            "envoy.config.core.v3.DataSource" => data_source(message, path),
            "envoy.extensions.access_loggers.file.v3.FileAccessLog" => log_file(message, path),
            _ => None,
        };
        if let Some((path, problem)) = found {
            whole.error(&path, problem);
        }
    });
}

fn data_source(message: &DynamicMessage, path: &Path) -> Option<(Path, String)> {
    let name = ["filename", "environment_variable"].into_iter().find(|name| message.has_field_by_name(name))?;
    let source = message.transcode_to().ok()?;
    if name == "filename" {
        let file = text(message, name)?;
        // A pipe or a device would be used up, or would block.
        if fs::metadata(&file).is_ok_and(|data| !data.is_file() && !data.is_dir()) {
            return None;
        }
    }
    let problem = read_data_source(&source).err()?;
    Some((path.field(name), problem.to_string()))
}

fn log_file(message: &DynamicMessage, path: &Path) -> Option<(Path, String)> {
    let file = text(message, "path")?;
    // Devices and pipes are opened when they are written; opening a pipe waits for its reader.
    if file.is_empty() || fs::metadata(&file).is_ok_and(|data| !data.is_file() && !data.is_dir()) {
        return None;
    }
    let error = OpenOptions::new().create(true).append(true).open(&file).err()?;
    Some((path.field("path"), format!("unable to open file '{file}': {error}")))
}

fn text(message: &DynamicMessage, field: &str) -> Option<String> {
    message.get_field_by_name(field).as_deref().and_then(Value::as_str).map(str::to_owned)
}
