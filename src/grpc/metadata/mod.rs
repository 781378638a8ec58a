//! Metadata: the headers and trailers of a call that belong to the application (PROTOCOL-HTTP2,
//! "Custom-Metadata").

mod base64;
mod headers;
mod keys;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request;

pub use self::base64::decode_bin;
pub(crate) use self::base64::encode_bin;
use self::headers::Headers;
pub use self::keys::{AsciiKey, AsciiValue, BinaryKey, InvalidMetadata, LookupKey};

/// Whether the protocol reserves this name. Entries that an application sets under it are not sent.
/// So no handler can forge a status or break the stream. gRFC A6 gives two names with `grpc-` to
/// the application.
fn is_reserved(name: &HeaderName) -> bool {
    match name.as_str() {
        "content-type" | "content-length" | "host" | "te" | "user-agent" => true,
        // RFC 9113, 8.2.2.
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => true,
        "grpc-retry-pushback-ms" | "grpc-previous-rpc-attempts" => false,
        name => name.starts_with("grpc-"),
    }
}

/// A multimap of keys to text, or to bytes if the key ends in `-bin`. Values of one key keep their
/// order.
///
/// ```
/// use balafon::{AsciiKey, BinaryKey, Metadata};
///
/// static USERS_TOTAL: AsciiKey = AsciiKey::from_static("users-total");
/// static TRACE: BinaryKey = BinaryKey::from_static("trace-bin");
///
/// let mut metadata = Metadata::new();
/// metadata.insert(&USERS_TOTAL, 12);
/// metadata.insert_bin(&TRACE, [1, 2, 3]);
/// assert_eq!(metadata.get(&USERS_TOTAL), Some("12"));
/// assert_eq!(metadata.get_bin(&TRACE).expect("it was inserted")?.as_ref(), [1, 2, 3]);
/// # Ok::<(), balafon::InvalidMetadata>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    headers: Headers,
}

impl Metadata {
    /// Empty metadata. It does not allocate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the first text under `key`; `None` also for a value outside of printable ASCII.
    pub fn get(&self, key: impl LookupKey) -> Option<&str> {
        key.get(&self.headers)?.to_str().ok()
    }

    /// Returns every text under `key`, in the order of arrival.
    pub fn get_all<K: LookupKey>(&self, key: K) -> impl Iterator<Item = &str> + use<'_, K> {
        key.get_all(&self.headers).into_iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns the first bytes under `key`.
    ///
    /// # Errors
    /// [`InvalidMetadata`] (inside the option) if the client's value is not base64.
    pub fn get_bin(&self, key: impl LookupKey) -> Option<Result<Bytes, InvalidMetadata>> {
        self.get_all_bin(key).next()
    }

    /// Returns every value under `key`. A header with several values, joined by commas, is split.
    pub fn get_all_bin<K: LookupKey>(
        &self,
        key: K,
    ) -> impl Iterator<Item = Result<Bytes, InvalidMetadata>> + use<'_, K> {
        let values = key.get_all(&self.headers).into_iter();
        values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(decode_bin)
    }

    /// Replaces all values under `key`.
    pub fn insert(&mut self, key: &AsciiKey, value: impl Into<AsciiValue>) {
        self.headers.to_mut().insert(&key.0, value.into().0);
    }

    /// Adds a value under `key`.
    pub fn append(&mut self, key: &AsciiKey, value: impl Into<AsciiValue>) {
        self.headers.to_mut().append(&key.0, value.into().0);
    }

    /// Replaces all values under `key` with these bytes.
    pub fn insert_bin(&mut self, key: &BinaryKey, value: impl AsRef<[u8]>) {
        self.headers.to_mut().insert(&key.0, encode_bin(value.as_ref()));
    }

    /// Adds a value of bytes under `key`.
    pub fn append_bin(&mut self, key: &BinaryKey, value: impl AsRef<[u8]>) {
        self.headers.to_mut().append(&key.0, encode_bin(value.as_ref()));
    }

    /// Removes every value under `key`, and returns whether there was one.
    pub fn remove(&mut self, key: impl LookupKey) -> bool {
        key.remove(self.headers.to_mut())
    }

    /// Returns the key and the value of each entry, in no particular order of keys. A value under a
    /// `-bin` key is still in base64.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    /// Adds all entries of `other`. A key of both keeps both values.
    pub fn merge(&mut self, other: Metadata) {
        if other.is_empty() {
            return;
        }
        if self.headers.is_empty() {
            self.headers = other.headers;
            return;
        }
        let headers = self.headers.to_mut();
        let mut name = None;
        for (next, value) in other.headers.into_own() {
            // HeaderMap yields an entry's name only with its first value.
            name = next.or(name);
            if let Some(name) = &name {
                headers.append(name, value);
            }
        }
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Returns all entries as headers of the `http` crate, with binary values still in base64. Code for
    /// HTTP that the application already has, such as a check of a signature, can read them.
    pub fn as_headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The headers of a request that other calls may have in common.
    pub(crate) fn of_shared(parts: Arc<request::Parts>) -> Self {
        Self { headers: Headers::Shared(parts) }
    }

    /// Returns each entry that may be sent, that is, without reserved names.
    pub(crate) fn sendable(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().filter(|(name, _)| !is_reserved(name))
    }

    /// Removes the reserved names, which must not be sent.
    pub(crate) fn into_sendable(self) -> HeaderMap {
        let mut headers = self.headers.into_own();
        if headers.is_empty() {
            return headers;
        }
        let reserved: Vec<_> = headers.keys().filter(|name| is_reserved(name)).cloned().collect();
        for name in reserved {
            headers.remove(name);
        }
        headers
    }
}

