use crate::config::kind::{Choice, Count, Kind, Many, Off, Or, Period, Size, Switch, Time};
use crate::config::setting::{KindOf, Section, Setting, settings};
use crate::config::values::{RequestCompression, ResponseCompression};

settings! {
    struct LimitSettings in "limits", "Limits";

    max_calls: Or<Off, Count<1, { u32::MAX }>> = "limits.max-calls" {
        flag: "max-calls",
        value: "N",
        default: Some("off"),
        help: "The maximum number of concurrent calls on all connections together. Further calls fail \
            immediately with UNAVAILABLE (load shedding). Health checks are exempt. off: no limit",
    }
    max_connections: Count<1, { u32::MAX }> = "limits.max-connections" {
        flag: "max-connections",
        value: "N",
        default: Some("10000"),
        help: "The maximum number of open connections. Further connections are closed immediately. \
            Each connection takes a file descriptor: see ulimit -n",
    }
    handshakes_per_minute: Or<Off, Count<1, { u32::MAX }>> = "limits.handshakes-per-minute" {
        flag: "handshakes-per-minute",
        value: "N",
        default: Some("6000"),
        help: "How many TLS handshakes an IP address may start per minute. Further connections from \
            that address are closed immediately. Behind a proxy that forwards TLS, all clients share \
            one address, unless the proxy speaks the PROXY protocol (see listen). off: no limit",
    }
    max_streams: Count<1, { u32::MAX }> = "limits.max-streams" {
        flag: "max-streams",
        value: "N",
        default: Some("1000"),
        help: "The maximum number of concurrent calls on one connection. Further calls are refused, \
            and clients retry them",
    }
    max_receive_message: Size<1> = "limits.max-receive-message" {
        flag: "max-receive-message",
        value: "SIZE",
        default: Some("4MiB"),
        help: "The maximum size of a request message. A longer message ends its call with \
            RESOURCE_EXHAUSTED",
    }
    max_send_message: Or<Off, Size<1>> = "limits.max-send-message" {
        flag: "max-send-message",
        value: "SIZE",
        default: Some("off"),
        help: "The maximum size of a response message. A longer message ends its call with \
            RESOURCE_EXHAUSTED. off: no limit",
    }
    max_header_list: Size<1024> = "limits.max-header-list" {
        flag: "max-header-list",
        value: "SIZE",
        default: Some("16KiB"),
        help: "The maximum size of the headers of a request. A request with larger headers is \
            answered with HTTP status 431",
    }
    max_batch: Count<1, { u32::MAX }> = "limits.max-batch" {
        flag: "max-batch",
        value: "N",
        default: Some("10000"),
        help: "The maximum number of messages in a CreateUsers stream",
    }
    request_timeout: Or<Off, Period> = "limits.request-timeout" {
        flag: "request-timeout",
        value: "TIME",
        default: Some("2m"),
        help: "How long the request of a call may take to arrive, if the client does not stream. A \
            slower call ends with DEADLINE_EXCEEDED. off: no limit",
    }
    call_timeout: Or<Off, Period> = "limits.call-timeout" {
        flag: "call-timeout",
        value: "TIME",
        default: Some("off"),
        help: "The maximum duration of a call, whatever deadline the client sets. A longer call ends \
            with DEADLINE_EXCEEDED. off: only the client's deadline counts",
    }
    stream_idle: Or<Off, Period> = "limits.stream-idle" {
        flag: "stream-idle-timeout",
        value: "TIME",
        default: Some("5m"),
        help: "How long the client of a CreateUsers or UpdateUsers stream may neither send a message \
            nor read a response. The stream then ends with DEADLINE_EXCEEDED. off: no limit",
    }
    stream_age: Or<Off, Period> = "limits.stream-age" {
        flag: "max-stream-age",
        value: "TIME",
        default: Some("1h"),
        help: "The maximum duration of a CreateUsers or UpdateUsers stream. A longer stream ends with \
            DEADLINE_EXCEEDED. off: no limit",
    }
    connection_buffer: Size<1> = "limits.connection-buffer" {
        flag: "connection-buffer-limit",
        value: "SIZE",
        default: Some("12MiB"),
        help: "The memory budget of the calls of one connection. It covers request metadata, messages \
            that no handler has read, users that are not stored yet, and responses that the client has \
            not read. A call that would exceed it ends with RESOURCE_EXHAUSTED",
    }
    server_buffer: Size<1> = "limits.server-buffer" {
        flag: "server-buffer-limit",
        value: "SIZE",
        default: Some("48MiB"),
        help: "The memory budget of the calls of all connections together. It covers the same data as \
            limits.connection-buffer. A call that would exceed it ends with RESOURCE_EXHAUSTED",
    }
}

