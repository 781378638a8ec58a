use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::config::{ClientAuth, Config, Layers, TlsVersion};
use super::{StartError, reload};
use balafon::file_watch::{Change, FileWatch};
use balafon::{ClientCertificate, ClientTls, SharedTls, Tls};

/// How often the files are looked at. Whoever renews a certificate will not wait longer to see that
/// it is in use, and three small files cost nothing.
const INTERVAL: Duration = Duration::from_secs(1);

/// The files that the configuration names, and what it says of their use.
#[derive(Clone)]
pub(super) struct Files {
    cert: File,
    key: File,
    client_ca: Option<(File, ClientCertificate)>,
    tls13_only: bool,
}

#[derive(Clone)]
struct File {
    path: PathBuf,
    /// The setting that names it, as whoever set it knows it.
    place: String,
}

/// What the files hold: certificate, key and client CA.
type Contents = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

impl Files {
    /// `None` without a certificate.
    pub(super) fn of(config: &Config, layers: &Layers) -> Option<Self> {
        let file = |key, path: &Option<PathBuf>| {
            path.clone().map(|path| File { path, place: layers.place(key).to_string() })
        };
        let whether = match config.tls_client_auth {
            Some(ClientAuth::Off) => None,
            Some(ClientAuth::Optional) => Some(ClientCertificate::Optional),
            Some(ClientAuth::Required) | None => Some(ClientCertificate::Required),
        };
        Some(Self {
            cert: file("tls.cert", &config.tls_cert)?,
            key: file("tls.key", &config.tls_key)?,
            client_ca: file("tls.client-ca", &config.tls_client_ca).zip(whether),
            tls13_only: config.tls_min_version == TlsVersion::V1_3,
        })
    }

    pub(super) fn read(&self) -> Result<Contents, StartError> {
        let client_ca = self.client_ca.as_ref().map(|(file, _)| file.read()).transpose()?;
        Ok((self.cert.read()?, self.key.read()?, client_ca))
    }

    pub(super) fn parse(&self, (cert, key, client_ca): &Contents) -> Result<Tls, StartError> {
        let unusable = |error| {
            let (cert, key) = (self.cert.path.display(), self.key.path.display());
            StartError(format!("cannot use {cert} with {key}: {error}"))
        };
        let mut tls = Tls::from_pem(cert, key).map_err(unusable)?;
        if let (Some((file, whether)), Some(client_ca)) = (&self.client_ca, client_ca) {
            tls = tls.client_ca(client_ca, *whether).map_err(|error| {
                StartError(format!("cannot use {}: {error}", file.path.display()))
            })?;
        }
        Ok(if self.tls13_only { tls.tls13_only() } else { tls })
    }

    /// Whether the certificate is valid at `time`.
    pub(super) fn validity(&self, tls: &Tls, time: SystemTime) -> Result<(), StartError> {
        tls.validity(time).map_err(|error| StartError(format!("{}: {error}", self.cert.place)))
    }

    /// Replaces `tls`, made of `in_use`, when the files hold something else that can be used, for
    /// ever. Until then it stays, and the log says why.
    ///
    /// What the files hold is what counts, not their times: they may be links to others, and their
    /// file system may be that of another machine.
    pub(super) async fn watch(
        self,
        in_use: Contents,
        tls: SharedTls,
        mut asks: watch::Receiver<()>,
    ) {
        let mut settled = FileWatch::new(in_use);
        loop {
            // Contents count when two looks have found them: somebody who asks has written them all.
            let looks = tokio::select! {
                () = sleep(INTERVAL) => 1,
                () = reload::asked(&mut asks) => 2,
            };
            for _ in 0..looks {
                let files = self.clone();
                let Ok(read) = spawn_blocking(move || files.read()).await else { return };
                self.observe(read, &mut settled, &tls);
            }
        }
    }

    fn observe(
        &self,
        read: Result<Contents, StartError>,
        settled: &mut FileWatch<Contents>,
        tls: &SharedTls,
    ) {
        let look = settled.observe(read.map_err(|error| error.0), |contents| {
            self.replace(contents, tls).map_err(|error| error.0)
        });
        match look {
            Change::Unchanged => {}
            Change::Replaced => tracing::info!(
                "TLS: the files have changed, and new connections are served with them"
            ),
            Change::Problem(problem) => {
                tracing::warn!("TLS: {problem}; going on with what was there before");
            }
        }
    }

    fn replace(&self, contents: &Contents, tls: &SharedTls) -> Result<(), StartError> {
        let new = self.parse(contents)?;
        self.validity(&new, SystemTime::now())?;
        tls.replace(new);
        Ok(())
    }
}

/// Whom to trust as a client, by the file of authorities that the setting `key` names.
pub(super) fn trust(
    key: &str,
    path: Option<&Path>,
    layers: &Layers,
) -> Result<Option<ClientTls>, StartError> {
    let Some(path) = path else { return Ok(None) };
    let file = File { path: path.to_owned(), place: layers.place(key).to_string() };
    let tls = ClientTls::trusting(&file.read()?);
    tls.map(Some).map_err(|error| {
        StartError(format!("{}: cannot use {}: {error}", file.place, path.display()))
    })
}

/// The same, or the authorities of the system, for the server of the setting `server`.
pub(super) fn trust_or_system(
    (key, path): (&str, Option<&Path>),
    server: &str,
    layers: &Layers,
) -> Result<ClientTls, StartError> {
    match trust(key, path, layers)? {
        Some(tls) => Ok(tls),
        None => ClientTls::trusting_the_system()
            .map_err(|error| StartError(format!("{}: {error}", layers.place(server)))),
    }
}

impl File {
    fn read(&self) -> Result<Vec<u8>, StartError> {
        fs::read(&self.path).map_err(|error| {
            StartError(format!("{}: cannot read {}: {error}", self.place, self.path.display()))
        })
    }
}
