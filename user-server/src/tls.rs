//! TLS: the certificate files of the server, and the authorities for connections to other servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::task::spawn_blocking;

use crate::config::{ClientAuth, Config, Layers, TlsVersion};
use crate::reload::{Due, Reloads};
use crate::start_error::StartError;
use balafon::file_watch::{Change, FileWatch};
use balafon::{ClientCertificate, ClientTls, SharedTls, Tls};

/// The files of the server's certificate, and the settings that apply to them.
#[derive(Clone)]
pub(crate) struct Files {
    cert: File,
    key: File,
    client_ca: Option<(File, ClientCertificate)>,
    tls13_only: bool,
}

#[derive(Clone)]
struct File {
    path: PathBuf,
    /// The setting that names the file, for errors.
    setting: String,
}

/// The contents of the files: certificate, key and client CA.
type Contents = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

impl Files {
    /// `None` without a certificate.
    pub(crate) fn of(config: &Config, layers: &Layers) -> Option<Self> {
        let file = |key, path: &Option<PathBuf>| {
            path.clone().map(|path| File { path, setting: layers.name_at_origin(key).to_string() })
        };
        let client_certificate = match config.tls.client_auth {
            Some(ClientAuth::Off) => None,
            Some(ClientAuth::Optional) => Some(ClientCertificate::Optional),
            Some(ClientAuth::Required) | None => Some(ClientCertificate::Required),
        };
        Some(Self {
            cert: file("tls.cert", &config.tls.cert)?,
            key: file("tls.key", &config.tls.key)?,
            client_ca: file("tls.client-ca", &config.tls.client_ca).zip(client_certificate),
            tls13_only: config.tls.min_version == TlsVersion::V1_3,
        })
    }

    pub(crate) fn read(&self) -> Result<Contents, StartError> {
        let client_ca = self.client_ca.as_ref().map(|(file, _)| file.read()).transpose()?;
        Ok((self.cert.read()?, self.key.read()?, client_ca))
    }

    pub(crate) fn parse(&self, (cert, key, client_ca): &Contents) -> Result<Tls, StartError> {
        let unusable = |error| {
            let (cert, key) = (self.cert.path.display(), self.key.path.display());
            StartError::caused_by(format_args!("cannot use {cert} with {key}"), error)
        };
        let mut tls = Tls::from_pem(cert, key).map_err(unusable)?;
        if let (Some((file, client_certificate)), Some(client_ca)) = (&self.client_ca, client_ca) {
            let configured = tls.client_ca(client_ca, *client_certificate);
            tls = configured.map_err(|error| {
                StartError::caused_by(format_args!("cannot use {}", file.path.display()), error)
            })?;
        }
        Ok(if self.tls13_only { tls.tls13_only() } else { tls })
    }

    /// # Errors
    /// The certificate is not valid at `time`.
    pub(crate) fn validity(&self, tls: &Tls, time: SystemTime) -> Result<(), StartError> {
        tls.validity(time).map_err(|error| StartError::caused_by(&self.cert.setting, error))
    }

    /// Replaces `tls`, which was created from `in_use`, whenever the files have new and valid contents. Invalid
    /// contents are logged. Never returns.
    ///
    /// The contents are compared, not the modification times: a file may be a symbolic link, or on a network
    /// file system.
    pub(crate) async fn watch(self, in_use: Contents, tls: SharedTls, mut reloads: Reloads) {
        let mut watch = FileWatch::new(in_use);
        loop {
            // New contents take effect after two equal reads. At a request the files are complete, so both
            // reads follow immediately.
            let reads = match reloads.due().await {
                Due::Interval => 1,
                Due::Requested => 2,
            };
            for _ in 0..reads {
                let files = self.clone();
                let Ok(read) = spawn_blocking(move || files.read()).await else { return };
                self.observe(read, &mut watch, &tls);
            }
        }
    }

    fn observe(
        &self,
        read: Result<Contents, StartError>,
        watch: &mut FileWatch<Contents>,
        tls: &SharedTls,
    ) {
        match watch.observe(read, |contents| self.replace(contents, tls)) {
            Change::Replaced => {
                tracing::info!("TLS: the files have changed; new connections use them")
            }
            Change::Problem(problem) => {
                tracing::warn!("TLS: {problem}; the previous files stay in use");
            }
            _ => {}
        }
    }

    fn replace(&self, contents: &Contents, tls: &SharedTls) -> Result<(), StartError> {
        let new = self.parse(contents)?;
        self.validity(&new, SystemTime::now())?;
        tls.replace(new);
        Ok(())
    }
}

/// TLS for connections to another server. The setting `key` names the file of its certificate authorities.
pub(crate) fn trust(
    key: &str,
    path: Option<&Path>,
    layers: &Layers,
) -> Result<Option<ClientTls>, StartError> {
    let Some(path) = path else { return Ok(None) };
    let file = File { path: path.to_owned(), setting: layers.name_at_origin(key).to_string() };
    let tls = ClientTls::trusting(&file.read()?);
    tls.map(Some).map_err(|error| {
        StartError::caused_by(
            format_args!("{}: cannot use {}", file.setting, path.display()),
            error,
        )
    })
}

/// As [`trust`], with the trust store of the system if there is no file. The setting `server` has the URL.
pub(crate) fn trust_or_system(
    (key, path): (&str, Option<&Path>),
    server: &str,
    layers: &Layers,
) -> Result<ClientTls, StartError> {
    match trust(key, path, layers)? {
        Some(tls) => Ok(tls),
        None => ClientTls::trusting_the_system()
            .map_err(|error| StartError::caused_by(layers.name_at_origin(server), error)),
    }
}

impl File {
    fn read(&self) -> Result<Vec<u8>, StartError> {
        fs::read(&self.path).map_err(|error| {
            StartError::caused_by(
                format_args!("{}: cannot read {}", self.setting, self.path.display()),
                error,
            )
        })
    }
}
