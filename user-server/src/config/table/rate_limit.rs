use crate::config::kind::{File, Kind, Many, Optional};
use crate::config::limits::{Proxy, RateRule, Redis};
use crate::config::setting::{KindOf, Secret, Section, Setting, settings};

settings! {
    struct RateLimitSettings in "rate-limit", "Rate limits";

    rules: Many<RateRule> = "rate-limit.rules" {
        flag: "rate-limit",
        value: "METHODS=CALLS/TIME",
        example: "*=100/1m",
        help: "How many calls each client may make to these methods in a period of time. METHODS is *, \
            */GetUser, package.Service/* or package.Service/Method. Further calls fail with \
            RESOURCE_EXHAUSTED. The word messages after the number limits the messages of a client's \
            streams instead, as in */CreateUsers=10000messages/1m. Each server counts messages by \
            itself. The first matching rule for calls and the first for messages apply. \
            METHODS=off is a rule for both: no limit. A client is an authenticated principal, or else an IP \
            address. Health checks are never limited",
    }
    trusted_proxies: Many<Proxy> = "rate-limit.trusted-proxies" {
        flag: "trusted-proxies",
        value: "NETWORK",
        example: "10.0.0.0/8",
        help: "Proxies whose x-forwarded-for header is trusted: IP addresses, networks, or unix for \
            peers on a Unix socket. The header of any other peer is ignored. Limits apply to the \
            client that the header names. Logs, audit lines and traces show that client beside the peer",
    }
    redis: Optional<Redis> = "rate-limit.redis" {
        flag: "rate-limit-redis",
        value: "URL",
        example: "rediss://localhost:6379/0",
        secret: Secret::Password,
        help: "A Redis server that shares the call limits between server instances. rediss:// uses \
            TLS. It must be a single primary: Redis Cluster and Sentinel are refused. A call waits at \
            most 50 ms for Redis. While Redis does not answer, each instance limits calls by itself",
    }
    redis_ca: Optional<File> = "rate-limit.redis-ca" {
        flag: "rate-limit-redis-ca",
        value: "FILE",
        example: "/etc/user-server/redis-ca.pem",
        help: "A PEM file with the certificate authorities for a rediss:// URL in rate-limit.redis",
    }
}
