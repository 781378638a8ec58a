//! HPACK (RFC 7541): the compression of header lists.
//!
//! ```text
//!  header block --> Decoder --> &Field     Decoder: string, huffman::decode, Table, RecentLiterals
//!  HeaderMap    --> Encoder --> block      Encoder: huffman::encode, a table of its own
//! ```
//!
//! Names and values are parsed when they enter the dynamic table. A field that the peer sends as an
//! index costs neither parsing nor an allocation.

mod decoder;
mod encoder;
mod field;
#[cfg(fuzzing)]
pub mod fuzzing;
mod huffman;
mod integer;
mod recent;
mod static_table;
mod table;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::decoder::DecodeError;
pub(crate) use self::decoder::Decoder;
pub(crate) use self::encoder::Encoder;
pub(crate) use self::field::{Field, Name, Value};

/// The size of the dynamic table until a SETTINGS frame changes it (RFC 9113 section 6.5.2).
pub(crate) const DEFAULT_TABLE_SIZE: usize = 4096;
