//! How the suite and the server agree on what is to be served: one message on the standard input,
//! one on the standard output, each behind its length in four bytes, big-endian.

use std::io::{self, Read, Write};

use balafon::prost::Message;

use crate::pb::{ServerCompatRequest, ServerCompatResponse};

/// Blocks until the suite has said what it wants. What follows on the standard input, and when it
/// closes, means nothing.
pub fn read_request() -> io::Result<ServerCompatRequest> {
    let mut input = io::stdin().lock();
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    input.read_exact(&mut message)?;
    Ok(ServerCompatRequest::decode(message.as_slice())?)
}

/// Tells the suite where the server listens.
pub fn write_response(response: &ServerCompatResponse) -> io::Result<()> {
    let message = response.encode_to_vec();
    let length = u32::try_from(message.len()).expect("it is an address and a certificate");
    let mut output = io::stdout().lock();
    output.write_all(&length.to_be_bytes())?;
    output.write_all(&message)?;
    output.flush()
}
