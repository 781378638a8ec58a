//! The PROXY protocol, versions 1 and 2. A proxy that forwards TCP connections sends the address of
//! the client first.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::grpc::call::{Peer, PeerAddr};
use crate::log_throttle::LogThrottle;

/// The longest header that is accepted, in bytes. Headers of version 1 have at most 107 bytes.
/// Cloud providers add some hundred bytes to headers of version 2.
const MAX_LEN: usize = 4096;

/// The part of a version 2 header up to and including its length field.
const FIXED_LEN: usize = 16;

/// `PROXY UNKNOWN`, the shortest header of version 1.
const SHORTEST: usize = 15;

const CONFIG: ParseConfig = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };

/// Ten lines, because several peers may fail for different reasons while one retries all the time.
static REFUSED: Mutex<LogThrottle> = Mutex::new(LogThrottle::new(10));

/// Reads the header and returns the peer that it names. This is the proxy itself if the header has
/// no address, as in health checks of the proxy. Without a valid header it logs a warning and
/// returns `None`.
pub(crate) async fn client_peer<T: AsyncRead + Unpin>(
    io: &mut T,
    proxy: Arc<Peer>,
) -> Option<Arc<Peer>> {
    match read(io).await {
        Ok(Some(address)) => Some(Arc::new(Peer::new(address))),
        Ok(None) => Some(proxy),
        Err(error) => {
            refuse(&proxy, &format!("no PROXY header ({error}), which this listener requires"));
            None
        }
    }
}

/// Logs that a connection is closed.
pub(crate) fn refuse(peer: &Peer, why: &str) {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner).log(|times| {
        tracing::warn!(%peer, times, "closing a connection: {why}");
    });
}

/// Reads exactly the header.
async fn read<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<Option<PeerAddr>> {
    let mut read = Vec::new();
    loop {
        match ProxyHeader::parse(&read, CONFIG) {
            Ok((header, _)) => {
                let address = header.proxied_address().map(|address| address.source);
                return Ok(address.map(PeerAddr::Tcp));
            }
            Err(Error::BufferTooShort) => {}
            Err(error) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
            }
        }
        let begun = read.len();
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let len = match missing(&read) {
            0 => return Err(invalid("the header is too short for its addresses")),
            missing => begun + missing,
        };
        if len > MAX_LEN {
            return Err(invalid("the header is too long"));
        }
        read.resize(len, 0);
        io.read_exact(&mut read[begun..]).await?;
    }
}

/// The least number of bytes that the header still needs. Zero if its length field allows no more
/// bytes.
fn missing(read: &[u8]) -> usize {
    let wanted = match *read {
        // One byte first, so that any other protocol is rejected at once.
        [] => 1,
        [b'\r', ..] if read.len() < FIXED_LEN => FIXED_LEN,
        [b'\r', ..] => FIXED_LEN + usize::from(u16::from_be_bytes([read[14], read[15]])),
        _ => SHORTEST.max(read.len() + 1),
    };
    wanted.saturating_sub(read.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The address that is read from these bytes, and the number of bytes left.
    async fn of(mut bytes: &[u8]) -> (io::Result<Option<String>>, usize) {
        let address = read(&mut bytes).await;
        let text = |address: Option<PeerAddr>| address.map(|it| Peer::new(it).to_string());
        (address.map(text), bytes.len())
    }

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([command, family]);
        header.extend((addresses.len() as u16).to_be_bytes());
        header.extend(addresses);
        header
    }

    #[tokio::test]
    async fn proxy_protocol_reads_exactly_the_header() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0xc3, 0x50, 0x1f, 0x90];
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        v6[15] = 1;
        v6[33] = 80;
        let with_more = [&v4[..], &[4, 0, 1, 0]].concat();
        for (header, address) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 50000 8080\r\n".to_vec(), Some("192.0.2.1:50000")),
            (b"PROXY TCP6 2001::1 2001::2 80 8080\r\n".to_vec(), Some("[2001::1]:80")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:f...f:ffff whatever 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("192.0.2.1:50000")),
            (v2(0x21, 0x11, &with_more), Some("192.0.2.1:50000")),
            (v2(0x21, 0x21, &v6), Some("[2001::1]:80")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x21, 0x31, &[0; 216]), None),
        ] {
            let (read, left) = of(&[&header[..], b"PRI * HTTP"].concat()).await;
            assert_eq!((read.unwrap().as_deref(), left), (address, 10), "{header:?}");
            for cut in 0..header.len() {
                assert!(of(&header[..cut]).await.0.is_err(), "{cut} of {header:?}");
            }
        }
    }

    #[tokio::test]
    async fn proxy_protocol_rejects_other_input() {
        for text in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            b"\x16\x03\x01",
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 nobody 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 70000 2\r\n",
            &[b'P'; 200],
            &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x11, &[0; 5000]),
        ] {
            let error = of(text).await.0.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
    }
}
