//! Header compression (RFC 7541): blocks of one direction of a connection to fields, and fields to blocks.
//!
//! Deliberately unknown here: frames, streams, and which fields a message must have.
//!
//! Read first: [`Decoder`] and [`Field`], [`Encoder`]. Both begin with the table of 4,096 octets that everybody has before
//! SETTINGS (RFC 9113 section 6.5.2), and hold no memory before the first field that goes into it.

mod decoder;
mod encoder;
mod fields;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use fields::{Field, Pseudo};

/// The dynamic table before anybody asks for another size (RFC 9113 section 6.5.2).
const DEFAULT_TABLE_SIZE: u32 = 4096;
/// The largest table that can be asked for: any integer of five octets holds it, and no longer ones are read.
pub const MAX_TABLE_SIZE: u32 = (1 << 28) - 1;
/// What an entry counts beyond its name and value (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: u32 = 32;
/// Entries of the static table, whose indices come first (RFC 7541 section 2.3.3).
const STATIC_LEN: usize = 61;

/// A header block that RFC 7541 gives no meaning: the connection ends with COMPRESSION_ERROR (RFC 9113 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable;

#[cfg(test)]
mod tests;