settings! {
    struct CompressionSettings in "compression", "Compression";

    requests: Many<Choice<RequestCompression>> = "compression.requests" {
        flag: "request-compression",
        value: "ENCODING",
        default: Some("all"),
        help: "The accepted encodings of compressed requests: gzip, deflate, zstd, a list of them, all \
            or off. A call in another encoding ends with UNIMPLEMENTED. Uncompressed requests are \
            always accepted",
    }
    responses: Many<Choice<ResponseCompression>> = "compression.responses" {
        flag: "response-compression",
        value: "ENCODING",
        default: Some("mirror"),
        help: "The encoding of responses of 1 KiB or more. mirror uses the encoding of the request. \
            gzip, deflate, zstd or a list of them uses the first that the client accepts. off never \
            compresses",
    }
}

settings! {
    struct ConnectionSettings in "connection", "Connections";

    handshake_timeout: Period = "connection.handshake-timeout" {
        flag: "handshake-timeout",
        value: "TIME",
        default: Some("10s"),
        help: "How long the TLS and HTTP/2 handshakes of a new connection may take. A slower \
            connection is closed",
    }
    max_idle: Or<Off, Period> = "connection.max-idle" {
        flag: "max-connection-idle",
        value: "TIME",
        default: Some("30m"),
        help: "Close connections that had no call for this long. Clients reconnect when they need to. \
            off: idle connections stay open",
    }
    max_age: Or<Off, Period> = "connection.max-age" {
        flag: "max-connection-age",
        value: "TIME",
        default: Some("off"),
        help: "Close connections of this age, plus or minus a tenth. Clients then reconnect, which \
            spreads them over the servers again. Calls in progress may finish. off: connections of any \
            age stay open",
    }
    max_age_grace: Or<Off, Time> = "connection.max-age-grace" {
        flag: "max-connection-age-grace",
        value: "TIME",
        default: Some("off"),
        help: "How long calls may continue after their connection has reached connection.max-age. \
            Calls that are still open then are ended. off: they may continue without a limit",
    }
    keepalive_time: Or<Off, Period> = "connection.keepalive-time" {
        flag: "keepalive-time",
        value: "TIME",
        default: Some("2h"),
        help: "Send a ping to a client that has sent nothing for this long (keepalive). off: no pings",
    }
    keepalive_timeout: Period = "connection.keepalive-timeout" {
        flag: "keepalive-timeout",
        value: "TIME",
        default: Some("20s"),
        help: "Close the connection of a client that does not answer a keepalive ping for this long",
    }
    min_ping_interval: Time = "connection.min-ping-interval" {
        flag: "min-ping-interval",
        value: "TIME",
        default: Some("5m"),
        help: "The minimum interval between the pings of a client. The connection of a client that \
            pings more often is closed (GOAWAY with ENHANCE_YOUR_CALM). 0s: any interval",
    }
    pings_without_calls: Switch = "connection.pings-without-calls" {
        flag: "pings-without-calls",
        value: "BOOL",
        default: Some("false"),
        help: "Apply connection.min-ping-interval to connections without active calls too. If false, \
            a client without active calls may ping every two hours",
    }
}
