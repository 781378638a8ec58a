//! What people write in the place of a value, and what they should write instead.

/// What is wrong with a store, if it is one of the usual mistakes. Says nothing of what may be a password.
pub(super) fn of_store(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let lower = scheme.to_ascii_lowercase();
    match (&*lower, rest) {
        ("sqlite" | "sqlite3" | "file", ":memory:" | "//:memory:") | ("", "memory" | "memory:") => {
            Some("write memory: for users that are kept until the server stops".to_owned())
        }
        ("memory", _) if !rest.is_empty() => Some("write memory: alone".to_owned()),
        ("sqlite" | "sqlite3" | "file", _) => of_path(scheme, rest),
        ("postgres" | "postgresql", _) => of_password(rest).or_else(|| {
            (scheme != lower || !rest.starts_with("//")).then(|| LIKE_POSTGRES.to_owned())
        }),
        ("jdbc" | "psql" | "pg", _) => Some(LIKE_POSTGRES.to_owned()),
        (scheme, _) if scheme.starts_with("postgres") => Some(LIKE_POSTGRES.to_owned()),
        ("", path) if path.contains('/') || path.contains('.') => {
            Some(format!("write sqlite:{path} for a file of SQLite"))
        }
        _ => None,
    }
}

const LIKE_POSTGRES: &str = "write postgres://USER:PASSWORD@HOST/DATABASE";

fn of_path(scheme: &str, path: &str) -> Option<String> {
    let plain = path.strip_prefix("file:").unwrap_or(path);
    // A URL with a host that is empty has three slashes before a path from the root.
    let plain = match plain.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => format!("/{}", rest.trim_start_matches('/')),
        Some(rest) => rest.to_owned(),
        None => plain.to_owned(),
    };
    let (plain, query) = match plain.split_once('?') {
        Some((plain, query)) if query.contains('=') => (plain, true),
        _ => (&*plain, false),
    };
    if plain.ends_with('/') {
        Some(format!("it ends with a slash: name a file, such as sqlite:{plain}users.db"))
    } else if plain.starts_with("~/") {
        Some("~ stands for a home in shells alone: write the whole path".to_owned())
    } else if query || plain != path || scheme != "sqlite" {
        Some(format!("the path follows directly, and is no URL: write sqlite:{plain}"))
    } else {
        None
    }
}

/// Of what follows the scheme of a URL: a user or a password with a character that has a meaning in URLs.
pub(super) fn of_password(rest: &str) -> Option<String> {
    let rest = rest.strip_prefix("//")?;
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let is_wrong = match authority.rsplit_once('@') {
        Some((user, _)) => user.contains('@') || !is_encoded(user),
        // Behind the first part of a password that has a slash or a question mark there is an @; so there may
        // be in a query, but not behind a port that is no number.
        None => {
            let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
            let is_port =
                authority.starts_with('[') || port.bytes().all(|byte| byte.is_ascii_digit());
            let part = if is_port { behind.split('?').next().unwrap_or_default() } else { behind };
            part.contains('@')
        }
    };
    let is_wrong = is_wrong || rest.contains('#');
    is_wrong.then(|| {
        "the user or the password has a character with a meaning in URLs: write %40 for @, %2F for /, \
         %3F for ?, %23 for # and %25 for %"
            .to_owned()
    })
}

/// Whether each % begins two hexadecimal digits.
fn is_encoded(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts
        .all(|part| part.as_bytes().iter().take(2).filter(|it| it.is_ascii_hexdigit()).count() == 2)
}

/// What is wrong with an address to listen on.
pub(super) fn of_address(text: &str) -> Option<String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let address = rest.split('/').next().unwrap_or(rest);
        return Some(match scheme {
            "unix" => format!("write unix:/{}", rest.trim_start_matches('/')),
            _ => format!("there is no scheme: write {address}"),
        });
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if port.parse::<u16>().is_err() {
        return (!text.contains(':') && !text.is_empty())
            .then(|| format!("a port is missing: write {text}:9090"));
    }
    match host {
        "" | "*" => Some(format!(
            "write 127.0.0.1:{port} for this machine alone, or 0.0.0.0:{port} for all its addresses"
        )),
        _ if host.contains(':') && !host.starts_with('[') => {
            Some(format!("an IPv6 address is written in brackets: [{host}]:{port}"))
        }
        _ => None,
    }
}

