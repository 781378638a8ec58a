//! All settings. To add one, add an entry here, where it should stand in the help and in the
//! sample, and use the field of [`Config`] that it makes; then write the sample anew:
//! `cargo run -- config --sample > config.sample.toml`.
//!
//! What an entry accepts is its [`Kind`]: one of `kind.rs`, or one of the program's own, of
//! `values.rs`, `auth.rs` and `limits.rs`. What has a structure of its own, such as a limit for a pattern of methods, is a
//! text with a grammar of its own, or a list of these, so that flags and variables can have it
//! too. What two settings may not be together stands in `contradictions.rs`.

use super::auth::{Allow, Jwks, Leeway, Limit};
use super::kind::{Auto, Choice, Count, File, Kind, Many, Never, Optional, Or};
use super::kind::{Period, Share, Size, Switch, Text, Time, Unlimited};
use super::limits::{Proxy, RateRule, Redis};
use super::setting::{KindOf, Secret, Setting, settings};
use super::values::{
    Address, Attribute, ClientAuth, Collector, Discovery, HostPort, LogFormat, LogLevel, Mode,
    OtlpHeader, RequestCompression, ResponseCompression, Store, TlsVersion,
};
use crate::store::sqlite::Durability;

/// The sections of the file and what they are about, in order; settings without one come first.
pub(super) const SECTIONS: &[(&str, &str)] = &[
    ("", "The server"),
    ("tls", "TLS"),
    ("auth", "Authentication"),
    ("rate-limit", "Rate limits"),
    ("limits", "Limits"),
    ("compression", "Compression"),
    ("connection", "Connections"),
    ("shutdown", "Shutdown"),
    ("admin", "Admin endpoint"),
    ("log", "Log"),
    ("telemetry", "Traces"),
];

