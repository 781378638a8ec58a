use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Failure;

/// The command line: pairs of `--name value`, written by `compare.py`.
#[derive(Default)]
pub struct Options {
    pub address: Option<SocketAddr>,
    /// get, all, create, ping, flow or echo.
    pub method: String,
    pub connections: usize,
    /// Calls in flight on each connection; at a fixed rate, at most.
    pub streams: usize,
    /// Calls per second, whatever the server does, rather than the next call when one has ended.
    pub rate: Option<f64>,
    pub warmup: f64,
    pub seconds: f64,
    /// Makes this many calls, instead of `seconds`.
    pub calls: Option<u64>,
    /// Bytes of an echo's payload.
    pub payload: usize,
    /// Speaks TLS, and trusts this certificate.
    pub tls: Option<PathBuf>,
    /// The value of the header of that name, in a file.
    pub authorization: Option<PathBuf>,
    /// The process whose CPU time is measured.
    pub server_pid: Option<u32>,
    /// Keeps the connections, idle, until the standard input ends.
    pub hold: bool,
}

impl Options {
    pub fn parse() -> Result<Self, Failure> {
        let mut options = Self { connections: 1, streams: 1, ..Self::default() };
        let mut words = std::env::args().skip(1);
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} has no value"))?;
            match &*name {
                "--address" => options.address = Some(value.parse()?),
                "--method" => options.method = value,
                "--connections" => options.connections = value.parse()?,
                "--streams" => options.streams = value.parse()?,
                "--rate" => options.rate = some(&value)?,
                "--warmup" => options.warmup = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                "--calls" => options.calls = some(&value)?,
                "--payload" => options.payload = value.parse()?,
                "--tls" => options.tls = Some(PathBuf::from(value)),
                "--authorization" => options.authorization = Some(PathBuf::from(value)),
                "--server-pid" => options.server_pid = some(&value)?,
                "--hold" => options.hold = value.parse()?,
                _ => return Err(format!("what is {name}?").into()),
            }
        }
        Ok(options)
    }
}

fn some<T: FromStr>(value: &str) -> Result<Option<T>, T::Err> {
    value.parse().map(Some)
}
