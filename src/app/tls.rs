use std::fs;
use std::path::Path;

use super::StartError;
use super::cli::Cli;
use crate::{ClientCertificate, Tls};

/// What the files hold that the flags name; `None` without such flags.
pub(super) fn from_files(cli: &Cli) -> Result<Option<Tls>, StartError> {
    let (Some(cert), Some(key)) = (&cli.tls_cert, &cli.tls_key) else { return Ok(None) };
    let unusable = |error| {
        StartError(format!("cannot use {} with {}: {error}", cert.display(), key.display()))
    };
    let mut tls =
        Tls::from_pem(&read("--tls-cert", cert)?, &read("--tls-key", key)?).map_err(unusable)?;
    if let Some(path) = &cli.tls_client_ca {
        tls = tls
            .client_ca(&read("--tls-client-ca", path)?, ClientCertificate::Required)
            .map_err(|error| StartError(format!("cannot use {}: {error}", path.display())))?;
    }
    Ok(Some(tls))
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, StartError> {
    fs::read(path)
        .map_err(|error| StartError(format!("{flag}: cannot read {}: {error}", path.display())))
}