/// Variables by which programs of PostgreSQL learn what this URL does not say.
pub(super) fn of_variables<'a>(url: &str, variables: impl Iterator<Item = &'a str>) -> Vec<String> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let has_password = user.contains(':') || rest.contains("password=");
    let missed = |name: &&str| match *name {
        "PGPASSWORD" | "PGPASSFILE" => !has_password,
        "PGUSER" => user.is_empty() && !rest.contains("user="),
        "PGHOST" | "PGHOSTADDR" | "PGPORT" | "PGDATABASE" | "PGSERVICE" => true,
        _ => false,
    };
    let line = |name| {
        format!("{name} is not read: the store's URL has to say it, also in USER_SERVER_STORE")
    };
    variables.filter(missed).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_with_stores_come_with_the_way_out() {
        for (text, way_out) in [
            ("sqlite://x.db", "write sqlite:x.db"),
            ("sqlite:///var/lib/x.db", "write sqlite:/var/lib/x.db"),
            ("sqlite:////var/lib/x.db", "write sqlite:/var/lib/x.db"),
            ("sqlite3:x.db", "write sqlite:x.db"),
            ("SQLite:x.db", "write sqlite:x.db"),
            ("file:x.db", "write sqlite:x.db"),
            ("sqlite:file:x.db", "write sqlite:x.db"),
            ("sqlite:x.db?mode=rwc", "write sqlite:x.db"),
            ("sqlite:data/", "sqlite:data/users.db"),
            ("sqlite:~/x.db", "whole path"),
            ("sqlite::memory:", "write memory:"),
            ("sqlite://:memory:", "write memory:"),
            (":memory:", "write memory:"),
            ("memory", "write memory:"),
            ("memory:x", "write memory: alone"),
            ("users.db", "write sqlite:users.db"),
            ("/var/lib/users.db", "write sqlite:/var/lib/users.db"),
            ("jdbc:postgresql://db/users", "write postgres://"),
            ("postgresql+psycopg2://db/users", "write postgres://"),
            ("postgres:users", "write postgres://"),
            ("Postgres://db/users", "write postgres://"),
        ] {
            let said = of_store(text).unwrap_or_default();
            assert!(said.contains(way_out), "{text}: {said}");
        }
        for text in ["sqlite:x.db", "sqlite:/x.db", "sqlite:a:b", "sqlite:what?", "memory:"] {
            assert_eq!(of_store(text), None, "{text}");
        }
    }

    #[test]
    fn passwords_that_are_not_encoded_are_found_and_not_shown() {
        for password in ["p@ss", "p/ss", "p?ss", "p#ss", "p%ss", "@", "a/b@c", "50%"] {
            for host in ["db", "db:5432/users", "db/users?sslmode=require", "a,b/users"] {
                let said =
                    of_store(&format!("postgres://me:{password}@{host}")).unwrap_or_default();
                assert!(said.contains("%40 for @"), "{password} at {host}: {said}");
                assert!(password.len() < 2 || !said.contains(password), "{said}");
            }
        }
        for url in [
            "postgres://me:p%40ss@db/users",
            "postgres://me%40tenant:p@db:5432/users?options=-c%20search_path%3Da",
            "postgres://db/users?user=me@tenant",
            "postgres://me:p@db?application_name=a@b",
            "postgres://me:p@[::1]:5432,db/users",
            "postgres://me:p@%2Frun%2Fpostgresql/users",
            "postgresql:///users?host=/run/postgresql",
        ] {
            assert_eq!(of_store(url), None, "{url}");
        }
    }

    #[test]
    fn mistakes_with_addresses_come_with_the_way_out() {
        for (text, way_out) in [
            ("tcp://127.0.0.1:9090", "write 127.0.0.1:9090"),
            ("http://localhost:9090/", "write localhost:9090"),
            ("unix://run/x.sock", "write unix:/run/x.sock"),
            (":9090", "write 127.0.0.1:9090"),
            ("*:9090", "0.0.0.0:9090"),
            ("9090", "write 127.0.0.1:9090"),
            ("localhost", "write localhost:9090"),
            ("::1:9090", "[::1]:9090"),
        ] {
            let said = of_address(text).unwrap_or_default();
            assert!(said.contains(way_out), "{text}: {said}");
        }
        for text in ["127.0.0.1:9090", "[::1]:9090", "localhost:0"] {
            assert_eq!(of_address(text), None, "{text}");
        }
    }
}
