use crate::config::kind::{Auto, Choice, Count, File, Kind, Many, Optional, Or, Switch};
use crate::config::limits::Proxy;
use crate::config::setting::{KindOf, Secret, Section, Setting, settings};
use crate::config::values::{Address, Store};
use crate::store::sqlite::Durability;
use balafon::Http2;

settings! {
    struct ServerSettings in "", "Server";

    listen: Many<Address> = "listen" {
        flag: "listen",
        value: "ADDRESS",
        default: Some("127.0.0.1:9090"),
        help: "The addresses to listen on: HOST:PORT or unix:PATH. Port 0 lets the system choose a \
            port, which is logged. Write proxy: before an address if every connection to it starts \
            with a PROXY protocol header (version 1 or 2), as in proxy:0.0.0.0:9090. The header \
            carries the address of the client",
    }
    proxy_sources: Many<Proxy> = "proxy-sources" {
        flag: "proxy-sources",
        value: "NETWORK",
        example: "10.0.0.0/8",
        help: "The load balancers that may connect to proxy: addresses: IP addresses, networks, or \
            unix for peers on a Unix socket. The server trusts their PROXY headers. It closes every \
            other connection to a proxy: address",
    }
    workers: Or<Auto, Count<1, 1024>> = "workers" {
        flag: "workers",
        value: "N",
        default: Some("auto"),
        help: "The number of threads that serve calls. New connections are spread over them. auto \
            is one thread per core",
    }
    http2: Choice<Http2> = "http2" {
        flag: "http2",
        value: "IMPLEMENTATION",
        default: Some("h2"),
        help: "The implementation of HTTP/2. h2: the h2 crate. native: the engine of this project, \
            which takes less CPU time and memory but is less proven",
    }
    reflection: Switch = "reflection" {
        flag: "reflection",
        value: "BOOL",
        default: Some("true"),
        help: "Serve gRPC reflection. Clients such as grpcurl use it to discover the methods",
    }
}

settings! {
    struct StoreSettings in "", "Store";

    location: Store = "store" {
        flag: "store",
        value: "STORE",
        default: Some("sqlite:users.db"),
        secret: Secret::Password,
        help: "Where users are stored. sqlite:PATH is a file, which is created if it does not exist. \
            postgres://USER:PASSWORD@HOST/DATABASE is PostgreSQL, which several servers can share. \
            memory: keeps users until the server stops",
    }
    must_exist: Switch = "store-must-exist" {
        flag: "store-must-exist",
        value: "BOOL",
        default: Some("false"),
        help: "Refuse to start if the store does not exist, instead of creating an empty one. This \
            catches a mistyped path and a disk that is not mounted",
    }
    ca: Optional<File> = "store-ca" {
        flag: "store-ca",
        value: "FILE",
        example: "/etc/user-server/database-ca.pem",
        help: "A PEM file with the certificate authorities that PostgreSQL's certificate is \
            verified against. With this setting the connection uses TLS, and the certificate must match \
            the host of the URL (verify-full of libpq). sslmode=disable is then an error. Without \
            it, sslmode and sslrootcert in the URL decide, as in libpq. sslmode=require without a \
            CA is an error",
    }
    connections: Count<1, 1024> = "store-connections" {
        flag: "store-connections",
        value: "N",
        default: Some("16"),
        help: "The maximum number of PostgreSQL connections for reads and updates. The server opens \
            two more: one creates users, and one checks the database's health",
    }
    durability: Choice<Durability> = "store-durability" {
        flag: "store-durability",
        value: "LEVEL",
        default: Some("full"),
        help: "When a change to a SQLite file is acknowledged. full: after fsync, so the change \
            survives a power loss. relaxed: once the operating system has the change, so it survives \
            a crash of the server. A power loss can then lose the changes of the last seconds",
    }
}
