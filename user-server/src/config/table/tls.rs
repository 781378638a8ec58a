use crate::config::kind::{Auto, Choice, File, Kind, Optional, Or};
use crate::config::setting::{KindOf, Section, Setting, settings};
use crate::config::values::{ClientAuth, TlsVersion};

settings! {
    struct TlsSettings in "tls", "TLS";

    cert: Optional<File> = "tls.cert" {
        flag: "tls-cert",
        value: "FILE",
        example: "/etc/user-server/server.pem",
        help: "The server's certificate, a PEM file. Intermediate certificates follow it in the same \
            file. Setting it makes every address use TLS",
    }
    key: Optional<File> = "tls.key" {
        flag: "tls-key",
        value: "FILE",
        example: "/etc/user-server/server.key",
        help: "The private key of the server's certificate (tls.cert), a PEM file",
    }
    client_ca: Optional<File> = "tls.client-ca" {
        flag: "tls-client-ca",
        value: "FILE",
        example: "/etc/user-server/clients.pem",
        help: "A PEM file with the certificate authorities that client certificates are verified \
            against",
    }
    client_auth: Or<Auto, Choice<ClientAuth>> = "tls.client-auth" {
        flag: "tls-client-auth",
        value: "MODE",
        default: Some("auto"),
        help: "Whether clients need a certificate: off, optional or required. A client with an \
            invalid certificate is always refused. auto is required if tls.client-ca is set, \
            otherwise off",
    }
    min_version: Choice<TlsVersion> = "tls.min-version" {
        flag: "tls-min-version",
        value: "VERSION",
        default: Some("1.2"),
        help: "The lowest TLS version that is accepted: 1.2 or 1.3",
    }
}
