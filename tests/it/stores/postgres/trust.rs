//! TLS to the database: the trust that the settings and the URL define.

use std::mem;

use balafon::ClientTls;
use user_server::domain::UserChange;
use user_server::store::UserStore;
use user_server::store::postgres::Options;

use super::{InDatabase, Place, alice, slow};
use crate::support::folder::Folder;
use crate::support::postgres::own_with_tls;
use crate::tls::{Authority, Identity};

fn trusting(authority: &Authority) -> Option<ClientTls> {
    Some(ClientTls::trusting(authority.pem.as_bytes()).unwrap())
}

/// A database that is reached by TLS only, at an address that its certificate names or not.
async fn over_tls(authority: &Authority, name: &str) -> Option<InDatabase> {
    let Identity { chain, key } = authority.identity_of(name);
    let start = move || own_with_tls(&chain, &key);
    let server = tokio::task::spawn_blocking(start).await.unwrap()?;
    let options = Options { url: server.database(), tls: trusting(authority), connections: 2 };
    Some(InDatabase { server, options })
}

#[tokio::test]
async fn certificate_of_the_authority_is_required() {
    let authority = Authority::new();
    let Some(mut place) = over_tls(&authority, "127.0.0.1").await else { return };
    let store = place.open().await;
    let id = store.create(alice()).await.unwrap().id;
    assert_eq!(store.get(id).await.unwrap().unwrap().id, id);
    let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'user-server' AND NOT ssl";
    assert_eq!(place.run_sql(plain), "0\n");

    // Cancellations are connections, too.
    place.run_sql(&slow("UPDATE"));
    let change = UserChange::parse("Bob", "").unwrap();
    place.abandon("UPDATE users", async || store.update(id, change.clone()).await).await;
    place.cancelled("UPDATE users").await;

    let tls = mem::replace(&mut place.options.tls, trusting(&Authority::new()));
    let error = place.try_open().await.unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");

    place.options.tls = None;
    let error = place.try_open().await.unwrap_err().to_string();
    assert!(error.contains("no encryption"), "{error}");

    place.options.tls = tls;
    let url = place.options.url.clone();
    for (mode, accepted) in [("require", true), ("prefer", true), ("disable", false)] {
        place.options.url = format!("{url}?sslmode={mode}");
        assert_eq!(place.try_open().await.is_ok(), accepted, "{mode}");
    }
}

#[tokio::test]
async fn certificate_for_another_name_is_refused() {
    let Some(place) = over_tls(&Authority::new(), "elsewhere").await else { return };
    let error = place.try_open().await.unwrap_err().to_string();
    assert!(error.contains("not valid for name \"127.0.0.1\""), "{error}");
}

#[tokio::test]
async fn plaintext_database_is_refused_with_an_authority() {
    let Some(mut place) = InDatabase::new().await else { return };
    place.options.tls = trusting(&Authority::new());
    let error = place.try_open().await.unwrap_err().to_string();
    assert!(error.contains("server does not support TLS"), "{error}");
    place.options.url += "?sslmode=disable";
    let error = place.try_open().await.unwrap_err().to_string();
    assert!(error.contains("sslmode=disable contradicts the CA"), "{error}");
    place.options.url = place.options.url.replace("disable", "verify-full");
    let error = place.try_open().await.unwrap_err().to_string();
    assert!(error.contains("server does not support TLS"), "{error}");
}

#[tokio::test]
async fn sslmode_and_sslrootcert_verify_like_libpq() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let ca = folder.write("ca.pem", &authority.pem);
    let another = folder.write("another ca.pem", Authority::named("another").pem);
    let another = another.replace(' ', "%20");
    for (name, is_named) in [("127.0.0.1", true), ("elsewhere", false)] {
        let Some(mut place) = over_tls(&authority, name).await else { return };
        place.options.tls = None;
        let url = place.options.url.clone();
        for (parameters, trusted) in [
            (format!("sslmode=verify-full&sslrootcert={ca}"), is_named),
            (format!("sslrootcert={ca}&sslmode=verify-ca&connect_timeout=5"), true),
            (format!("sslmode=require&sslrootcert={ca}"), true),
            (format!("sslrootcert={ca}"), is_named),
            (format!("sslmode=verify-full&sslrootcert={another}"), false),
            (format!("sslmode=verify-ca&sslrootcert={another}"), false),
            (format!("sslmode=require&sslrootcert={another}"), false),
        ] {
            place.options.url = format!("{url}?{parameters}");
            let error = place.try_open().await.err().map(|error| error.to_string());
            assert_eq!(error.is_none(), trusted, "{name}, {parameters}: {error:?}");
            assert!(error.is_none_or(|error| error.contains("invalid peer certificate")));
        }
        // The CA of the settings applies as with verify-full.
        place.options.tls = trusting(&authority);
        for mode in ["verify-full", "verify-ca"] {
            place.options.url = format!("{url}?sslmode={mode}");
            assert_eq!(place.try_open().await.is_ok(), is_named, "{mode}");
        }
    }
}

#[tokio::test]
async fn unsupported_tls_options_are_refused_with_a_remedy() {
    let folder = Folder::new();
    let (ca, nothing) = (Authority::new().pem, folder.write("nothing.pem", "nothing"));
    let ca = folder.write("ca.pem", ca);
    let options = |query: &str| Options {
        url: format!("postgres://me:hunter2@127.0.0.1:1/users?{query}"),
        tls: None,
        connections: 1,
    };
    for (query, says) in [
        ("sslmode=verify-ful", "sslmode must be disable, allow, prefer, require, verify-ca or"),
        ("sslmode=require", "sslrootcert=FILE in the URL, or --store-ca FILE"),
        ("sslmode=verify-full&sslrootcert=/no/ca.pem", "sslrootcert: cannot use /no/ca.pem"),
        (&format!("sslmode=verify-ca&sslrootcert={nothing}"), "no certificate in the PEM"),
        ("sslmode=require&sslrootcert=system", "requires sslmode=verify-full"),
        ("target_session_attrs=standby", "but this server writes"),
        ("target_session_attrs=best", "must be any, read-write or primary"),
    ] {
        let error = InDatabase::refusal(&options(query)).await;
        assert!(error.contains(says) && !error.contains("hunter2"), "{query}: {error}");
    }
    let mut both = options(&format!("sslrootcert={ca}"));
    both.tls = trusting(&Authority::new());
    let error = InDatabase::refusal(&both).await;
    assert!(error.contains("sslrootcert and the CA of the settings"), "{error}");
}
