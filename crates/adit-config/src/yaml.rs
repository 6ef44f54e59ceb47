//! YAML text to a tree in which every node knows its line. The YAML library is named here and nowhere else.
//!
//! An alias shares the node it names, so memory grows with the text only; what an alias would add when it is followed
//! is counted against the budget at once, so that an alias bomb is refused before anything follows it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

/// Nodes in one document, those behind aliases counted each time.
pub const MAX_NODES: usize = 400_000;
/// Nesting of mappings and sequences. The protobuf wire format stops at 100 messages, so deeper is of no use.
pub const MAX_DEPTH: usize = 100;
/// Octets of one source.
pub const MAX_BYTES: usize = 64 << 20;

/// One value of a document.
#[derive(Debug)]
pub struct Node {
    /// From 1.
    pub line: u32,
    pub data: Data,
    /// Nodes in here, aliases followed.
    size: usize,
    /// Levels of nesting in here.
    height: usize,
}

#[derive(Debug)]
pub enum Data {
    Null,
    /// `plain` if not quoted: only then can it be something else than a string.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub line: u32,
    pub value: Arc<Node>,
}

/// Something wrong with the text itself.
#[derive(Debug)]
pub struct Problem {
    pub line: u32,
    pub message: String,
    /// Not wrong enough to refuse the document.
    pub warning: bool,
}

impl Problem {
    fn error(line: u32, message: impl Into<String>) -> Self {
        Self { line, message: message.into(), warning: false }
    }
}

