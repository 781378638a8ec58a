//! The command line of every server here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{env, fs, io};

use tokio::runtime::{Builder, Runtime};
use user_server::log::{Lines, Output};

/// How a server is to run.
pub struct Args {
    pub address: SocketAddr,
    /// The certificate and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// One line of the log for each call.
    pub access_log: bool,
    /// Besides the access log: metrics, tokens signed with the secret in this file, a rate limit.
    pub production: Option<PathBuf>,
    /// The settings that suit these workloads best, rather than the library's defaults.
    pub tuned: bool,
    /// balafon's own HTTP/2 engine instead of h2.
    pub native: bool,
    /// One thread for everything, where the library's default is tokio's multi-threaded runtime.
    pub current_thread: bool,
}

impl Args {
    /// Reads the command line: `PORT [--tls CERT KEY] [--access-log] [--production SECRET] [--tuned]
    /// [--native] [--current-thread]`.
    ///
    /// # Panics
    /// If it is anything else: only `compare.py` writes it.
    #[must_use]
    pub fn parse() -> Self {
        let mut words = env::args().skip(1);
        let mut word = |what: &str| words.next().unwrap_or_else(|| panic!("{what} is missing"));
        let port = word("PORT").parse().expect("PORT is a number");
        let mut args = Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            tls: None,
            access_log: false,
            production: None,
            tuned: false,
            native: false,
            current_thread: false,
        };
        while let Some(flag) = words.next() {
            let mut file = || PathBuf::from(words.next().expect("the flag has a file"));
            match &*flag {
                "--tls" => args.tls = Some((file(), file())),
                "--access-log" => args.access_log = true,
                "--production" => (args.access_log, args.production) = (true, Some(file())),
                "--tuned" => args.tuned = true,
                "--native" => args.native = true,
                "--current-thread" => args.current_thread = true,
                _ => panic!("what is {flag}?"),
            }
        }
        // connectrpc brings a second provider along, so rustls does not choose by itself.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if args.access_log {
            // As user-server writes it.
            let output = Output::new(io::stderr()).expect("a thread for the log");
            tracing_subscriber::fmt().with_writer(output).event_format(Lines::Text).init();
        }
        args
    }

    /// The certificate and the key, as PEM.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn identity(&self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let read = |(cert, key): &(PathBuf, PathBuf)| Ok((fs::read(cert)?, fs::read(key)?));
        self.tls.as_ref().map(read).transpose()
    }

    /// What `#[tokio::main]` would make, or its `flavor = "current_thread"`.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn runtime(&self) -> io::Result<Runtime> {
        let mut builder = if self.current_thread {
            Builder::new_current_thread()
        } else {
            Builder::new_multi_thread()
        };
        builder.enable_all().build()
    }
}
