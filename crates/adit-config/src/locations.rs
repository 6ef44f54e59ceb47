use std::collections::HashMap;

use crate::{Diagnostic, path};

/// File and line of every field that a configuration sets.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    files: Vec<String>,
    places: HashMap<String, (usize, u32)>,
}

impl Locations {
    pub(crate) fn add_file(&mut self, name: &str) -> usize {
        self.files.push(name.to_owned());
        self.files.len() - 1
    }

    pub(crate) fn add(&mut self, path: &str, file: usize, line: u32) {
        self.places.insert(path.to_owned(), (file, line));
    }

    /// Whether `path` itself is written in a file.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// File and line of `path`, or of the nearest thing around it that is written in a file.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<(&str, u32)> {
        let mut rest = Some(path);
        while let Some(text) = rest {
            if let Some((file, line)) = self.places.get(text) {
                return Some((self.files.get(*file)?, *line));
            }
            rest = path::parent(text);
        }
        None
    }

    /// The finding with its file and line, if its path leads to any and it has none yet.
    #[must_use]
    pub fn resolve(&self, finding: Diagnostic) -> Diagnostic {
        if finding.line.is_some() {
            return finding;
        }
        match self.find(&finding.path) {
            Some((file, line)) => finding.at(file, line),
            None => match self.files.as_slice() {
                [only] => Diagnostic { file: Some(only.clone()), ..finding },
                _ => finding,
            },
        }
    }
}
