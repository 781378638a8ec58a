//! The remaining validity of certificates, as operators see it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};

use super::{Authority, Identity};
use crate::admin::{self, http};
use crate::support::folder::Folder;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn expiring(mut params: CertificateParams, left: Duration) -> CertificateParams {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + now + left;
    params
}

fn server(left: Duration) -> Identity {
    Authority::new().sign(expiring(CertificateParams::new(["test".to_owned()]).unwrap(), left))
}

fn authority(name: &str, left: Duration) -> String {
    let mut params = expiring(CertificateParams::default(), left);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn days(admin: &str, setting: &str) -> f64 {
    let name = format!("certificate_expiry_days{{setting=\"{setting}\"}} ");
    let text = http(admin, "GET /metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

#[test]
fn certificates_near_expiry_are_warned_of_in_days() {
    let folder = Folder::new();
    for (left, warning) in [
        (DAY * 29 + DAY / 2, "--tls-cert: a certificate expires in 30 days"),
        (DAY * 6 + DAY / 2, "--tls-cert: a certificate expires in 7 days"),
        (DAY / 2, "--tls-cert: a certificate expires in 1 days"),
    ] {
        let Identity { chain, key } = server(left);
        // In a bundle the first certificate to expire counts.
        let bundle = authority("lasting", DAY * 1000) + &authority("ending", left);
        let arguments = [
            "--tls-cert",
            &folder.write("cert.pem", chain),
            "--tls-key",
            &folder.write("key.pem", key),
            "--tls-client-ca",
            &folder.write("ca.pem", bundle),
        ];
        let (running, admin) = admin::start(&arguments);
        assert!(running.before.contains(warning), "{}", running.before);
        let of_bundle = warning.replace("--tls-cert", "--tls-client-ca");
        let line = running.before.lines().find(|line| line.contains(&of_bundle)).unwrap();
        assert!(line.contains("CN=ending"), "{line}");
        for setting in ["tls.cert", "tls.client-ca"] {
            let days = days(&admin, setting);
            assert!((days - left.as_secs_f64() / DAY.as_secs_f64()).abs() < 0.01, "{days}");
        }
    }
}

#[test]
fn certificate_expiring_in_use_is_warned_of_once() {
    let folder = Folder::new();
    let Identity { chain, key } = server(Duration::from_secs(4));
    let (cert, key) = (folder.write("cert.pem", chain), folder.write("key.pem", key));
    let (mut running, admin) = admin::start(&["--tls-cert", &cert, "--tls-key", &key]);
    assert!(running.before.contains("expires in 1 days"), "{}", running.before);
    running.line_with("--tls-cert: a certificate has expired");
    assert!(days(&admin, "tls.cert") <= 0.0);
    let Identity { chain, key: new_key } = server(DAY * 100);
    folder.write("key.pem", new_key);
    folder.write("cert.pem", chain);
    running.signal("HUP");
    while days(&admin, "tls.cert") < 99.0 {}
    running.signal("TERM");
    assert!(!running.rest_of_log().contains("has expired"));
}