/// The first document of `text`, if its syntax is right, and all that is wrong with it.
pub fn parse(text: &str) -> (Option<Arc<Node>>, Vec<Problem>) {
    if text.len() > MAX_BYTES {
        return (None, vec![Problem::error(1, format!("the text is longer than {MAX_BYTES} octets"))]);
    }
    let mut builder = Builder::default();
    let result = builder.read(text);
    let mut problems = builder.problems;
    match result {
        Ok(()) => (builder.root, problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

enum Frame {
    Sequence { line: u32, anchor: usize, items: Vec<Arc<Node>> },
    Mapping(Mapping),
}

struct Mapping {
    line: u32,
    anchor: usize,
    entries: Vec<Entry>,
    keys: HashSet<String>,
    /// The key whose value comes next.
    key: Option<Key>,
    /// What `<<` names; it gives way to the mapping's own keys.
    merged: Vec<Entry>,
}

struct Key {
    text: String,
    line: u32,
    role: Role,
}

#[derive(PartialEq)]
enum Role {
    Field,
    /// `<<`
    Merge,
    /// Tagged `!ignore`, Envoy's mark for a place that only holds anchors.
    Ignored,
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    anchors: HashMap<usize, Arc<Node>>,
    nodes: usize,
    root: Option<Arc<Node>>,
    problems: Vec<Problem>,
}

impl Builder {
    fn read(&mut self, text: &str) -> Result<(), Problem> {
        let options = granit_parser::options! {
            emit_comments: false,
            flow_nesting_limit: MAX_DEPTH + 1,
            block_nesting_limit: MAX_DEPTH + 1,
        };
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next.map_err(|error| syntax(&error))?;
            let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
            if self.root.is_some() && event.is_node() {
                // As in Envoy, the first document is the configuration.
                let message = "only the first YAML document is read".to_owned();
                self.problems.push(Problem { line, message, warning: true });
                return Ok(());
            }
            self.event(event, line)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, line: u32) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref();
                if self.wants_key() {
                    return self.key(text.into_owned(), line, style == ScalarStyle::Plain, tag);
                }
                let data = scalar(text.into_owned(), style, tag);
                self.finish(Node { line, data, size: 1, height: 0 }, anchor)
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Problem::error(line, "an alias stands inside of the node that it names"));
                };
                if self.wants_key() {
                    let Data::Scalar { text, .. } = &node.data else {
                        return Err(Problem::error(line, "a key must be a string"));
                    };
                    return self.key(text.clone(), line, false, None);
                }
                self.value(node)
            }
            Event::SequenceStart(_, anchor, _) => self.open(Frame::Sequence { line, anchor, items: Vec::new() }, line),
            Event::MappingStart(_, anchor, _) => self.open(
                Frame::Mapping(Mapping {
                    line,
                    anchor,
                    entries: Vec::new(),
                    keys: HashSet::new(),
                    key: None,
                    merged: Vec::new(),
                }),
                line,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame::Mapping(mapping)) if mapping.key.is_none())
    }

    fn open(&mut self, frame: Frame, line: u32) -> Result<(), Problem> {
        if self.wants_key() {
            return Err(Problem::error(line, "a key must be a string"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(Problem::error(line, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn key(&mut self, text: String, line: u32, plain: bool, tag: Option<&Tag>) -> Result<(), Problem> {
        let Some(Frame::Mapping(mapping)) = self.stack.last_mut() else { return Ok(()) };
        let ignored = tag.is_some_and(|tag| tag.handle() == "!" && tag.suffix() == "ignore");
        let role = match (ignored, plain && text == "<<") {
            (true, _) => Role::Ignored,
            (false, true) => Role::Merge,
            (false, false) => Role::Field,
        };
        if role == Role::Field && !mapping.keys.insert(text.clone()) {
            self.problems.push(Problem::error(line, format!("duplicate key '{text}'")));
        }
        mapping.key = Some(Key { text, line, role });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        match self.stack.pop() {
            Some(Frame::Sequence { line, anchor, items }) => {
                let (size, height) = measure(items.iter());
                self.finish(Node { line, data: Data::Sequence(items), size, height }, anchor)
            }
            Some(Frame::Mapping(Mapping { line, anchor, mut entries, keys, merged, .. })) => {
                let mut seen = keys;
                for entry in merged {
                    if seen.insert(entry.key.clone()) {
                        entries.push(entry);
                    }
                }
                let (size, height) = measure(entries.iter().map(|entry| &entry.value));
                self.finish(Node { line, data: Data::Mapping(entries), size, height }, anchor)
            }
            None => Ok(()),
        }
    }

    /// A node of the text is complete.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        // What is inside a collection was counted when it was finished.
        self.count(1, node.line)?;
        self.put(node)
    }

    /// A node of the text stands here once more.
    fn value(&mut self, node: Arc<Node>) -> Result<(), Problem> {
        self.count(node.size, node.line)?;
        if self.stack.len() + node.height > MAX_DEPTH {
            return Err(Problem::error(node.line, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.put(node)
    }

    fn count(&mut self, nodes: usize, line: u32) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(Problem::error(line, format!("more than {MAX_NODES} values, aliases followed")));
        }
        Ok(())
    }

    fn put(&mut self, node: Arc<Node>) -> Result<(), Problem> {
        let mapping = match self.stack.last_mut() {
            None => {
                self.root = Some(node);
                return Ok(());
            }
            Some(Frame::Sequence { items, .. }) => {
                items.push(node);
                return Ok(());
            }
            Some(Frame::Mapping(mapping)) => mapping,
        };
        let Some(key) = mapping.key.take() else { return Ok(()) };
        match key.role {
            Role::Ignored => Ok(()),
            Role::Field => {
                mapping.entries.push(Entry { key: key.text, line: key.line, value: node });
                Ok(())
            }
            Role::Merge => {
                let before = mapping.merged.len();
                merge(&node, &mut mapping.merged).map_err(|message| Problem::error(key.line, message))?;
                let added = mapping.merged.len() - before;
                self.count(added, key.line)
            }
        }
    }
}

fn merge(node: &Node, merged: &mut Vec<Entry>) -> Result<(), &'static str> {
    match &node.data {
        Data::Mapping(entries) => {
            merged.extend(entries.iter().cloned());
            Ok(())
        }
        Data::Sequence(items) => items.iter().try_for_each(|item| match &item.data {
            Data::Mapping(entries) => {
                merged.extend(entries.iter().cloned());
                Ok(())
            }
            _ => Err("'<<' takes a mapping or a list of mappings"),
        }),
        _ => Err("'<<' takes a mapping or a list of mappings"),
    }
}

fn measure<'a>(children: impl Iterator<Item = &'a Arc<Node>>) -> (usize, usize) {
    let (mut size, mut height) = (1_usize, 0);
    for child in children {
        size = size.saturating_add(child.size);
        height = height.max(child.height);
    }
    (size, height + 1)
}

fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Data {
    // `!`, `!!str` and tags of one's own make a string of whatever follows.
    let string = tag.is_some_and(|tag| tag.core_suffix().is_none_or(|suffix| suffix == "str"));
    let plain = style == ScalarStyle::Plain && !string;
    if plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        return Data::Null;
    }
    Data::Scalar { text, plain }
}

fn syntax(error: &ScanError) -> Problem {
    let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX);
    Problem::error(line, format!("not YAML: {}", error.info()))
}

#[cfg(test)]
mod tests;
