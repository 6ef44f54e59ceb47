//! Query strings of the admin interface.

/// The parameters of a query, in order, decoded.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let items = text.unwrap_or("").split('&').filter(|item| !item.is_empty());
        Self(
            items
                .map(|item| {
                    let (name, value) = item.split_once('=').unwrap_or((item, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every parameter.
    pub(crate) fn all(&self) -> &[(String, String)] {
        &self.0
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse(Some("filter=a%2Eb%7c+c&usedonly&x=%zz&y=%4"));
        assert_eq!(query.get("filter"), Some("a.b| c"));
        assert!(query.has("usedonly"));
        assert_eq!(query.get("x"), Some("%zz"));
        assert_eq!(query.get("y"), Some("%4"));
        assert!(!query.has("z"));
        assert_eq!(query.all().len(), 4);
    }
}
