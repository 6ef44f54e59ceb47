//! Format strings: text with `%OPERATOR(argument):length%`.

mod header;
mod names;
mod operator;
mod parse;
mod simple;
mod structured;
mod time;
mod tls;
mod value;

use adit_filter::LogContext;
use http::HeaderName;

use operator::Operator;
pub(crate) use value::{Val, write_json_string};

/// What an access log without a format prints.
pub const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A parsed format string.
#[derive(Debug, Clone)]
pub struct Format {
    pieces: Vec<Piece>,
    /// What stands for a missing value.
    missing: &'static str,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(Box<str>),
    Operator { operator: Operator, length: Option<usize> },
}

/// What an operator may look at: the stream, and the body of a local reply (`%LOCAL_REPLY_BODY%`).
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub context: LogContext<'a>,
    pub body: &'a str,
}

impl Format {
    /// Parses a format string. A missing value prints as `-`.
    ///
    /// # Errors
    /// `Not supported field in StreamInfo: FOO` for an operator that does not exist; other words for a malformed one.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { pieces: parse::pieces(text)?, missing: "-" })
    }

    /// Parses a format string whose missing values print as nothing (`omit_empty_values`, header values).
    ///
    /// # Errors
    /// Like [`Format::parse`].
    pub fn parse_omitting(text: &str) -> Result<Self, String> {
        Ok(Self { pieces: parse::pieces(text)?, missing: "" })
    }

    /// What it prints.
    pub fn render(&self, context: &LogContext<'_>) -> String {
        let mut out = String::new();
        self.render_into(context, &mut out);
        out
    }

    /// Appends what it prints.
    pub fn render_into(&self, context: &LogContext<'_>, out: &mut String) {
        self.write(&Look { context: *context, body: "" }, out);
    }

    /// Appends what it prints about a local reply with this body.
    pub fn render_reply(&self, context: &LogContext<'_>, body: &str, out: &mut String) {
        self.write(&Look { context: *context, body }, out);
    }

    /// The text, if it has no operator.
    pub fn as_literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The request fields that it reads.
    pub fn request_fields(&self) -> impl Iterator<Item = &HeaderName> {
        self.operators().flat_map(Operator::request_fields)
    }

    /// Whether it looks at the request: its fields, pseudo fields, path or query.
    pub fn reads_request(&self) -> bool {
        self.operators().any(Operator::reads_request)
    }

    /// The response fields that it reads.
    pub fn response_fields(&self) -> impl Iterator<Item = &HeaderName> {
        self.operators().flat_map(Operator::response_fields)
    }

    fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Operator { operator, .. } => Some(operator),
        })
    }

    pub(crate) fn write(&self, look: &Look<'_>, out: &mut String) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Operator { operator, length } => {
                    let start = out.len();
                    if !operator.value(look).write(out) {
                        out.push_str(self.missing);
                    }
                    shorten(out, start, *length);
                }
            }
        }
    }

    /// Appends the JSON form: one operator alone keeps its type, anything else is a string. `false` if that is null.
    pub(crate) fn write_json(&self, look: &Look<'_>, out: &mut String) -> bool {
        if let [Piece::Operator { operator, length }] = self.pieces.as_slice() {
            return operator.value(look).write_json(*length, out);
        }
        let mut text = String::new();
        self.write(look, &mut text);
        value::write_json_string(&text, out);
        true
    }
}

/// Cuts what was appended since `start` to `length` bytes, or a few less so as not to cut a character.
fn shorten(out: &mut String, start: usize, length: Option<usize>) {
    let Some(end) = length.and_then(|length| start.checked_add(length)).filter(|end| *end < out.len()) else { return };
    let end = (start..=end).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(start);
    out.truncate(end);
}

#[cfg(test)]
mod tests;
