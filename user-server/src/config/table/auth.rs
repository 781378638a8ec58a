use crate::config::auth::{Allow, Jwks, Leeway, Limit};
use crate::config::kind::{Choice, Count, File, Kind, Many, Off, Optional, Or, Period, Text};
use crate::config::setting::{KindOf, Secret, Section, Setting, settings};
use crate::config::values::Discovery;

settings! {
    struct AuthSettings in "auth", "Authentication";

    jwks: Optional<Jwks> = "auth.jwks" {
        flag: "auth-jwks",
        value: "FILE_OR_URL",
        example: "https://accounts.example.com/jwks.json",
        secret: Secret::Password,
        help: "Accept tokens (JWT) that are signed with a key of this JWKS: a file or an https URL. \
            Any of auth.jwks, auth.public-key, auth.secret, auth.api-keys and auth.certificates turns \
            authentication on. Clients then need credentials, and every method that auth.allow does \
            not allow is denied, except health checks. Changed files take effect without a restart. \
            While the URL cannot be fetched, the keys of the last fetch stay in use",
    }
    jwks_ca: Optional<File> = "auth.jwks-ca" {
        flag: "auth-jwks-ca",
        value: "FILE",
        example: "/etc/user-server/issuer-ca.pem",
        help: "A PEM file with the certificate authorities for the URL in auth.jwks. If it is unset, \
            the trust store of the system is used",
    }
    jwks_refresh: Period = "auth.jwks-refresh" {
        flag: "auth-jwks-refresh",
        value: "TIME",
        default: Some("5m"),
        help: "How often the URL in auth.jwks is fetched. It is fetched sooner if its cache-control \
            header says so, or if a token has an unknown key id (kid). Fetches are at least 10 seconds \
            apart",
    }
    public_key: Optional<File> = "auth.public-key" {
        flag: "auth-public-key",
        value: "FILE",
        example: "/etc/user-server/issuer.pem",
        help: "Accept tokens (JWT) that are signed with the private key of this public key, a PEM file",
    }
    secret: Optional<File> = "auth.secret" {
        flag: "auth-secret",
        value: "FILE",
        example: "/etc/user-server/secret",
        help: "Accept tokens (JWT) that are signed by HS256 with the secret in this file. The secret \
            has at least 32 bytes. `user-server token` creates such tokens",
    }
    api_keys: Optional<File> = "auth.api-keys" {
        flag: "auth-api-keys",
        value: "FILE",
        example: "/etc/user-server/api-keys",
        help: "Accept the API keys of this file, sent in the header x-api-key. Each line of the file \
            has the SHA-256 of a key in hex, a name, and roles",
    }
    certificates: Optional<File> = "auth.certificates" {
        flag: "auth-certificates",
        value: "FILE",
        example: "/etc/user-server/certificates",
        help: "Accept the client certificates of this file. Each line has a certificate's name and \
            roles",
    }
    issuer: Many<Text> = "auth.issuer" {
        flag: "auth-issuer",
        value: "ISSUER",
        example: "https://accounts.example.com",
        help: "The accepted issuers of tokens. The iss claim of a token must be one of them",
    }
    audience: Many<Text> = "auth.audience" {
        flag: "auth-audience",
        value: "AUDIENCE",
        example: "users",
        help: "The accepted audiences of tokens. The aud claim of a token must name one of them. If \
            it is unset, tokens with an aud claim are refused",
    }
    roles_claim: Text = "auth.roles-claim" {
        flag: "auth-roles-claim",
        value: "CLAIM",
        default: Some("roles"),
        help: "The token claim that holds the roles, as a list or as a text of words. A dot leads into \
            a nested claim, as in realm_access.roles, unless a claim has the whole name",
    }
    leeway: Leeway = "auth.leeway" {
        flag: "auth-leeway",
        value: "TIME",
        default: Some("30s"),
        help: "The tolerated clock difference when the times of a token (exp, nbf) are checked",
    }
    revoked: Optional<File> = "auth.revoked" {
        flag: "auth-revoked",
        value: "FILE",
        example: "/etc/user-server/revoked",
        help: "A file of revoked tokens: one token id (jti) per line. Tokens with such an id are \
            refused. So are tokens without an id, and tokens whose id cannot be written on a line. A # \
            at the start of a line or after a space begins a comment. A new line takes effect within \
            two seconds. An emptied file is ignored",
    }
    failures_per_minute: Or<Off, Count<1, { u32::MAX }>> = "auth.failures-per-minute" {
        flag: "auth-failures-per-minute",
        value: "N",
        default: Some("600"),
        help: "How many calls with invalid credentials an IP address may make per minute. Beyond \
            that, calls with new tokens or certificates from the address fail with \
            RESOURCE_EXHAUSTED, without verification. Credentials that were verified before, and API \
            keys, still work. Behind a proxy, set rate-limit.trusted-proxies, or all clients share \
            one address. off: no limit",
    }
    allow: Many<Allow> = "auth.allow" {
        flag: "auth-allow",
        value: "ROLE=METHODS",
        example: "support=*/GetUser",
        help: "Allow a role, or scope:SCOPE, to call methods: *, */GetUser, package.Service/* or \
            package.Service/Method. Several entries add up",
    }
    limit: Many<Limit> = "auth.limit" {
        flag: "auth-limit",
        value: "ROLE=LIMIT",
        example: "support=masked-email",
        help: "Limit the data that a role, or scope:SCOPE, can see. masked-email masks e-mail \
            addresses. active-only hides users who are not active. Several limits of one role add \
            up. If several roles allow a method, the least limited role counts",
    }
    discovery: Choice<Discovery> = "auth.discovery" {
        flag: "auth-discovery",
        value: "ACCESS",
        default: Some("allowed"),
        help: "Which clients may call reflection and Health/List while authentication is on. allowed: \
            clients with a role that auth.allow names for these methods. authenticated: every client \
            with valid credentials. open: every client. off: no client. Health/Check and Health/Watch \
            are always open",
    }
}

impl AuthSettings {
    /// Whether clients need credentials: any kind of credentials is configured.
    pub(crate) fn is_on(&self) -> bool {
        self.accepts_tokens() || self.api_keys.is_some() || self.certificates.is_some()
    }

    /// Whether tokens (JWT) are accepted as credentials.
    pub(in crate::config) fn accepts_tokens(&self) -> bool {
        self.jwks.is_some() || self.public_key.is_some() || self.secret.is_some()
    }
}
