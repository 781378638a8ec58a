use crate::script::Script;

/// RFC 7541: the block of the first request, which puts what never changes into the dynamic table, and that of all
/// others, which finds everything there, as with any gRPC client.
pub fn blocks(script: &Script) -> (Vec<u8>, Vec<u8>) {
    // Static table: `:method: POST` is 3, `:scheme: http` 6, `https` 7.
    let scheme = if script.https { 0x87 } else { 0x86 };
    let mut first = vec![0x83, scheme];
    // Literals with incremental indexing (6.2.1), the names by their static index where there is one.
    let literal = |block: &mut Vec<u8>, text: &str| {
        put_length(block, text.len());
        block.extend(text.as_bytes());
    };
    for (index, value) in [(4, &*script.path), (1, &*script.authority), (31, "application/grpc")] {
        first.push(0x40 | index);
        literal(&mut first, value);
    }
    first.push(0x40 | 58);
    literal(&mut first, "grpc-compare/1.0");
    first.push(0x40);
    literal(&mut first, "te");
    literal(&mut first, "trailers");
    let mut oldest = 66;
    if let Some(value) = &script.authorization {
        first.push(0x40 | 23);
        literal(&mut first, value);
        oldest += 1;
    }
    // The table's newest entry is 62.
    let later = [0x83, scheme].into_iter().chain((62..=oldest).rev().map(|index| 0x80 | index));
    (first, later.collect())
}

/// A length is an integer with a prefix of seven bits (RFC 7541, 5.1).
fn put_length(block: &mut Vec<u8>, length: usize) {
    const PREFIX: usize = 127;
    block.push(length.min(PREFIX) as u8);
    if let Some(mut rest) = length.checked_sub(PREFIX) {
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
}