/// From the headers of the `http` crate, without a copy.
impl From<HeaderMap> for Metadata {
    fn from(headers: HeaderMap) -> Self {
        Self { headers: headers.into() }
    }
}

/// Shows names only: values may be credentials or personal data.
impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.headers.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TEXT: AsciiKey = AsciiKey::from_static("some-text");
    static BYTES: BinaryKey = BinaryKey::from_static("some-bin");

    fn with_header(name: &'static str, values: &[&'static str]) -> Metadata {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.into()
    }

    #[test]
    fn metadata_values_are_indexed_unless_marked() {
        let key = AsciiKey::from_static("id");
        let mut metadata = Metadata::new();
        for unindexed in [false, true] {
            let value = AsciiValue::from(7_u64);
            metadata.insert(&key, if unindexed { value.unindexed() } else { value });
            assert_eq!(metadata.as_headers()["id"].is_sensitive(), unindexed);
            assert_eq!(metadata.get(&key), Some("7"));
        }
    }

    #[test]
    fn binary_values_are_decoded_padded_or_unpadded() {
        for text in ["AQIDBA==", "AQIDBA", "AQIDBA="] {
            assert_eq!(decode_bin(text.as_bytes()).unwrap().as_ref(), [1, 2, 3, 4], "{text}");
        }
    }

    #[test]
    fn binary_values_are_encoded_unpadded() {
        assert_eq!(encode_bin(&[1, 2, 3, 4]), "AQIDBA");
    }

    #[test]
    fn binary_values_are_split_on_commas_before_decoding() {
        let metadata = with_header("some-bin", &["AQ==,Ag", "Aw"]);
        let values: Result<Vec<_>, _> = metadata.get_all_bin(&BYTES).collect();
        assert_eq!(values.unwrap(), [&[1][..], &[2], &[3]]);
    }

    #[test]
    fn binary_values_with_invalid_base64_are_errors() {
        let metadata = with_header("some-bin", &["not base64!"]);
        assert!(metadata.get_bin(&BYTES).unwrap().is_err());
    }

    #[test]
    fn metadata_keeps_the_order_of_duplicate_keys() {
        let metadata = with_header("some-text", &["b", "a", "c"]);
        assert_eq!(metadata.get_all(&TEXT).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(metadata.get(&TEXT), Some("b"));
    }

    #[test]
    fn metadata_merge_keeps_every_value() {
        let mut metadata = with_header("some-text", &["1"]);
        metadata.merge(with_header("some-text", &["2", "3"]));
        assert_eq!(metadata.get_all(&TEXT).collect::<Vec<_>>(), ["1", "2", "3"]);
    }

    #[test]
    fn metadata_under_reserved_names_is_not_sent() {
        let mut metadata = with_header("grpc-status", &["0", "1"]);
        metadata.merge(with_header("grpc-status-details-bin", &["AA", "not base64!"]));
        metadata.merge(with_header("te", &["trailers"]));
        metadata.merge(with_header("connection", &["close"]));
        metadata.merge(with_header("content-length", &["5"]));
        metadata.merge(with_header("grpc-anything", &["x"]));
        metadata.merge(with_header("grpc-retry-pushback-ms", &["5"]));
        let sent = metadata.into_sendable();
        assert_eq!(sent.keys().collect::<Vec<_>>(), ["grpc-retry-pushback-ms"]);
    }

    #[test]
    fn metadata_keys_and_values_are_checked() {
        assert!(AsciiKey::try_from("Upper-Case").is_ok_and(|key| key.as_str() == "upper-case"));
        assert!(AsciiKey::try_from("x-bin").is_err());
        assert!(BinaryKey::try_from("x").is_err());
        assert!(AsciiKey::try_from("a b").is_err());
        assert!(AsciiValue::try_from("naïve").is_err());
        assert!(AsciiValue::try_from("tab\t").is_err());
    }

    #[test]
    fn metadata_entries_are_found_listed_and_removed() {
        let mut metadata = with_header("some-text", &["1", "2"]);
        metadata.insert_bin(&BYTES, [1]);
        assert_eq!(metadata.get("some-text"), Some("1"));
        assert_eq!(metadata.get_bin("some-bin").unwrap().unwrap().as_ref(), [1]);
        let mut entries: Vec<_> = metadata.iter().collect();
        entries.sort();
        let expected: [(_, &[u8]); 3] =
            [("some-bin", b"AQ"), ("some-text", b"1"), ("some-text", b"2")];
        assert_eq!(entries, expected);
        assert!(metadata.remove("some-text") && metadata.remove(&BYTES));
        assert!(!metadata.remove(&TEXT) && metadata.is_empty());
    }

    #[test]
    fn metadata_of_a_shared_request_is_copied_before_a_change() {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.headers.insert("some-text", HeaderValue::from_static("1"));
        let shared = Arc::new(parts);
        let [mut changed, other] = [(); 2].map(|()| Metadata::of_shared(shared.clone()));
        changed.insert(&TEXT, 2);
        assert_eq!((changed.get(&TEXT), other.get(&TEXT)), (Some("2"), Some("1")));
        assert_eq!(other.into_sendable().len(), 1);
        assert_eq!(shared.headers["some-text"], "1");
    }

    #[test]
    fn metadata_debug_shows_no_values() {
        let shown = format!("{:?}", with_header("authorization", &["Bearer secret"]));
        assert!(shown.contains("authorization") && !shown.contains("secret"));
    }
}
