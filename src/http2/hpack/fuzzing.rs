//! HPACK for the fuzz target. cargo-fuzz compiles with `--cfg fuzzing`; other builds have no such module.

use http::HeaderMap;

use super::DEFAULT_TABLE_SIZE;

/// A name and a value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A decoder with the table size that the server announces.
pub struct Decoder(super::Decoder);

impl Decoder {
    /// A decoder with an empty table.
    pub fn new() -> Self {
        Self(super::Decoder::new(DEFAULT_TABLE_SIZE))
    }

    /// Decodes a block.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<Pair>, String> {
        let mut pairs = Vec::new();
        let result = self.0.decode(block, |field| {
            let pair = (field.name.as_bytes().to_vec(), field.value.as_bytes().to_vec());
            assert_eq!(field.size(), pair.0.len() + pair.1.len() + 32);
            pairs.push(pair);
        });
        result.map(|()| pairs).map_err(|error| error.to_string())
    }
}

/// An encoder.
pub struct Encoder(super::Encoder);

impl Encoder {
    /// An encoder with an empty table.
    pub fn new() -> Self {
        Self(super::Encoder::new())
    }

    /// Takes the peer's setting.
    pub fn set_max_table_size(&mut self, size: u32) {
        self.0.set_max_table_size(size);
    }

    /// Encodes a block.
    pub fn encode(&mut self, headers: &HeaderMap) -> Vec<u8> {
        let mut block = Vec::new();
        self.0.encode(None, headers, &mut block);
        block
    }
}
