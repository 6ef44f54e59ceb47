use std::fmt;

/// Where a field is: `static_resources.listeners[0].filter_chains[1].name`.
///
/// A step into an `Any` adds nothing to the path: the fields of the message inside follow those outside. Each step
/// makes a new path, so a parent's path can be kept and shared by its children.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    /// The Bootstrap message itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The field `name` of the message here.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        let mut text = String::with_capacity(self.0.len() + name.len() + 1);
        text.push_str(&self.0);
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(name);
        Self(text)
    }

    /// The element `index` of the list here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of the map here.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key:?}]", self.0))
    }

    /// Field `name`, element `index`: the step that is taken most.
    #[must_use]
    pub fn item(&self, name: &str, index: usize) -> Self {
        self.field(name).index(index)
    }

    /// As it is displayed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without its last step; nothing for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        parent(&self.0).map(|text| Self(text.to_owned()))
    }
}

/// The path `text` without its last step.
pub(crate) fn parent(text: &str) -> Option<&str> {
    if text.is_empty() {
        return None;
    }
    if text.ends_with("\"]") {
        // A map's key may hold any character: its bracket is the last one that opens a quoted key.
        return text.rfind("[\"").map(|at| text.get(..at).unwrap_or_default());
    }
    let at = text.rfind(['.', '[']).unwrap_or(0);
    text.get(..at)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.0
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Self {
        path.clone()
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Path {
    fn from(text: String) -> Self {
        Self(text)
    }
}
