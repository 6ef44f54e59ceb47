//! What a case is: the client's steps, the origin's script, and where the two proxies may differ.

use crate::origin::Reply;

/// What a client does, in order.
#[derive(Clone)]
pub enum Do {
    Send(Vec<u8>),
    /// Waits for one more complete head.
    Head,
    Pause(u64),
    Fin,
    Rst,
}

pub fn send(text: impl AsRef<[u8]>) -> Do {
    Do::Send(text.as_ref().to_vec())
}

/// A part of what is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What the client received.
    Answer,
    /// How the client's connection ended.
    End,
    /// What the origin received.
    Origin,
    /// Lines of the access log.
    Log,
    /// The byte counts of those lines.
    Bytes,
    /// How far counters and gauges moved.
    Stats,
}

/// One case: what is sent, what the origin says, and where the two may differ.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub client: Vec<Do>,
    pub script: Vec<Reply>,
    pub differs: Vec<Part>,
    pub why: &'static str,
    /// What adit's answer contains.
    pub expect: Option<&'static str>,
    pub quiet: u64,
    /// Lines of stats that contain one of these are not compared.
    pub ignored: Vec<&'static str>,
}

/// An answer of the origin.
pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Case {
    /// Sends these bytes; the origin answers 200.
    pub fn new(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        Self::steps(name, vec![send(bytes)])
    }

    pub fn steps(name: impl Into<String>, client: Vec<Do>) -> Self {
        Self {
            name: name.into(),
            client,
            script: vec![Reply::Answer(OK)],
            differs: Vec::new(),
            why: "",
            expect: None,
            quiet: 250,
            ignored: Vec::new(),
        }
    }

    /// A GET of a path.
    pub fn get(path: &str) -> Self {
        Self::new(path, format!("GET {path} HTTP/1.1\r\nhost: a.com\r\n\r\n"))
    }

    /// A GET with more fields, each ending in CRLF.
    pub fn with(name: impl Into<String>, path: &str, fields: &str) -> Self {
        Self::new(name, format!("GET {path} HTTP/1.1\r\nhost: a.com\r\n{fields}\r\n"))
    }

    /// Whether this is its name, or the end of it.
    pub fn is(&self, name: &str) -> bool {
        self.name == name || self.name.ends_with(&format!(" {name}"))
    }

    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    pub fn origin(mut self, reply: Reply) -> Self {
        self.script = vec![reply];
        self
    }

    pub fn script(mut self, script: Vec<Reply>) -> Self {
        self.script = script;
        self
    }

    /// These parts differ, deliberately. They must: a case that has become the same is an error too.
    pub fn differs(mut self, parts: &[Part], why: &'static str) -> Self {
        self.differs = parts.to_vec();
        self.why = why;
        self
    }

    /// How long nothing comes before the connection is taken to stay open.
    pub fn quiet(mut self, millis: u64) -> Self {
        self.quiet = millis;
        self
    }
}
