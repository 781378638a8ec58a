use std::fs;
use std::path::Path;

use super::StartError;
use super::config::{ClientAuth, Config, Layers, TlsVersion};
use crate::{ClientCertificate, Tls};

/// What the files hold that the configuration names; `None` without a certificate.
pub(super) fn from_files(config: &Config, layers: &Layers) -> Result<Option<Tls>, StartError> {
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let unusable = |error| {
        StartError(format!("cannot use {} with {}: {error}", cert.display(), key.display()))
    };
    let read = |name, path: &Path| {
        fs::read(path).map_err(|error| {
            let place = layers.place(name);
            StartError(format!("{place}: cannot read {}: {error}", path.display()))
        })
    };
    let mut tls =
        Tls::from_pem(&read("tls.cert", cert)?, &read("tls.key", key)?).map_err(unusable)?;
    if let (Some(path), Some(whether)) = (&config.tls_client_ca, client_certificate(config)) {
        tls = tls
            .client_ca(&read("tls.client-ca", path)?, whether)
            .map_err(|error| StartError(format!("cannot use {}: {error}", path.display())))?;
    }
    if config.tls_min_version == TlsVersion::V1_3 {
        tls = tls.tls13_only();
    }
    Ok(Some(tls))
}

/// Whether clients are to have certificates; `None` if they are not even asked.
fn client_certificate(config: &Config) -> Option<ClientCertificate> {
    match config.tls_client_auth {
        Some(ClientAuth::Off) => None,
        Some(ClientAuth::Optional) => Some(ClientCertificate::Optional),
        Some(ClientAuth::Required) | None => Some(ClientCertificate::Required),
    }
}