settings! {
    listen: Many<Address> = "listen" {
        flag: "listen",
        value: "ADDRESS",
        default: Some("127.0.0.1:9090"),
        help: "Where to listen: HOST:PORT or unix:PATH, also several of them. Port 0 lets the \
            system choose one, which is logged. Behind proxy:, as in proxy:0.0.0.0:9090, each connection \
            has to begin with a header of the PROXY protocol (version 1 or 2), which says where the \
            client is",
    }
    proxy_sources: Many<Proxy> = "proxy-sources" {
        flag: "proxy-sources",
        value: "NETWORK",
        example: "10.0.0.0/8",
        help: "Load balancers that are believed their PROXY headers: addresses, networks, or unix for \
            those behind a Unix socket. Connections of others to a listener behind proxy: are closed",
    }
    unix_mode: Mode = "unix-mode" {
        flag: "unix-mode",
        value: "MODE",
        default: Some("600"),
        help: "The permissions of Unix sockets: whoever may write may connect",
    }
    workers: Or<Auto, Count<1, 1024>> = "workers" {
        flag: "workers",
        value: "N",
        default: Some("auto"),
        help: "Threads that serve calls; connections are spread over them. auto is one per core",
    }
    store: Store = "store" {
        flag: "store",
        value: "STORE",
        default: Some("sqlite:users.db"),
        secret: Secret::Password,
        help: "Where users are kept. sqlite:PATH keeps them in a file, which is made if there is \
            none; postgres://USER:PASSWORD@HOST/DATABASE in PostgreSQL, for several servers; memory: \
            keeps them until the server stops",
    }
    store_must_exist: Switch = "store-must-exist" {
        flag: "store-must-exist",
        value: "BOOL",
        default: Some("false"),
        help: "Whether to refuse the start where there is no store yet, rather than to make an empty one: \
            a path that is mistyped, or a disk that is not mounted, is then an error",
    }
    store_ca: Optional<File> = "store-ca" {
        flag: "store-ca",
        value: "FILE",
        example: "/etc/user-server/database-ca.pem",
        help: "The authorities that sign the certificate of PostgreSQL, a PEM file: the connection is \
            then TLS, and the certificate has to be for the host of the URL, as with libpq's \
            verify-full; sslmode=disable is refused. Without it the URL decides: sslmode=verify-full \
            or verify-ca with sslrootcert=FILE, as with libpq; sslmode=require without a CA is refused",
    }
    store_connections: Count<1, 1024> = "store-connections" {
        flag: "store-connections",
        value: "N",
        default: Some("16"),
        help: "Connections to PostgreSQL at a time, besides one that creates users and one that looks \
            whether it is there",
    }
    store_durability: Choice<Durability> = "store-durability" {
        flag: "store-durability",
        value: "WHEN",
        default: Some("full"),
        help: "When a change to a file counts as stored: full is when the disk has it, so that it \
            outlives a loss of power; relaxed is when the system has it, so that it outlives the \
            server, and a loss of power may take the last seconds",
    }
    reflection: Switch = "reflection" {
        flag: "reflection",
        value: "BOOL",
        default: Some("true"),
        help: "Whether to serve reflection, by which clients such as grpcurl learn the methods",
    }

    tls_cert: Optional<File> = "tls.cert" {
        flag: "tls-cert",
        value: "FILE",
        example: "/etc/user-server/server.pem",
        help: "Serve over TLS with this certificate, a PEM file that may go on with those that \
            signed it",
    }
    tls_key: Optional<File> = "tls.key" {
        flag: "tls-key",
        value: "FILE",
        example: "/etc/user-server/server.key",
        help: "The private key of that certificate, a PEM file",
    }
    tls_client_ca: Optional<File> = "tls.client-ca" {
        flag: "tls-client-ca",
        value: "FILE",
        example: "/etc/user-server/clients.pem",
        help: "The authorities that sign the certificates of clients, a PEM file",
    }
    tls_client_auth: Or<Auto, Choice<ClientAuth>> = "tls.client-auth" {
        flag: "tls-client-auth",
        value: "WHETHER",
        default: Some("auto"),
        help: "Whether clients are to have certificates: off, optional or required; whoever shows a \
            bad one is refused. auto is required if there is a client CA, and off if not",
    }
    tls_min_version: Choice<TlsVersion> = "tls.min-version" {
        flag: "tls-min-version",
        value: "VERSION",
        default: Some("1.2"),
        help: "The oldest version of TLS that is spoken, 1.2 or 1.3",
    }

    auth_jwks: Optional<Jwks> = "auth.jwks" {
        flag: "auth-jwks",
        value: "FILE_OR_URL",
        example: "https://accounts.example.com/jwks.json",
        secret: Secret::Password,
        help: "Accept tokens (JWT) that are signed with a key of this JWKS, a file or a URL of https. \
            With this, auth.public-key, auth.secret, auth.api-keys or auth.certificates, clients have \
            to prove who they are, and every method is denied that auth.allow does not allow, but for \
            health checks. All files of this section are read again when they change. While the URL \
            cannot be fetched, the keys that were fetched before are used",
    }
    auth_jwks_ca: Optional<File> = "auth.jwks-ca" {
        flag: "auth-jwks-ca",
        value: "FILE",
        example: "/etc/user-server/issuer-ca.pem",
        help: "The authorities that sign the certificate of the URL in auth.jwks, a PEM file; those \
            that the system trusts if unset",
    }
    auth_jwks_refresh: Period = "auth.jwks-refresh" {
        flag: "auth-jwks-refresh",
        value: "TIME",
        default: Some("5m"),
        help: "How often the URL in auth.jwks is fetched: sooner if the answer says so by \
            cache-control, or if a token names an unknown key (kid), but at most every 10 seconds",
    }
    auth_public_key: Optional<File> = "auth.public-key" {
        flag: "auth-public-key",
        value: "FILE",
        example: "/etc/user-server/issuer.pem",
        help: "Accept tokens that are signed by the owner of this public key, a PEM file",
    }
    auth_secret: Optional<File> = "auth.secret" {
        flag: "auth-secret",
        value: "FILE",
        example: "/etc/user-server/secret",
        help: "Accept tokens that are signed by HS256 with the secret in this file, at least 32 \
            bytes, such as those of `user-server token`",
    }
    auth_api_keys: Optional<File> = "auth.api-keys" {
        flag: "auth-api-keys",
        value: "FILE",
        example: "/etc/user-server/api-keys",
        help: "Accept API keys in x-api-key. Each line of the file is the SHA-256 of a key in hex, \
            a name, and roles",
    }
    auth_certificates: Optional<File> = "auth.certificates" {
        flag: "auth-certificates",
        value: "FILE",
        example: "/etc/user-server/certificates",
        help: "Accept client certificates. Each line of the file is a name of a certificate, and \
            roles",
    }
    auth_issuer: Many<Text> = "auth.issuer" {
        flag: "auth-issuer",
        value: "ISSUER",
        example: "https://accounts.example.com",
        help: "The issuer (iss) that tokens have to name, or several of which they name one",
    }
    auth_audience: Many<Text> = "auth.audience" {
        flag: "auth-audience",
        value: "AUDIENCE",
        example: "users",
        help: "The audience (aud) that tokens have to name, or several; if unset, tokens that \
            name any are refused",
    }
    auth_roles_claim: Text = "auth.roles-claim" {
        flag: "auth-roles-claim",
        value: "CLAIM",
        default: Some("roles"),
        help: "The claim of tokens that holds the roles, a list or words in a text. Dots lead to one \
            inside of others, as in realm_access.roles, unless there is a claim of the whole name",
    }
    auth_leeway: Leeway = "auth.leeway" {
        flag: "auth-leeway",
        value: "TIME",
        default: Some("30s"),
        help: "How far the clock of the issuer may be off",
    }
    auth_revoked: Optional<File> = "auth.revoked" {
        flag: "auth-revoked",
        value: "FILE",
        example: "/etc/user-server/revoked",
        help: "Refuse tokens whose id (jti) is in this file, one a line, and those without one that a \
            line can hold. A comment begins a line or follows white space, with #. What is new in \
            the file holds within two seconds, unless the file has become empty",
    }
    auth_failures: Or<Unlimited, Count<1, { u32::MAX }>> = "auth.failures-per-minute" {
        flag: "auth-failures-per-minute",
        value: "N",
        default: Some("600"),
        help: "Calls with bad credentials that an address may make a minute; more end with \
            RESOURCE_EXHAUSTED, and tokens and certificates from there that are new are not even \
            verified. Those that were verified before, and API keys, are good all the same. Behind \
            a proxy, set rate-limit.trusted-proxies: its clients otherwise have one address",
    }
    auth_allow: Many<Allow> = "auth.allow" {
        flag: "auth-allow",
        value: "ROLE=METHODS",
        example: "support=*/GetUser",
        help: "Let a role, or scope:SCOPE, call methods, such as *, */GetUser and \
            package.Service/*. Several add up",
    }
    auth_limit: Many<Limit> = "auth.limit" {
        flag: "auth-limit",
        value: "ROLE=LIMIT",
        example: "support=masked-email",
        help: "Show less to a role, or scope:SCOPE: masked-email or active-only. Several add up; of \
            roles that allow the same method the least limited counts",
    }
    auth_discovery: Choice<Discovery> = "auth.discovery" {
        flag: "auth-discovery",
        value: "WHO",
        default: Some("allowed"),
        help: "Who may ask what the server has, by reflection and Health/List, if clients have to \
            prove who they are: allowed is a client whom auth.allow allows these methods, \
            authenticated is each client that has proved who it is, open is everybody, and off is \
            nobody. Health/Check and Health/Watch are open in any case",
    }

    rate_limit_rules: Many<RateRule> = "rate-limit.rules" {
        flag: "rate-limit",
        value: "METHODS=CALLS/TIME",
        example: "*=100/1m",
        help: "How often each client may call each of these methods, such as *, */GetUser and \
            package.Service/*; more calls end with RESOURCE_EXHAUSTED. With the word messages behind \
            the number, as in */CreateUsers=10000messages/1m, how many messages it may send to them in \
            all its calls, of which each server counts its own. Of several rules the first of calls \
            that has the method counts, and the first of messages; METHODS=unlimited is one of both. A \
            client is who has proved \
            who it is, else an address. Health is never limited",
    }
    rate_limit_clients: Count<1, 100_000_000> = "rate-limit.clients" {
        flag: "rate-limit-clients",
        value: "N",
        default: Some("250000"),
        help: "Clients, times the methods that each calls, that are remembered, at 48 bytes each. \
            Of more, the calls of those who have been silent for longest count anew",
    }
    trusted_proxies: Many<Proxy> = "rate-limit.trusted-proxies" {
        flag: "trusted-proxies",
        value: "NETWORK",
        example: "10.0.0.0/8",
        help: "Proxies that are believed what they write into x-forwarded-for: addresses, networks, \
            or unix for those behind a Unix socket. Of others nobody looks at it. Limits count for the \
            client that they name, and the log, the audit and traces show it beside the peer",
    }
    rate_limit_redis: Optional<Redis> = "rate-limit.redis" {
        flag: "rate-limit-redis",
        value: "URL",
        example: "rediss://localhost:6379/0",
        secret: Secret::Password,
        help: "Hold the limits together with all instances that have the same Redis; rediss:// is \
            one with TLS. It is to be a primary by itself: Redis Cluster and Sentinel are refused",
    }
    rate_limit_redis_ca: Optional<File> = "rate-limit.redis-ca" {
        flag: "rate-limit-redis-ca",
        value: "FILE",
        example: "/etc/user-server/redis-ca.pem",
        help: "The authorities that sign the certificate of a Redis of rediss, a PEM file",
    }
    rate_limit_redis_timeout: Period = "rate-limit.redis-timeout" {
        flag: "rate-limit-redis-timeout",
        value: "TIME",
        default: Some("50ms"),
        help: "How long a call waits for Redis. If it does not answer in time, and from then on \
            until it does, each instance limits for itself",
    }

    max_calls: Or<Unlimited, Count<1, { u32::MAX }>> = "limits.max-calls" {
        flag: "max-calls",
        value: "N",
        default: Some("unlimited"),
        help: "Calls that may be open at a time, on all connections together; more end with \
            UNAVAILABLE at once. Those of health do not count",
    }
    max_connections: Count<1, { u32::MAX }> = "limits.max-connections" {
        flag: "max-connections",
        value: "N",
        default: Some("10000"),
        help: "Connections that may be open at a time; more are closed at once. Each takes a file \
            descriptor: see ulimit -n",
    }
    handshakes_per_minute: Or<Unlimited, Count<1, { u32::MAX }>> = "limits.handshakes-per-minute" {
        flag: "handshakes-per-minute",
        value: "N",
        default: Some("6000"),
        help: "TLS handshakes that an address may begin in a minute; more of its connections are closed \
            at once. Behind a proxy that passes TLS on, all clients have one address, unless \
            proxy-protocol names theirs",
    }
    max_streams: Count<1, { u32::MAX }> = "limits.max-streams" {
        flag: "max-streams",
        value: "N",
        default: Some("1000"),
        help: "Calls that one connection may have open at a time; more are refused, and clients \
            try again",
    }
    max_receive_message: Size<1> = "limits.max-receive-message" {
        flag: "max-receive-message",
        value: "SIZE",
        default: Some("4MiB"),
        help: "The longest message that is received; a longer one ends its call with \
            RESOURCE_EXHAUSTED",
    }
    max_send_message: Or<Unlimited, Size<1>> = "limits.max-send-message" {
        flag: "max-send-message",
        value: "SIZE",
        default: Some("unlimited"),
        help: "The longest message that is sent, likewise",
    }
    max_header_list: Size<1024> = "limits.max-header-list" {
        flag: "max-header-list",
        value: "SIZE",
        default: Some("16KiB"),
        help: "The largest header list of a request; a larger one is answered with 431",
    }
    max_batch: Count<1, { u32::MAX }> = "limits.max-batch" {
        flag: "max-batch",
        value: "N",
        default: Some("10000"),
        help: "Messages that one CreateUsers stream may have",
    }
    chunk_size: Count<1, { u32::MAX }> = "limits.chunk-size" {
        flag: "chunk-size",
        value: "N",
        default: Some("256"),
        help: "Users of a CreateUsers stream that are stored together, in one transaction; those of \
            a stream with users-batch: atomic all are",
    }
    chunk_delay: Time = "limits.chunk-delay" {
        flag: "chunk-delay",
        value: "TIME",
        default: Some("10ms"),
        help: "How long the first of them waits for the last: when nothing more comes, they are \
            stored as they are",
    }
    request_timeout: Or<Never, Period> = "limits.request-timeout" {
        flag: "request-timeout",
        value: "TIME",
        default: Some("2m"),
        help: "How long the request of a call may take to arrive, where the client does not stream; \
            a slower one ends with DEADLINE_EXCEEDED",
    }
    call_timeout: Or<Never, Period> = "limits.call-timeout" {
        flag: "call-timeout",
        value: "TIME",
        default: Some("never"),
        help: "How long any call may last, whatever its client asks for; a longer one ends with \
            DEADLINE_EXCEEDED",
    }
    stream_idle: Or<Never, Period> = "limits.stream-idle" {
        flag: "stream-idle-timeout",
        value: "TIME",
        default: Some("5m"),
        help: "How long the client of a CreateUsers or UpdateUsers stream may send no message, nor \
            read one that it is sent; then the stream ends with DEADLINE_EXCEEDED",
    }
    stream_age: Or<Never, Period> = "limits.stream-age" {
        flag: "max-stream-age",
        value: "TIME",
        default: Some("1h"),
        help: "How long a CreateUsers or UpdateUsers stream may last at all, likewise",
    }
    connection_buffer: Size<1> = "limits.connection-buffer" {
        flag: "connection-buffer-limit",
        value: "SIZE",
        default: Some("16MiB"),
        help: "Memory that the calls of one connection may hold: request metadata and messages \
            until their handlers have them, users until they are stored, and responses that clients \
            do not read. A call that would exceed it ends with RESOURCE_EXHAUSTED",
    }
    server_buffer: Size<1> = "limits.server-buffer" {
        flag: "server-buffer-limit",
        value: "SIZE",
        default: Some("256MiB"),
        help: "The same for the calls of all connections together",
    }

    request_compression: Many<Choice<RequestCompression>> = "compression.requests" {
        flag: "request-compression",
        value: "ENCODING",
        default: Some("all"),
        help: "The encodings in which requests are accepted, besides plain ones: gzip, deflate, \
            zstd, several of them, all or off. A call in another encoding ends with UNIMPLEMENTED",
    }
    response_compression: Many<Choice<ResponseCompression>> = "compression.responses" {
        flag: "response-compression",
        value: "ENCODING",
        default: Some("mirror"),
        help: "How responses from 1 KiB are compressed, for clients that accept it: mirror is as \
            their requests are, off is not at all; of gzip, deflate and zstd, or several of them, \
            the first that the client accepts",
    }

    handshake_timeout: Period = "connection.handshake-timeout" {
        flag: "handshake-timeout",
        value: "TIME",
        default: Some("10s"),
        help: "The time in which a new connection has to complete its handshakes, of TLS and of \
            HTTP/2",
    }
    max_idle: Or<Never, Period> = "connection.max-idle" {
        flag: "max-connection-idle",
        value: "TIME",
        default: Some("30m"),
        help: "Close connections that had no calls for this long; their clients open new ones when \
            they need them",
    }
    max_age: Or<Never, Period> = "connection.max-age" {
        flag: "max-connection-age",
        value: "TIME",
        default: Some("never"),
        help: "Close connections of this age, give or take a tenth, so that clients spread over \
            servers again",
    }
    max_age_grace: Or<Never, Time> = "connection.max-age-grace" {
        flag: "max-connection-age-grace",
        value: "TIME",
        default: Some("never"),
        help: "End the calls that are still open this long after that",
    }
    keepalive_time: Or<Never, Period> = "connection.keepalive-time" {
        flag: "keepalive-time",
        value: "TIME",
        default: Some("2h"),
        help: "Ping a client that has been silent for this long",
    }
    keepalive_timeout: Period = "connection.keepalive-timeout" {
        flag: "keepalive-timeout",
        value: "TIME",
        default: Some("20s"),
        help: "Close the connection of a client that stays silent for this long after that ping",
    }
    min_ping_interval: Time = "connection.min-ping-interval" {
        flag: "min-ping-interval",
        value: "TIME",
        default: Some("5m"),
        help: "The least time between two pings of a client; one that pings more often is sent away",
    }
    pings_without_calls: Switch = "connection.pings-without-calls" {
        flag: "pings-without-calls",
        value: "BOOL",
        default: Some("false"),
        help: "Whether that holds for clients without calls too, which otherwise may ping every two \
            hours",
    }

    lame_duck: Time = "shutdown.lame-duck" {
        flag: "lame-duck",
        value: "TIME",
        default: Some("0s"),
        help: "The time between the signal that shuts down and the drain: health is NOT_SERVING, \
            for load balancers to see, and all else is served",
    }
    drain_timeout: Time = "shutdown.drain-timeout" {
        flag: "drain-timeout",
        value: "TIME",
        default: Some("30s"),
        help: "The time that calls have to end by themselves in the drain",
    }

    admin_listen: Optional<HostPort> = "admin.listen" {
        flag: "admin-listen",
        value: "HOST:PORT",
        example: "127.0.0.1:9091",
        help: "Where to answer operators by HTTP: /metrics for Prometheus, /healthz, /readyz, \
            /version. It asks nobody who they are: keep it from the public. Off if unset",
    }

    log_format: Choice<LogFormat> = "log.format" {
        flag: "log-format",
        value: "FORMAT",
        default: Some("pretty"),
        help: "How log lines look: pretty, for people, or json, an object a line. They go to the \
            standard error output",
    }
    log_level: LogLevel = "log.level" {
        flag: "log-level",
        value: "LEVEL",
        default: Some("info"),
        help: "What is logged: off, error, warn, info, debug or trace, also by target, such as \
            info,balafon::access=warn for everything but the line of each call",
    }

    otlp_endpoint: Optional<Collector> = "telemetry.otlp-endpoint" {
        flag: "otlp-endpoint",
        value: "URL",
        example: "https://localhost:4318",
        secret: Secret::Password,
        help: "The collector that is given a span of each call, by OTLP over HTTP (http/protobuf): \
            spans go to /v1/traces below it, to the port 4318 if it names none, with https as well. \
            Traces are followed all the same if unset: log lines have their ids. Where settings of this \
            section are unset, the variables OTEL_EXPORTER_OTLP_*, OTEL_SERVICE_NAME and \
            OTEL_RESOURCE_ATTRIBUTES count",
    }
    otlp_header: Many<OtlpHeader> = "telemetry.otlp-header" {
        flag: "otlp-header",
        value: "NAME=VALUE",
        example: "x-team=users",
        secret: Secret::Header,
        help: "A header of each request to the collector, also several. What is secret is better kept \
            in the file of telemetry.otlp-headers",
    }
    otlp_headers: Optional<File> = "telemetry.otlp-headers" {
        flag: "otlp-headers",
        value: "FILE",
        example: "/etc/user-server/collector-headers",
        help: "A file with such headers, NAME=VALUE a line. A comment is a line that begins with #",
    }
    otlp_timeout: Period = "telemetry.otlp-timeout" {
        flag: "otlp-timeout",
        value: "TIME",
        default: Some("10s"),
        help: "How long the collector has for each request",
    }
    otlp_ca: Optional<File> = "telemetry.otlp-ca" {
        flag: "otlp-ca",
        value: "FILE",
        example: "/etc/user-server/collector-ca.pem",
        help: "The authorities that sign the certificate of a collector of https, a PEM file; those \
            that the system trusts if unset",
    }
    sample_ratio: Share = "telemetry.sample-ratio" {
        flag: "otlp-sample-ratio",
        value: "SHARE",
        default: Some("1"),
        help: "The share of traces that is exported, of those that begin here. Of others it is \
            for the client to say",
    }
    service_name: Text = "telemetry.service-name" {
        flag: "otlp-service-name",
        value: "NAME",
        default: Some("user-server"),
        help: "What the server is called in traces",
    }
    resource_attributes: Many<Attribute> = "telemetry.resource-attribute" {
        flag: "otlp-resource-attribute",
        value: "NAME=VALUE",
        example: "deployment.environment.name=production",
        help: "An attribute of the server in traces, also several",
    }
}
