use crate::script::Script;

/// RFC 7541: the block of the first request, which puts what never changes into the dynamic table, and that of all
/// others, which finds everything there, as with any gRPC client.
pub fn blocks(script: &Script) -> (Vec<u8>, Vec<u8>) {
    // Static table: `:method: POST` is 3, `:scheme: http` 6, `https` 7.
    let scheme = if script.https { 0x87 } else { 0x86 };
    let mut first = vec![0x83, scheme];
    // Literals with incremental indexing (6.2.1), the names by their static index where there is one.
    let literal = |block: &mut Vec<u8>, text: &str| {
        assert!(text.len() < 127, "longer ones need a longer length");
        block.push(text.len() as u8);
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
    // The table's newest entry is 62, so these are the five from the oldest to the newest.
    (first, vec![0x83, scheme, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62])
}
