//! The environment of servers: their stores, certificates and secrets.

use std::fmt;

use tokio_rustls::TlsConnector;

use crate::client::Client;
use crate::folder::{self, Folder};
use crate::process::{self, Server};
use crate::scenario::Store;
use crate::tls;

const USERS: usize = 100_000;

/// The differences between the attacked servers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Setting {
    pub(crate) store: Store,
    pub(crate) tls: bool,
    /// Whether the store has 100,000 users.
    pub(crate) seeded: bool,
    pub(crate) auth: bool,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = if self.store == Store::Sqlite { "sqlite" } else { "memory" };
        write!(f, "{store}{}", if self.tls { " tls" } else { "" })
    }
}

pub(crate) struct Place {
    folder: Folder,
    certificate: [String; 2],
    /// A token for servers with authentication.
    pub(crate) token: String,
    files: usize,
}

impl Place {
    pub(crate) fn new() -> Self {
        // On a disk, like the store of a real server.
        let folder = Folder::within(env!("CARGO_TARGET_TMPDIR").as_ref());
        let certificate = tls::certificate(&folder);
        let secret = folder.write("secret", "of no use to anybody but this test, and long enough");
        let token = process::token(&secret);
        Self { folder, certificate, token, files: 0 }
    }

    /// The certificate that clients have to trust.
    pub(crate) fn ca(&self, setting: Setting) -> Option<&str> {
        setting.tls.then_some(&*self.certificate[0])
    }

    /// A server with a store of its own, and the TLS settings for its clients.
    pub(crate) fn start(&mut self, setting: Setting) -> (Server, Option<TlsConnector>) {
        let mut arguments = Vec::new();
        let store = match (setting.store, setting.seeded) {
            (Store::Memory, _) => "memory:".to_owned(),
            (Store::Sqlite, false) => self.new_file(),
            // No attack here changes users; only the bystander does.
            (Store::Sqlite, true) => {
                format!("sqlite:{}", folder::text(&self.folder.path("seeded.db")))
            }
        };
        arguments.extend(["--store".to_owned(), store]);
        if let (true, [certificate, key]) = (setting.tls, &self.certificate) {
            arguments.extend(["--tls-cert", certificate, "--tls-key", key].map(str::to_owned));
        }
        if setting.auth {
            let secret = folder::text(&self.folder.path("secret"));
            arguments
                .extend(["--auth-secret", &secret, "--auth-allow", "any=*"].map(str::to_owned));
        }
        let connector = self.ca(setting).map(tls::connector);
        (Server::start(&arguments), connector)
    }

    fn new_file(&mut self) -> String {
        self.files += 1;
        format!("sqlite:{}", folder::text(&self.folder.path(&format!("{}.db", self.files))))
    }

    /// Creates the users of a store that needs them and has none.
    pub(crate) async fn seed(&self, setting: Setting, client: &Client) {
        let marker = self.folder.path("seeded");
        let there = setting.store == Store::Sqlite && marker.exists();
        if setting.seeded && !there {
            client.create_users(USERS).await;
        }
        if setting.seeded && setting.store == Store::Sqlite {
            std::fs::write(marker, "").unwrap();
        }
    }
}
