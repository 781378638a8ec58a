//! `user-server token`: a token that a server with the same settings accepts.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::StartError;
use super::config::{self, Config, Layers};
use balafon::interceptors::auth::DevelopmentToken;

const ABOUT: &str = "Print a token for trying things out, signed with the secret of auth.secret";

const EXAMPLE: &str = "\
It names the issuer and the audience of the settings, if there are any:

  (umask 077; head -c 48 /dev/urandom | base64 >secret)
  user-server --auth-secret secret --auth-allow 'admin=*' &
  TOKEN=$(user-server --auth-secret secret token --subject me --roles admin)
  grpcurl -plaintext -H \"authorization: Bearer $TOKEN\" \\
    localhost:9090 ru.tinkoff.kora.example.UserService/GetAllUsers";

/// What stands in the token.
pub(super) struct Wanted {
    subject: String,
    roles: Vec<String>,
    scope: Option<String>,
    jti: Option<String>,
    expires_in: Duration,
}

pub(super) fn command() -> Command {
    let arg = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    Command::new("token").about(ABOUT).after_help(EXAMPLE).args([
        arg("subject", "NAME", "Whose token it is (sub)").required(true),
        arg("roles", "ROLES", "Roles, separated by commas").value_delimiter(','),
        arg("scope", "SCOPES", "Scopes, separated by spaces"),
        arg("jti", "ID", "Its id, by which it can be revoked"),
        arg("expires-in", "TIME", "How long it is good")
            .default_value("1h")
            .value_parser(config::period),
    ])
}

impl Wanted {
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

/// The token, in the form in which clients send it.
pub(super) fn sign(
    wanted: &Wanted,
    config: &Config,
    layers: &Layers,
) -> Result<String, StartError> {
    let Some(secret) = &config.auth_secret else {
        let problem = "a token needs auth.secret (--auth-secret), which is not set";
        return Err(StartError(problem.to_owned()));
    };
    let mut token = DevelopmentToken::new(&wanted.subject, wanted.expires_in)
        .roles_in(&config.auth_roles_claim, wanted.roles.iter().map(String::as_str));
    let claims = [
        ("scope", wanted.scope.as_ref()),
        ("jti", wanted.jti.as_ref()),
        ("iss", config.auth_issuer.first()),
        ("aud", config.auth_audience.first()),
    ];
    for (name, value) in claims {
        if let Some(value) = value {
            token = token.claim(name, value);
        }
    }
    let unusable = |error| StartError(format!("{}: {error}", layers.place("auth.secret")));
    token.sign(secret, "HS256").map_err(unusable)
}
