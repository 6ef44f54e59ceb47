//! One endpoint of a tunnel: two halves, of which a tunnel holds four for as long as it lives.

use std::ops::{Deref, DerefMut};

use crate::{ByteSink, ByteSource, Io, TcpSink, TcpSource};

/// A reading half as a tunnel holds it: that of plain TCP without a box of its own.
pub enum Source {
    /// Of a plain TCP socket.
    Tcp(TcpSource),
    /// Any other.
    Other(Box<dyn ByteSource>),
}

/// A writing half as a tunnel holds it: that of plain TCP without a box of its own.
pub enum Sink {
    /// Of a plain TCP socket.
    Tcp(TcpSink),
    /// Any other.
    Other(Box<dyn ByteSink>),
}

/// One endpoint of a relay: the two halves towards one peer.
pub struct Side {
    /// Where its bytes come from.
    pub source: Source,
    /// Where bytes for it go.
    pub sink: Sink,
}

/// One endpoint of a relay, borrowed.
pub struct SideMut<'a> {
    /// Where its bytes come from.
    pub source: &'a mut dyn ByteSource,
    /// Where bytes for it go.
    pub sink: &'a mut dyn ByteSink,
}

impl Side {
    /// From two halves.
    pub fn new(source: Box<dyn ByteSource>, sink: Box<dyn ByteSink>) -> Self {
        Self { source: Source::Other(source), sink: Sink::Other(sink) }
    }

    /// Both halves, borrowed.
    pub fn as_mut(&mut self) -> SideMut<'_> {
        SideMut { source: &mut *self.source, sink: &mut *self.sink }
    }
}

impl From<Io> for Side {
    fn from(io: Io) -> Self {
        io.into_side()
    }
}

impl Deref for Source {
    type Target = dyn ByteSource;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Tcp(source) => source,
            Self::Other(source) => &**source,
        }
    }
}

impl DerefMut for Source {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Tcp(source) => source,
            Self::Other(source) => &mut **source,
        }
    }
}

impl Deref for Sink {
    type Target = dyn ByteSink;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Tcp(sink) => sink,
            Self::Other(sink) => &**sink,
        }
    }
}

impl DerefMut for Sink {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Tcp(sink) => sink,
            Self::Other(sink) => &mut **sink,
        }
    }
}

impl From<Source> for Box<dyn ByteSource> {
    fn from(source: Source) -> Self {
        match source {
            Source::Tcp(source) => Box::new(source),
            Source::Other(source) => source,
        }
    }
}

impl From<Sink> for Box<dyn ByteSink> {
    fn from(sink: Sink) -> Self {
        match sink {
            Sink::Tcp(sink) => Box::new(sink),
            Sink::Other(sink) => sink,
        }
    }
}
