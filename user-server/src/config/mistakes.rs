//! Common mistakes in values, and advice for each.

/// Advice for a mistake in the setting `store`. It never contains text that may be a password.
pub(super) fn of_store(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let lower = scheme.to_ascii_lowercase();
    match (&*lower, rest) {
        ("sqlite" | "sqlite3" | "file", ":memory:" | "//:memory:") | ("", "memory" | "memory:") => {
            Some("write memory: for users that are kept in memory".to_owned())
        }
        ("memory", _) if !rest.is_empty() => Some("write memory: without a path".to_owned()),
        ("sqlite" | "sqlite3" | "file", _) => of_path(scheme, rest),
        ("postgres" | "postgresql", _) => of_password(rest).or_else(|| {
            (scheme != lower || !rest.starts_with("//")).then(|| LIKE_POSTGRES.to_owned())
        }),
        ("jdbc" | "psql" | "pg", _) => Some(LIKE_POSTGRES.to_owned()),
        (scheme, _) if scheme.starts_with("postgres") => Some(LIKE_POSTGRES.to_owned()),
        ("", path) if path.contains('/') || path.contains('.') => {
            Some(format!("write sqlite:{path} for a SQLite file"))
        }
        _ => None,
    }
}

const LIKE_POSTGRES: &str = "write postgres://USER:PASSWORD@HOST/DATABASE";

fn of_path(scheme: &str, path: &str) -> Option<String> {
    let plain = path.strip_prefix("file:").unwrap_or(path);
    // A URL with an empty host has three slashes before an absolute path.
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
        Some("only shells expand ~: write the whole path".to_owned())
    } else if query || plain != path || scheme != "sqlite" {
        Some(format!("the path is not a URL: write sqlite:{plain}"))
    } else {
        None
    }
}

/// Advice for a user or a password with a character that has a meaning in URLs. `rest` is the URL without
/// its scheme.
pub(super) fn of_password(rest: &str) -> Option<String> {
    let rest = rest.strip_prefix("//")?;
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let is_wrong = match authority.rsplit_once('@') {
        Some((user, _)) => user.contains('@') || !is_encoded(user),
        // A password with a slash or a question mark ends the authority too early, so an @ follows later. A
        // query may have an @ too, but not after a port that is not a number.
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

/// Whether two hexadecimal digits follow each %.
fn is_encoded(text: &str) -> bool {
    let mut parts = text.split('%');
    parts.next();
    parts
        .all(|part| part.as_bytes().iter().take(2).filter(|it| it.is_ascii_hexdigit()).count() == 2)
}

/// Advice for a mistake in an address to listen on.
pub(super) fn of_address(text: &str) -> Option<String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let address = rest.split('/').next().unwrap_or(rest);
        return Some(match scheme {
            "unix" => format!("write unix:/{}", rest.trim_start_matches('/')),
            _ => format!("an address has no scheme: write {address}"),
        });
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if port.parse::<u16>().is_err() {
        return (!text.contains(':') && !text.is_empty())
            .then(|| format!("the port is missing: write {text}:9090"));
    }
    match host {
        "" | "*" => Some(format!(
            "write 127.0.0.1:{port} to listen on this machine only, or 0.0.0.0:{port} to listen on all its addresses"
        )),
        _ if host.contains(':') && !host.starts_with('[') => {
            Some(format!("write an IPv6 address in brackets: [{host}]:{port}"))
        }
        _ => None,
    }
}

/// Warnings about libpq variables that would complete the URL, and that this program does not read.
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
        format!(
            "{name} is not read: put its value into the URL of the store (--store or USER_SERVER_STORE)"
        )
    };
    variables.filter(missed).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_mistakes_have_advice() {
        for (text, advice) in [
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
            ("memory:x", "write memory: without a path"),
            ("users.db", "write sqlite:users.db"),
            ("/var/lib/users.db", "write sqlite:/var/lib/users.db"),
            ("jdbc:postgresql://db/users", "write postgres://"),
            ("postgresql+psycopg2://db/users", "write postgres://"),
            ("postgres:users", "write postgres://"),
            ("Postgres://db/users", "write postgres://"),
        ] {
            let given = of_store(text).unwrap_or_default();
            assert!(given.contains(advice), "{text}: {given}");
        }
        for text in ["sqlite:x.db", "sqlite:/x.db", "sqlite:a:b", "sqlite:what?", "memory:"] {
            assert_eq!(of_store(text), None, "{text}");
        }
    }

    #[test]
    fn store_password_not_encoded_has_advice_without_it() {
        for password in ["p@ss", "p/ss", "p?ss", "p#ss", "p%ss", "@", "a/b@c", "50%"] {
            for host in ["db", "db:5432/users", "db/users?sslmode=require", "a,b/users"] {
                let given =
                    of_store(&format!("postgres://me:{password}@{host}")).unwrap_or_default();
                assert!(given.contains("%40 for @"), "{password} at {host}: {given}");
                assert!(password.len() < 2 || !given.contains(password), "{given}");
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
    fn address_mistakes_have_advice() {
        for (text, advice) in [
            ("tcp://127.0.0.1:9090", "write 127.0.0.1:9090"),
            ("http://localhost:9090/", "write localhost:9090"),
            ("unix://run/x.sock", "write unix:/run/x.sock"),
            (":9090", "write 127.0.0.1:9090"),
            ("*:9090", "0.0.0.0:9090"),
            ("9090", "write 127.0.0.1:9090"),
            ("localhost", "write localhost:9090"),
            ("::1:9090", "[::1]:9090"),
        ] {
            let given = of_address(text).unwrap_or_default();
            assert!(given.contains(advice), "{text}: {given}");
        }
        for text in ["127.0.0.1:9090", "[::1]:9090", "localhost:0"] {
            assert_eq!(of_address(text), None, "{text}");
        }
    }
}
