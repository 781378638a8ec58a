//! The settings of the library's server: limits, connections, compression and addresses.

use std::io;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::config::{Config, PROXY, RequestCompression, ResponseCompression};
use balafon::{CallOptions, Compression, Listeners, Server};

/// The permissions of a Unix socket: only the user of the server may connect.
#[cfg(unix)]
const SOCKET_MODE: u32 = 0o600;

/// A server with all settings but TLS.
pub(crate) fn build(config: &Config) -> Server {
    let (limits, connection) = (&config.limits, &config.connection);
    let mut server = Server::new()
        .http2(config.server.http2)
        .workers(workers(config))
        .max_connections(limits.max_connections as usize)
        .handshakes_per_minute(limits.handshakes_per_minute)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_list).unwrap_or(u32::MAX))
        .connection_buffer_limit(limits.connection_buffer)
        .server_buffer_limit(limits.server_buffer)
        .calls(call_options(config))
        .handshake_timeout(connection.handshake_timeout)
        .keepalive(connection.keepalive_time.unwrap_or(Duration::MAX), connection.keepalive_timeout)
        .permit_pings(connection.min_ping_interval, connection.pings_without_calls)
        .drain_timeout(config.shutdown.drain_timeout);
    if let Some(idle) = connection.max_idle {
        server = server.max_connection_idle(idle);
    }
    if let Some(age) = connection.max_age {
        server = server.max_connection_age(age, connection.max_age_grace);
    }
    server
}

/// The options of all calls. `routes.rs` has those of single methods.
fn call_options(config: &Config) -> CallOptions {
    let limits = &config.limits;
    let mut calls = CallOptions::new()
        .max_receive_message_size(limits.max_receive_message)
        .request_timeout(limits.request_timeout.unwrap_or(Duration::MAX));
    if let Some(bytes) = limits.max_send_message {
        calls = calls.max_send_message_size(bytes);
    }
    if let Some(time) = limits.call_timeout {
        calls = calls.max_duration(time);
    }
    if !config.compression.requests.contains(&RequestCompression::All) {
        let mut accepted = Vec::new();
        for setting in &config.compression.requests {
            if let RequestCompression::Accept(encoding) = setting {
                accepted.push(*encoding);
            }
        }
        calls = calls.accept_encodings(&accepted);
    }
    match config.compression.responses[..] {
        [ResponseCompression::Mirror, ..] => calls,
        [ResponseCompression::Off, ..] => calls.compression(Compression::off()),
        _ => {
            let mut preferred = Vec::new();
            for setting in &config.compression.responses {
                if let ResponseCompression::Prefer(encoding) = setting {
                    preferred.push(*encoding);
                }
            }
            // Leaked once per process: every call refers to the list.
            calls.compression(Compression::prefer(Vec::leak(preferred)))
        }
    }
}

pub(crate) fn workers(config: &Config) -> usize {
    match config.server.workers {
        Some(count) => count as usize,
        None => available_parallelism().map_or(1, NonZeroUsize::get),
    }
}

pub(crate) async fn listen(config: &Config) -> io::Result<Listeners> {
    let mut listeners = Listeners::new();
    for listen in &config.server.listen {
        let address = listen.strip_prefix(PROXY).unwrap_or(listen);
        match address.strip_prefix("unix:") {
            #[cfg(unix)]
            Some(path) => listeners.bind_unix(path, SOCKET_MODE).await?,
            _ => listeners.bind(address).await?,
        }
        if listen.starts_with(PROXY) {
            let sources = config.server.proxy_sources.clone();
            listeners.proxy_protocol(move |peer| sources.iter().any(|source| source.is(peer)));
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::routes::{methods, users};
    use crate::service::Users;
    use crate::store::memory::MemoryStore;

    #[test]
    fn settings_default_to_the_library_defaults() {
        let loaded = config::load(|_| Vec::new(), std::iter::empty(), None, methods());
        let Ok((config, _)) = loaded else { panic!("the defaults contradict each other") };
        let calls = CallOptions::new().max_receive_message_size(4 << 20);
        let calls = calls.request_timeout(Duration::from_secs(120));
        let library = Server::new().workers(workers(&config)).calls(calls);
        let library = library.max_connection_idle(Duration::from_secs(30 * 60));
        // The messages of this program are short.
        let library = library.connection_buffer_limit(12 << 20).server_buffer_limit(48 << 20);
        assert_eq!(format!("{:?}", build(&config)), format!("{library:?}"));
        let of_library = Users::new(MemoryStore::new());
        assert_eq!(format!("{:?}", users(&config, MemoryStore::new())), format!("{of_library:?}"));
    }
}
