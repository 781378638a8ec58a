//! Warnings before certificates expire.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{GaugeVec, Opts};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::task::spawn_blocking;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::config::{Config, Layers};
use crate::reload::Reloads;

const SECONDS_PER_DAY: f64 = 24.0 * 60.0 * 60.0;

/// The days before expiry at which a warning is logged. Certificates that are renewed automatically are
/// renewed a month before they expire, so the first warning means that this has failed.
const WARNINGS: [f64; 4] = [30.0, 7.0, 1.0, 0.0];

/// The certificate files that the settings name.
pub(super) struct Expiry {
    files: Vec<File>,
    days: GaugeVec,
}

struct File {
    key: &'static str,
    /// The setting that names the file, for warnings.
    setting: String,
    path: PathBuf,
    contents: Vec<u8>,
    first: Option<FirstToExpire>,
    /// How many of the [`WARNINGS`] were logged.
    warned: usize,
}

/// The certificate of a file that expires first.
struct FirstToExpire {
    subject: String,
    expires: SystemTime,
}

impl Expiry {
    /// Reads the files for the first time.
    pub(super) fn new(config: &Config, layers: &Layers) -> Self {
        let named = [
            ("tls.cert", &config.tls.cert),
            ("tls.client-ca", &config.tls.client_ca),
            ("store-ca", &config.store.ca),
            ("auth.jwks-ca", &config.auth.jwks_ca),
            ("rate-limit.redis-ca", &config.rate_limit.redis_ca),
            ("telemetry.otlp-ca", &config.telemetry.otlp_ca),
        ];
        let mut files = Vec::new();
        for (key, path) in named {
            if let Some(path) = path {
                let setting = layers.name_at_origin(key).to_string();
                files.push(File::new(key, setting, path.clone()));
            }
        }
        let options = Opts::new(
            "certificate_expiry_days",
            "Days until the first certificate of a file expires, by the setting that names the file.",
        );
        let days = GaugeVec::new(options, &["setting"]).expect("the name is valid");
        let mut expiry = Self { files, days };
        expiry.check(SystemTime::now());
        expiry
    }

    pub(super) fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.days.clone())
    }

    /// Checks the files while the server runs.
    pub(super) async fn watch(mut self, mut reloads: Reloads) {
        while !self.files.is_empty() {
            reloads.due().await;
            let checked = spawn_blocking(move || {
                self.check(SystemTime::now());
                self
            });
            let Ok(checked) = checked.await else { return };
            self = checked;
        }
    }

    fn check(&mut self, now: SystemTime) {
        for file in &mut self.files {
            file.read();
            if let Some(days) = file.days(now) {
                self.days.with_label_values(&[file.key]).set(days);
                file.warn(days);
            }
        }
    }
}

impl File {
    fn new(key: &'static str, setting: String, path: PathBuf) -> Self {
        Self { key, setting, path, contents: Vec::new(), first: None, warned: 0 }
    }

    /// Ignores a file that cannot be read or has no certificates: other parts report that.
    fn read(&mut self) {
        let Ok(contents) = fs::read(&self.path) else { return };
        if contents != self.contents
            && let Some(first) = first(&contents)
        {
            self.contents = contents;
            self.first = Some(first);
            self.warned = 0;
        }
    }

    /// The days until expiry: negative after it.
    fn days(&self, now: SystemTime) -> Option<f64> {
        let expires = self.first.as_ref()?.expires;
        let seconds = match expires.duration_since(now) {
            Ok(left) => left.as_secs_f64(),
            Err(ago) => -ago.duration().as_secs_f64(),
        };
        Some(seconds / SECONDS_PER_DAY)
    }

    fn warn(&mut self, days: f64) {
        let due = WARNINGS.iter().filter(|warning| days <= **warning).count();
        if due > self.warned
            && let Some(FirstToExpire { subject, .. }) = &self.first
        {
            let setting = &self.setting;
            let file = Path::new(&self.path).display();
            if days <= 0.0 {
                tracing::warn!(%file, subject, "{setting}: a certificate has expired");
            } else {
                let days = days.ceil();
                tracing::warn!(%file, subject, days, "{setting}: a certificate expires in {days} days");
            }
        }
        self.warned = due.max(self.warned);
    }
}

/// The certificate of a PEM file that expires first.
fn first(pem: &[u8]) -> Option<FirstToExpire> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let all = certificates.filter_map(|der| {
        let certificate = Certificate::from_der(&der).ok()?;
        let certificate = certificate.tbs_certificate();
        let expires = UNIX_EPOCH + certificate.validity().not_after.to_unix_duration();
        Some(FirstToExpire { subject: certificate.subject().to_string(), expires })
    });
    all.min_by_key(|first| first.expires)
}
