//! `user-server token` prints a token that a server with the same settings accepts.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use crate::config::{self, Config, Layers};
use crate::start_error::StartError;
use balafon::interceptors::auth::DevelopmentToken;

const ABOUT: &str = "Print a token (JWT) for development, signed with the secret of auth.secret";

const EXAMPLE: &str = "\
The token names the issuer (auth.issuer) and the audience (auth.audience) of the settings, if they
are set:

  (umask 077; head -c 48 /dev/urandom | base64 >secret)
  user-server --auth-secret secret --auth-allow 'admin=*' &
  TOKEN=$(user-server --auth-secret secret token --subject me --roles admin)
  grpcurl -plaintext -H \"authorization: Bearer $TOKEN\" \\
    localhost:9090 ru.tinkoff.kora.example.UserService/GetAllUsers";

/// The claims of the token.
pub(super) struct Claims {
    subject: String,
    roles: Vec<String>,
    scope: Option<String>,
    jti: Option<String>,
    expires_in: Duration,
}

pub(super) fn command() -> Command {
    let arg = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    Command::new("token").about(ABOUT).after_help(EXAMPLE).args([
        arg("subject", "NAME", "The subject of the token (sub)").required(true),
        arg("roles", "ROLES", "The roles of the token, separated by commas").value_delimiter(','),
        arg("scope", "SCOPES", "The scopes of the token, separated by spaces"),
        arg("jti", "ID", "The id of the token (jti). A token can be revoked by its id"),
        arg("expires-in", "TIME", "How long the token is valid")
            .default_value("1h")
            .value_parser(config::period),
    ])
}

impl Claims {
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let text = |name| matches.get_one::<String>(name).cloned();
        Self {
            subject: text("subject").unwrap_or_default(),
            roles: matches.get_many("roles").into_iter().flatten().cloned().collect(),
            scope: text("scope"),
            jti: text("jti"),
            expires_in: matches.get_one("expires-in").copied().unwrap_or_default(),
        }
    }
}

/// The token as clients send it.
pub(super) fn sign(
    claims: &Claims,
    config: &Config,
    layers: &Layers,
) -> Result<String, StartError> {
    let Some(secret) = &config.auth.secret else {
        let problem = "a token needs auth.secret (--auth-secret), which is not set";
        return Err(StartError::new(problem));
    };
    let mut token = DevelopmentToken::new(&claims.subject, claims.expires_in)
        .roles_in(&config.auth.roles_claim, claims.roles.iter().map(String::as_str));
    let texts = [
        ("scope", claims.scope.as_ref()),
        ("jti", claims.jti.as_ref()),
        ("iss", config.auth.issuer.first()),
        ("aud", config.auth.audience.first()),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            token = token.claim(name, value);
        }
    }
    let unusable = |error| StartError::caused_by(layers.name_at_origin("auth.secret"), error);
    token.sign(secret, "HS256").map_err(unusable)
}
