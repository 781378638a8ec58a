//! Roles with the least rights, and `user-server migrate`.

use user_server::store::postgres::{Options, PostgresStore};
use user_server::store::{Found, UserStore};

use super::{InDatabase, alice};
use crate::support::program::user_server;

/// A database where the owner of the tables is not the role that serves.
struct Divided {
    place: InDatabase,
    owner: Options,
    server: Options,
}

impl Divided {
    async fn new() -> Option<Self> {
        let place = InDatabase::new().await?;
        let (_, name) = place.options.url.rsplit_once('/').unwrap();
        place.run_sql(&format!(
            "CREATE ROLE owner_{name} LOGIN; CREATE ROLE server_{name} LOGIN;
            CREATE SCHEMA app AUTHORIZATION owner_{name};
            ALTER ROLE owner_{name} SET search_path = app;
            ALTER ROLE server_{name} SET search_path = app;
            REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        ));
        let [owner, server] = ["owner", "server"].map(|role| Options {
            url: place.options.url.replace("tests@", &format!("{role}_{name}@")),
            ..place.options.clone()
        });
        Some(Self { place, owner, server })
    }

    fn grant(&self, what: &str) {
        let (_, name) = self.server.url.rsplit_once('/').unwrap();
        self.place.run_sql(&format!("GRANT {what} TO server_{name}"));
    }
}

#[tokio::test]
async fn role_with_row_rights_only_serves() {
    let Some(divided) = Divided::new().await else { return };
    assert_eq!(PostgresStore::migrate(&divided.owner).await.unwrap(), Found::Nothing);
    assert_eq!(PostgresStore::migrate(&divided.owner).await.unwrap(), Found::Current);
    divided.grant("USAGE ON SCHEMA app");
    divided.grant("SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app");
    assert_eq!(PostgresStore::inspect(&divided.server).await.unwrap(), Found::Current);
    let store = PostgresStore::connect(&divided.server).await.unwrap();
    let user = store.create(alice()).await.unwrap();
    assert_eq!(store.get(user.id).await.unwrap().unwrap(), user);
    assert_eq!(store.extent().await.unwrap().total, 1);
}

#[tokio::test]
async fn role_without_a_right_fails_check_and_start() {
    let Some(divided) = Divided::new().await else { return };
    let error = InDatabase::refusal(&divided.server).await;
    assert!(error.contains("has no usable schema in its search_path"), "{error}");
    divided.grant("USAGE ON SCHEMA app");
    let error = InDatabase::refusal(&divided.server).await;
    assert!(
        error.contains("may not create tables in schema app: run user-server migrate"),
        "{error}"
    );
    drop(PostgresStore::connect(&divided.owner).await.unwrap());
    let error = InDatabase::refusal(&divided.server).await;
    assert!(
        error.contains("denied for table user_schema (42501): GRANT SELECT, INSERT"),
        "{error}"
    );
    divided.grant("SELECT ON ALL TABLES IN SCHEMA app");
    let error = InDatabase::refusal(&divided.server).await;
    assert!(
        error.contains("lacks INSERT on users, UPDATE on users, UPDATE on user_sequence"),
        "{error}"
    );
    divided.grant("INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app");
    assert!(PostgresStore::connect(&divided.server).await.is_ok());

    // Tables of an older version, which only their owner can change.
    divided.place.run_sql("UPDATE app.user_schema SET version = version - 1");
    divided.grant("CREATE ON SCHEMA app");
    let error = InDatabase::refusal(&divided.server).await;
    assert!(error.contains("does not own them: run user-server migrate"), "{error}");
}

#[tokio::test]
async fn migrate_makes_the_tables_once_and_reports_it() {
    let Some(divided) = Divided::new().await else { return };
    let run = |command: &str, options: &Options| {
        let output = user_server().args([command, "--store", &options.url]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, out) = run("check", &divided.owner);
    assert!(code == Some(0) && out.contains("would be created"), "{out}");
    for says in [": created\n", ": already up to date\n"] {
        let (code, out) = run("migrate", &divided.owner);
        assert!(code == Some(0) && out.ends_with(says), "{out}");
    }
    let (code, out) = run("migrate", &divided.server);
    assert!(code == Some(2) && out.starts_with("error: --store: "), "{out}");
    let text = user_server().args(["migrate", "--store", "memory:"]).output().unwrap().stdout;
    assert!(String::from_utf8(text).unwrap().contains("migrate is for PostgreSQL"));
}
