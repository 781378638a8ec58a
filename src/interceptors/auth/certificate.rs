use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use x509_cert::Certificate;
use x509_cert::der::{self, Decode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::cache::{Cache, Validity};
use super::contents::{Contents, Summary, with_roles};
use super::file::Watched;
use super::table::{self, LineProblem, TableError};
use crate::interceptors::principal::{Principal, PrincipalKind};

/// The roles of names in certificates. A line is `<name> [<role>,…]`.
#[derive(Debug)]
pub(super) struct Roles(HashMap<Box<str>, Vec<Box<str>>>);

impl Roles {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let mut all = HashMap::new();
        for (number, words) in table::lines(bytes)? {
            // A line has at least one word.
            if all.insert(words[0].into(), table::roles(&words[1..])).is_some() {
                return Err(TableError::Line(number, LineProblem::RepeatedName));
            }
        }
        Ok(Self(all))
    }
}

impl Contents for Roles {
    fn summary(&self) -> Summary {
        let names =
            self.0.iter().map(|(name, roles)| with_roles(name, roles.iter().map(|role| &**role)));
        Summary::new(self.0.len(), "certificate name", names)
    }
}

/// Authenticates clients by certificates that TLS has verified.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) roles: Watched<Roles>,
    pub(super) cache: Cache,
}

impl Certificates {
    /// The principal of a certificate, which is then cached.
    ///
    /// Its name is the first listed name: of the alternative names (URIs, then DNS names, then e-mail
    /// addresses), then of the common name of the subject. If no name is listed, it is the first name of
    /// the certificate, without roles.
    pub(super) fn verify(
        &self,
        der: &[u8],
        now: u64,
        generation: u64,
    ) -> Result<Principal, CertificateError> {
        let certificate = Certificate::from_der(der).map_err(CertificateError::Unreadable)?;
        let times = certificate.tbs_certificate().validity();
        // TLS verified it when the connection began, which may be long ago.
        let until = times.not_after.to_unix_duration().as_secs();
        if now > until {
            return Err(CertificateError::Expired);
        }
        let names = names(&certificate)?;
        let roles = self.roles.current();
        let listed = names.iter().find_map(|name| roles.0.get_key_value(&**name));
        let (name, roles) = match (listed, names.first()) {
            (Some((name, roles)), _) => (&**name, roles.clone()),
            (None, Some(first)) => (first.as_str(), Vec::new()),
            (None, None) => return Err(CertificateError::Nameless),
        };
        let principal = Principal::with(name, PrincipalKind::Certificate, roles, Vec::new());
        self.cache.put(der, principal.clone(), now, Validity { until, generation });
        Ok(principal)
    }
}

/// All names of a certificate, the most specific kind first.
fn names(certificate: &Certificate) -> Result<Vec<String>, CertificateError> {
    let certificate = certificate.tbs_certificate();
    let alternative = certificate.get_extension::<SubjectAltName>();
    let alternative = alternative.map_err(CertificateError::Names)?;
    let mut names: Vec<(u8, String)> = Vec::new();
    for name in alternative.iter().flat_map(|(_, names)| &names.0) {
        match name {
            GeneralName::UniformResourceIdentifier(uri) => names.push((0, uri.to_string())),
            GeneralName::DnsName(name) => names.push((1, name.to_string())),
            GeneralName::Rfc822Name(address) => names.push((2, address.to_string())),
            _ => {}
        }
    }
    if let Some(common) = certificate.subject().common_name().map_err(CertificateError::Names)? {
        names.push((3, common.value().into_owned()));
    }
    // Stable: within a kind the order stays.
    names.sort_by_key(|(kind, _)| *kind);
    Ok(names.into_iter().map(|(_, name)| name).filter(|name| !name.is_empty()).collect())
}

/// The reason why a certificate is refused.
#[derive(Debug)]
pub(super) enum CertificateError {
    Unreadable(der::Error),
    /// Its names cannot be read.
    Names(der::Error),
    /// It has expired since the connection began.
    Expired,
    Nameless,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "a certificate that cannot be read: {error}"),
            Self::Names(error) => write!(f, "a certificate whose names cannot be read: {error}"),
            Self::Expired => f.write_str("the certificate has expired since the connection began"),
            Self::Nameless => f.write_str("a certificate without a name"),
        }
    }
}

impl Error for CertificateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable(error) | Self::Names(error) => Some(error),
            Self::Expired | Self::Nameless => None,
        }
    }
}
