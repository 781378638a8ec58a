//! The Huffman code of string literals (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: the lengths of the codes determine the codes. Codes of at most 8 bits, which
//! most characters of headers have, are decoded by a table. Longer codes are found by their length.

use super::decoder::DecodeError;

/// The length of each symbol's code in bits. The last symbol is EOS.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 0x10
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, // 0x20
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, // 0x30
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 0x40
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, // 0x50
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, // 0x60
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, // 0x70
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 0xf0
    30,
];

const SYMBOLS: usize = 257;
const EOS: u16 = 256;
const MAX_LENGTH: usize = 30;

/// Each symbol's code.
const CODES: [u32; SYMBOLS] = codes();

const fn codes() -> [u32; SYMBOLS] {
    let mut codes = [0; SYMBOLS];
    let mut code = 0;
    let mut length = 1;
    while length <= MAX_LENGTH {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    codes
}

/// By the next 8 bits: in the lower half the symbol of the code that they start with, in the upper half
/// the length of the code. Zero if the code is longer than 8 bits.
static SHORT: [u16; 256] = short();

const fn short() -> [u16; 256] {
    let mut table = [0; 256];
    let mut symbol = 0;
    while symbol < EOS as usize {
        let length = LENGTHS[symbol];
        if length <= 8 {
            let first = (CODES[symbol] << (8 - length)) as usize;
            let mut at = first;
            while at < first + (1 << (8 - length)) {
                table[at] = symbol as u16 | (length as u16) << 8;
                at += 1;
            }
        }
        symbol += 1;
    }
    table
}

/// The symbol and the length of a code of at most 8 bits, which the window starts with. The length is
/// zero if the code is longer.
#[inline]
fn short_code(window: u64) -> (u8, u32) {
    let entry = SHORT[(window >> 56) as usize];
    (entry as u8, u32::from(entry >> 8))
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    length: u8,
    first: u32,
    /// Where the symbol of the first code is in [`LONG`]. The symbols of the codes after it follow.
    start: usize,
    count: u32,
}

/// The different lengths above 8: 10 to 15, 19 to 28 and 30.
const GROUPS: usize = 17;

/// How many symbols have a code of more than 8 bits.
const LONG_SYMBOLS: usize = SYMBOLS - 74;

static LONG: ([Group; GROUPS], [u16; LONG_SYMBOLS]) = long();

const fn long() -> ([Group; GROUPS], [u16; LONG_SYMBOLS]) {
    let mut groups = [Group { length: 0, first: 0, start: 0, count: 0 }; GROUPS];
    let mut symbols = [0; LONG_SYMBOLS];
    let mut group = 0;
    let mut at = 0;
    let mut length = 9;
    while length <= MAX_LENGTH {
        let start = at;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                if at == start {
                    groups[group].first = CODES[symbol];
                }
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        if at > start {
            groups[group].length = length as u8;
            groups[group].start = start;
            groups[group].count = (at - start) as u32;
            group += 1;
        }
        length += 1;
    }
    assert!(group == GROUPS && at == LONG_SYMBOLS);
    (groups, symbols)
}

/// The symbol and the length of a code of more than 8 bits, which the window starts with.
fn long_code(window: u64) -> Option<(u16, u32)> {
    let (groups, symbols) = &LONG;
    for group in groups {
        let code = (window >> (64 - u32::from(group.length))) as u32;
        let nth = code.checked_sub(group.first)?;
        if nth < group.count {
            let symbol = symbols.get(group.start + nth as usize)?;
            return Some((*symbol, group.length.into()));
        }
    }
    None
}

/// The decoded part of a text, in memory that has room for all of it.
struct Text<'a> {
    memory: &'a mut [u8],
    length: usize,
}

impl Text<'_> {
    #[inline]
    fn push(&mut self, symbol: u8) {
        if let Some(free) = self.memory.get_mut(self.length) {
            *free = symbol;
            self.length += 1;
        }
    }
}

/// Decodes a text into `memory`, which grows if it has to. Returns the text.
///
/// # Errors
/// If the input contains EOS, or ends with other bits than at most 7 bits of EOS.
pub(super) fn decode<'a>(input: &[u8], memory: &'a mut Vec<u8>) -> Result<&'a [u8], DecodeError> {
    // The shortest code has 5 bits.
    let max_length = input.len() + input.len().div_ceil(5) * 3;
    if memory.len() < max_length {
        memory.resize(max_length, 0);
    }
    let mut text = Text { memory, length: 0 };
    let mut rest = input;
    // The next bits of the input are the first of the window. Those behind them are zero.
    let mut window: u64 = 0;
    let mut bits: u32 = 0;
    loop {
        if bits <= 32 {
            if let Some((chunk, behind)) = rest.split_first_chunk::<4>() {
                window |= u64::from(u32::from_be_bytes(*chunk)) << (32 - bits);
                bits += 32;
                rest = behind;
            } else {
                for octet in rest {
                    window |= u64::from(*octet) << (56 - bits);
                    bits += 8;
                }
                rest = &[];
            }
        }
        while bits >= 8 {
            let (symbol, length) = short_code(window);
            if length == 0 {
                break;
            }
            text.push(symbol);
            window <<= length;
            bits -= length;
        }
        if bits >= 8 && (bits >= MAX_LENGTH as u32 || rest.is_empty()) {
            match long_code(window) {
                Some((EOS, length)) if length <= bits => return Err(DecodeError::HuffmanEos),
                Some((symbol, length)) if length <= bits => {
                    text.push(symbol as u8);
                    window <<= length;
                    bits -= length;
                }
                _ => return Err(DecodeError::HuffmanPadding),
            }
        } else if rest.is_empty() {
            break;
        }
    }
    // One code more fits into at most 7 bits: the shortest has 5.
    let (symbol, length) = short_code(window);
    if (1..=bits).contains(&length) {
        text.push(symbol);
        window <<= length;
        bits -= length;
    }
    // EOS consists of ones.
    if window.leading_ones() != bits {
        return Err(DecodeError::HuffmanPadding);
    }
    let Text { memory, length } = text;
    memory.get(..length).ok_or(DecodeError::HuffmanPadding)
}

/// Returns the length of the encoded text in bytes.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let mut bits = 0;
    for symbol in text {
        bits += usize::from(LENGTHS[usize::from(*symbol)]);
    }
    bits.div_ceil(8)
}

/// Encodes a text, and appends it to `out`.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    // The last bits of the window are encoded and not yet appended.
    let mut window: u64 = 0;
    let mut bits: u32 = 0;
    for symbol in text {
        let length = u32::from(LENGTHS[usize::from(*symbol)]);
        window = (window << length) | u64::from(CODES[usize::from(*symbol)]);
        bits += length;
        if bits >= 32 {
            bits -= 32;
            out.extend_from_slice(&((window >> bits) as u32).to_be_bytes());
        }
    }
    while bits >= 8 {
        bits -= 8;
        out.push((window >> bits) as u8);
    }
    if bits > 0 {
        out.push((window << (8 - bits)) as u8 | (0xff >> bits));
    }
}
