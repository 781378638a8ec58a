use std::error::Error;
use std::fmt;

use super::DEFAULT_TABLE_SIZE;
use super::field::{Field, Name};
use super::huffman;
use super::integer::Reader;
use super::recent::RecentLiterals;
use super::table::Table;

/// The decoder of one direction of a connection.
///
/// After an error it must not be used any more: the table no longer is that of the peer's encoder.
pub(crate) struct Decoder {
    table: Table,
    /// The table's limit, which the peer knows by SETTINGS_HEADER_TABLE_SIZE.
    max_table_size: usize,
    recent: RecentLiterals,
    /// Memory for the text of a Huffman-coded literal.
    text: Vec<u8>,
}

/// Why a header block cannot be decoded: a connection error of type COMPRESSION_ERROR (RFC 9113
/// section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// The block ends within a field.
    Truncated,
    /// An integer has more than 32 bits.
    IntegerOverflow,
    /// An index of neither table.
    InvalidIndex { index: usize, max: usize },
    /// The Huffman-coded text contains the symbol EOS.
    HuffmanEos,
    /// The Huffman-coded text ends with a part of a code that is no padding.
    HuffmanPadding,
    /// A dynamic table size update above the limit of the table.
    TableSizeTooLarge { size: usize, max: usize },
    /// A dynamic table size update behind a field.
    LateTableSizeUpdate,
}

/// How much memory for text is kept between two blocks. Most texts are shorter.
const KEPT_TEXT: usize = 256;

impl Decoder {
    /// `max_table_size` is the value of SETTINGS_HEADER_TABLE_SIZE that the peer receives.
    pub(crate) fn new(max_table_size: usize) -> Self {
        // A peer asks for more than the default by a size update (RFC 7541 section 4.2).
        let table = Table::new(max_table_size.min(DEFAULT_TABLE_SIZE));
        Self { table, max_table_size, recent: RecentLiterals::default(), text: Vec::new() }
    }

    /// Decodes a complete header block, and passes each field to `field`. The table changes as the
    /// block requires, whatever `field` does.
    ///
    /// # Errors
    /// If the block breaks a rule of RFC 7541. Fields before the error have been passed to `field`.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(&Field),
    ) -> Result<(), DecodeError> {
        let mut block = block;
        let mut has_fields = false;
        while let Some((&first, rest)) = block.split_first() {
            let mut reader = Reader::new(rest);
            match first {
                // Section 6.1: an indexed field. Most indexes are one octet.
                0x80..=0xfe => {
                    field(self.entry(usize::from(first & 0x7f))?);
                    block = rest;
                    has_fields = true;
                    continue;
                }
                0xff => {
                    let index = reader.integer(first, 0x7f)?;
                    field(self.entry(index)?);
                }
                // Section 6.2.1: a literal with incremental indexing.
                0x40..=0x7f => {
                    let literal = self.literal(&mut reader, first, 0x3f, false)?;
                    field(&literal);
                    self.table.insert(literal);
                }
                // Section 6.3: a dynamic table size update.
                0x20..=0x3f => {
                    if has_fields {
                        return Err(DecodeError::LateTableSizeUpdate);
                    }
                    let size = reader.integer(first, 0x1f)?;
                    self.set_table_size(size)?;
                    block = reader.rest();
                    continue;
                }
                // Section 6.2.3: a literal that is never indexed.
                0x10..=0x1f => field(&self.literal(&mut reader, first, 0x0f, true)?),
                // Section 6.2.2: a literal without indexing.
                0x00..=0x0f => {
                    if let Some((literal, behind)) = self.recent.find(block) {
                        field(literal);
                        reader = Reader::new(behind);
                    } else {
                        let literal = self.literal(&mut reader, first, 0x0f, false)?;
                        field(&literal);
                        self.recent.insert(block, reader.rest(), literal);
                    }
                }
            }
            block = reader.rest();
            has_fields = true;
        }
        self.text.truncate(KEPT_TEXT);
        self.text.shrink_to(KEPT_TEXT);
        Ok(())
    }

    /// Returns how often the dynamic table has changed.
    pub(crate) fn table_changes(&self) -> u64 {
        self.table.changes()
    }

    /// Returns the entries, from the newest on, and the size.
    #[cfg(test)]
    pub(super) fn dynamic_table(&self) -> (Vec<(String, String)>, usize) {
        self.table.dynamic()
    }

    fn entry(&self, index: usize) -> Result<&Field, DecodeError> {
        let max = self.table.len();
        self.table.get(index).ok_or(DecodeError::InvalidIndex { index, max })
    }

    fn set_table_size(&mut self, size: usize) -> Result<(), DecodeError> {
        let max = self.max_table_size;
        if size > max {
            return Err(DecodeError::TableSizeTooLarge { size, max });
        }
        self.table.set_max_size(size);
        Ok(())
    }

    /// Decodes a literal, whose first octet has the index of its name, or zero.
    fn literal(
        &mut self,
        reader: &mut Reader<'_>,
        first: u8,
        prefix: u8,
        sensitive: bool,
    ) -> Result<Field, DecodeError> {
        let name = match reader.integer(first, prefix)? {
            0 => Name::parse(string(reader, &mut self.text)?),
            index => self.entry(index)?.name.clone(),
        };
        Ok(Field::parse(name, string(reader, &mut self.text)?, sensitive))
    }
}

/// Decodes a string literal (RFC 7541 section 5.2). It is a part of the block, or of `text`.
fn string<'t, 'b: 't>(
    reader: &mut Reader<'b>,
    text: &'t mut Vec<u8>,
) -> Result<&'t [u8], DecodeError> {
    let first = reader.octet().ok_or(DecodeError::Truncated)?;
    let length = reader.integer(first, 0x7f)?;
    let octets = reader.octets(length).ok_or(DecodeError::Truncated)?;
    if first & 0x80 == 0 {
        return Ok(octets);
    }
    huffman::decode(octets, text)
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the header block ends within a field"),
            Self::IntegerOverflow => f.write_str("an integer has more than 32 bits"),
            Self::InvalidIndex { index, max } => {
                write!(f, "no entry has the index {index}; wanted 1 to {max}")
            }
            Self::HuffmanEos => f.write_str("a Huffman-coded text contains EOS"),
            Self::HuffmanPadding => {
                f.write_str("a Huffman-coded text ends with a part of a code; wanted up to 7 ones")
            }
            Self::TableSizeTooLarge { size, max } => {
                write!(f, "a dynamic table of {size} bytes is too large; wanted at most {max}")
            }
            Self::LateTableSizeUpdate => {
                f.write_str("a dynamic table size update stands behind a field")
            }
        }
    }
}

impl Error for DecodeError {}
