use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::field::OVERHEAD;
use super::{DEFAULT_TABLE_SIZE, huffman, integer, static_table};

/// The encoder of one direction of a connection, for responses and trailers.
///
/// It indexes fields whose values repeat from call to call. Other fields are literals: they would evict
/// the entries that repeat.
pub(crate) struct Encoder {
    /// The dynamic table; the newest entry is the last.
    entries: Vec<Entry>,
    /// The sum of the sizes of the entries.
    size: usize,
    /// The table's limit, of which the peer's decoder knows.
    max_size: usize,
    /// The size update that the next block starts with.
    update: Option<SizeUpdate>,
}

struct Entry {
    /// The place of the name in [`INDEXED`].
    name: usize,
    value: HeaderValue,
    size: usize,
}

/// The limits that the peer has set between two blocks (RFC 7541 section 4.2).
#[derive(Clone, Copy)]
struct SizeUpdate {
    smallest: usize,
    last: usize,
}

/// The names of fields whose values repeat from call to call. The application sets the last three.
const INDEXED: [&str; 7] = [
    "content-type",
    "grpc-status",
    "grpc-accept-encoding",
    "grpc-encoding",
    "server",
    "vary",
    "cache-control",
];

/// Literals up to this many bytes that are not indexed have no Huffman code. It would save a quarter
/// of the bytes, and take more time than the rest of the block.
const PLAIN: usize = 64;

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), size: 0, max_size: DEFAULT_TABLE_SIZE, update: None }
    }

    /// Takes the peer's SETTINGS_HEADER_TABLE_SIZE. The table has at most 4096 bytes, also if
    /// the peer allows more. The next block starts with the size update.
    pub(crate) fn set_max_table_size(&mut self, size: u32) {
        let last = usize::try_from(size).unwrap_or(usize::MAX).min(DEFAULT_TABLE_SIZE);
        let smallest = self.update.map_or(last, |update| update.smallest.min(last));
        self.update = Some(SizeUpdate { smallest, last });
    }

    /// Encodes one header block, and appends it to `out`. Sensitive values are literals that are never
    /// indexed.
    pub(crate) fn encode(
        &mut self,
        status: Option<StatusCode>,
        headers: &HeaderMap,
        out: &mut Vec<u8>,
    ) {
        if let Some(update) = self.update.take() {
            self.update_size(update, out);
        }
        if let Some(status) = status {
            encode_status(status, out);
        }
        for (name, value) in headers {
            self.encode_field(name, value, out);
        }
    }

    /// Returns the entries, from the newest on, and the size.
    #[cfg(test)]
    pub(super) fn dynamic_table(&self) -> (Vec<(String, String)>, usize) {
        let mut entries = Vec::new();
        for entry in self.entries.iter().rev() {
            let value = String::from_utf8_lossy(entry.value.as_bytes());
            entries.push((INDEXED[entry.name].to_owned(), value.into_owned()));
        }
        (entries, self.size)
    }

    fn update_size(&mut self, update: SizeUpdate, out: &mut Vec<u8>) {
        for size in [update.smallest, update.last] {
            if size != self.max_size {
                self.max_size = size;
                self.evict_down_to(size);
                integer::encode(0x20, 0x1f, size, out);
            }
        }
    }

    fn encode_field(&mut self, name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
        if value.is_sensitive() {
            return encode_literal(Literal::NEVER_INDEXED, None, name, value, out);
        }
        let Some(indexed) = INDEXED.iter().position(|indexed| *indexed == name.as_str()) else {
            return encode_literal(Literal::NOT_INDEXED, None, name, value, out);
        };
        let mut name_index = None;
        for (age, entry) in self.entries.iter().rev().enumerate() {
            if entry.name == indexed {
                let index = static_table::LEN + 1 + age;
                if same(&entry.value, value) {
                    return integer::encode(0x80, 0x7f, index, out);
                }
                name_index = Some(index);
            }
        }
        let size = name.as_str().len() + value.len() + OVERHEAD;
        // A larger entry would evict most of the others.
        if size > self.max_size / 2 {
            return encode_literal(Literal::NOT_INDEXED, name_index, name, value, out);
        }
        encode_literal(Literal::INDEXED, name_index, name, value, out);
        self.evict_down_to(self.max_size - size);
        self.size += size;
        self.entries.push(Entry { name: indexed, value: value.clone(), size });
    }

    fn evict_down_to(&mut self, size: usize) {
        let mut count = 0;
        for oldest in &self.entries {
            if self.size <= size {
                break;
            }
            self.size -= oldest.size;
            count += 1;
        }
        self.entries.drain(..count);
    }
}

/// Whether two values are equal. Most are parts of the same memory.
fn same(left: &HeaderValue, right: &HeaderValue) -> bool {
    std::ptr::eq(left.as_bytes(), right.as_bytes()) || left == right
}

fn encode_status(status: StatusCode, out: &mut Vec<u8>) {
    if status == StatusCode::OK {
        return integer::encode(0x80, 0x7f, static_table::STATUS_200, out);
    }
    integer::encode(0x00, 0x0f, static_table::STATUS_200, out);
    encode_string(status.as_str().as_bytes(), out);
}

/// How a literal begins (RFC 7541 section 6.2).
struct Literal {
    pattern: u8,
    prefix: u8,
}

impl Literal {
    const INDEXED: Self = Self { pattern: 0x40, prefix: 0x3f };
    const NOT_INDEXED: Self = Self { pattern: 0x00, prefix: 0x0f };
    const NEVER_INDEXED: Self = Self { pattern: 0x10, prefix: 0x0f };

    fn is_indexed(&self) -> bool {
        self.pattern == Self::INDEXED.pattern
    }
}

fn encode_literal(
    literal: Literal,
    name_index: Option<usize>,
    name: &HeaderName,
    value: &HeaderValue,
    out: &mut Vec<u8>,
) {
    let index = static_table::index_of(name.as_str()).or(name_index);
    integer::encode(literal.pattern, literal.prefix, index.unwrap_or(0), out);
    let is_plain = |text: &[u8]| !literal.is_indexed() && text.len() <= PLAIN;
    let name = name.as_str().as_bytes();
    let texts = [index.is_none().then_some(name), Some(value.as_bytes())];
    for text in texts.into_iter().flatten() {
        if is_plain(text) { encode_plain(text, out) } else { encode_string(text, out) }
    }
}

/// Encodes a string literal (RFC 7541 section 5.2), by the Huffman code if that is shorter.
fn encode_string(text: &[u8], out: &mut Vec<u8>) {
    let length = huffman::encoded_len(text);
    if length >= text.len() {
        return encode_plain(text, out);
    }
    integer::encode(0x80, 0x7f, length, out);
    huffman::encode(text, out);
}

fn encode_plain(text: &[u8], out: &mut Vec<u8>) {
    integer::encode(0x00, 0x7f, text.len(), out);
    out.extend_from_slice(text);
}
