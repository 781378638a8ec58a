//! How long certificates are still valid.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{GaugeVec, Opts};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::config::{Config, Layers};
use super::reload;

/// How often the files are looked at, as in `tls.rs`.
const INTERVAL: Duration = Duration::from_secs(1);

const SECONDS_PER_DAY: f64 = 24.0 * 60.0 * 60.0;

/// At how many days each warning comes: certificates that are renewed by themselves are renewed a month before
/// their end, so the first says that they were not.
const WARNINGS: [f64; 4] = [30.0, 7.0, 1.0, 0.0];

/// The files with certificates that the configuration names.
pub(super) struct Expiry {
    files: Vec<File>,
    days: GaugeVec,
}

struct File {
    key: &'static str,
    /// The setting that names it, as whoever set it knows it.
    place: String,
    path: PathBuf,
    contents: Vec<u8>,
    /// Of the certificate that expires first.
    first: Option<First>,
    /// How many of the warnings there were.
    warned: usize,
}

struct First {
    subject: String,
    expires: SystemTime,
}

impl Expiry {
    /// Looks at the files for the first time.
    pub(super) fn new(config: &Config, layers: &Layers) -> Self {
        let named = [
            ("tls.cert", &config.tls_cert),
            ("tls.client-ca", &config.tls_client_ca),
            ("store-ca", &config.store_ca),
            ("auth.jwks-ca", &config.auth_jwks_ca),
            ("rate-limit.redis-ca", &config.rate_limit_redis_ca),
            ("telemetry.otlp-ca", &config.otlp_ca),
        ];
        let named = named.into_iter().filter_map(|(key, path)| Some((key, path.clone()?)));
        let files = named.map(|(key, path)| File::new(key, layers.place(key).to_string(), path));
        let options = Opts::new(
            "certificate_expiry_days",
            "Days until the first certificate of a file expires, by the setting that names the file.",
        );
        let days = GaugeVec::new(options, &["setting"]).expect("the name is a valid one");
        let mut expiry = Self { files: files.collect(), days };
        expiry.look(SystemTime::now());
        expiry
    }

    pub(super) fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.days.clone())
    }

    /// Warns while it serves.
    pub(super) async fn watch(mut self, mut asks: watch::Receiver<()>) {
        while !self.files.is_empty() {
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = reload::asked(&mut asks) => {}
            }
            let looked = spawn_blocking(move || {
                self.look(SystemTime::now());
                self
            });
            let Ok(looked) = looked.await else { return };
            self = looked;
        }
    }

    fn look(&mut self, now: SystemTime) {
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
    fn new(key: &'static str, place: String, path: PathBuf) -> Self {
        Self { key, place, path, contents: Vec::new(), first: None, warned: 0 }
    }

    /// One that cannot be read, or has no certificates, is for others to complain of.
    fn read(&mut self) {
        let Ok(contents) = fs::read(&self.path) else { return };
        if contents != self.contents
            && let Some(first) = first(&contents)
        {
            (self.contents, self.first, self.warned) = (contents, Some(first), 0);
        }
    }

    /// Less than none once it has expired.
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
            && let Some(First { subject, .. }) = &self.first
        {
            let (place, file) = (&self.place, Path::new(&self.path).display());
            if days <= 0.0 {
                tracing::warn!(%file, subject, "{place}: a certificate has expired");
            } else {
                let days = days.ceil();
                tracing::warn!(%file, subject, days, "{place}: a certificate expires in {days} days");
            }
        }
        self.warned = due.max(self.warned);
    }
}

/// The first certificate of a PEM file to expire.
fn first(pem: &[u8]) -> Option<First> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let all = certificates.filter_map(|der| {
        let certificate = Certificate::from_der(&der).ok()?;
        let certificate = certificate.tbs_certificate();
        let expires = UNIX_EPOCH + certificate.validity().not_after.to_unix_duration();
        Some(First { subject: certificate.subject().to_string(), expires })
    });
    all.min_by_key(|first| first.expires)
}
