use std::fmt;

use crate::Path;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration is used all the same.
    Warning,
    /// The configuration is refused.
    Error,
}

/// One finding about a configuration: where, and what.
///
/// Displays as `FILE: line 4: static_resources.listeners[0].address: message`, leaving out what is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The file as it was named on the command line, `--config-yaml`, or nothing.
    pub file: Option<String>,
    /// Line in the file, from 1.
    pub line: Option<u32>,
    /// Path of the field from the Bootstrap message; empty for the document as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl Diagnostic {
    /// An error at `path`, with no line yet: [`crate::Locations::resolve`] adds it.
    pub fn error(path: impl Into<Path>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, path.into(), message.into())
    }

    /// A warning at `path`, with no line yet.
    pub fn warning(path: impl Into<Path>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, path.into(), message.into())
    }

    fn new(severity: Severity, path: Path, message: String) -> Self {
        Self { severity, file: None, line: None, path: path.into(), message }
    }

    /// The same finding, at this place.
    #[must_use]
    pub fn at(mut self, file: &str, line: u32) -> Self {
        self.file = Some(file.to_owned());
        self.line = Some(line);
        self
    }

    /// Whether it refuses the configuration.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a configuration is refused: at least one error, with the warnings, in the order of the files' lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

impl ConfigError {
    /// The errors alone.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|finding| finding.is_error())
    }
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}

/// One line for each error.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

/// The errors among some findings as a person reads them: a line for each, at most [`Report::MOST`], then how many more
/// there are.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a>(pub &'a [Diagnostic]);

impl Report<'_> {
    /// Errors that are shown.
    pub const MOST: usize = 500;
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self.0.iter().filter(|finding| finding.is_error());
        for error in errors.by_ref().take(Self::MOST) {
            writeln!(f, "{error}")?;
        }
        match errors.count() {
            0 => Ok(()),
            more => writeln!(f, "... and {more} more errors"),
        }
    }
}

impl std::error::Error for ConfigError {}
