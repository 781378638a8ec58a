use std::fmt;

use http::header::{GetAll, HeaderMap, HeaderName, HeaderValue};

/// A key for text values. It has lower-case letters, digits, `-`, `_` and `.`, and does not end in
/// `-bin`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AsciiKey(pub(super) HeaderName);

/// A key for byte values. It ends in `-bin`, and the values are sent in base64.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BinaryKey(pub(super) HeaderName);

/// A text value: printable ASCII (0x20 to 0x7E), as the specification allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsciiValue(pub(super) HeaderValue);

/// An invalid key or value of metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidMetadata(pub(super) Fault);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    Key,
    Value,
    Base64,
}

/// A key to search [`Metadata`](super::Metadata) for: a typed key, or its text in lower case.
pub trait LookupKey: sealed::Sealed {}

impl LookupKey for &AsciiKey {}
impl LookupKey for &BinaryKey {}
impl LookupKey for &str {}

mod sealed {
    use super::*;

    pub trait Sealed {
        fn get(self, headers: &HeaderMap) -> Option<&HeaderValue>;
        fn get_all(self, headers: &HeaderMap) -> GetAll<'_, HeaderValue>;
        fn remove(self, headers: &mut HeaderMap) -> bool;
    }

    macro_rules! lookup {
        ($($key:ty, $name:ident => $header:expr;)+) => {
            $(impl Sealed for &$key {
                fn get(self, headers: &HeaderMap) -> Option<&HeaderValue> {
                    let $name = self;
                    headers.get($header)
                }

                fn get_all(self, headers: &HeaderMap) -> GetAll<'_, HeaderValue> {
                    let $name = self;
                    headers.get_all($header)
                }

                fn remove(self, headers: &mut HeaderMap) -> bool {
                    let $name = self;
                    headers.remove($header).is_some()
                }
            })+
        };
    }

    lookup! {
        AsciiKey, key => &key.0;
        BinaryKey, key => &key.0;
        str, name => name;
    }
}

impl AsciiKey {
    /// A key known at compile time.
    ///
    /// # Panics
    /// If `name` is not a valid key for text. In a `static` that is a compile error.
    pub const fn from_static(name: &'static str) -> Self {
        assert!(!ends_in_bin(name.as_bytes()), "a key for text must not end in -bin");
        Self(HeaderName::from_static(name))
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl BinaryKey {
    /// A key known at compile time.
    ///
    /// # Panics
    /// If `name` is not a valid key for bytes. In a `static` that is a compile error.
    pub const fn from_static(name: &'static str) -> Self {
        assert!(ends_in_bin(name.as_bytes()), "a key for bytes must end in -bin");
        Self(HeaderName::from_static(name))
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

const fn ends_in_bin(name: &[u8]) -> bool {
    matches!(name, [.., b'-', b'b', b'i', b'n'])
}

impl TryFrom<&str> for AsciiKey {
    type Error = InvalidMetadata;

    fn try_from(name: &str) -> Result<Self, InvalidMetadata> {
        match HeaderName::try_from(name) {
            Ok(key) if !ends_in_bin(key.as_str().as_bytes()) => Ok(Self(key)),
            _ => Err(InvalidMetadata(Fault::Key)),
        }
    }
}

impl TryFrom<&str> for BinaryKey {
    type Error = InvalidMetadata;

    fn try_from(name: &str) -> Result<Self, InvalidMetadata> {
        match HeaderName::try_from(name) {
            Ok(key) if ends_in_bin(key.as_str().as_bytes()) => Ok(Self(key)),
            _ => Err(InvalidMetadata(Fault::Key)),
        }
    }
}

impl AsciiValue {
    /// Marks a value that does not repeat, such as a call's id. It is sent without an entry in the
    /// HPACK table (RFC 7541, 7.1.3), where it would evict values that repeat.
    #[must_use]
    pub fn unindexed(mut self) -> Self {
        self.0.set_sensitive(true);
        self
    }

    /// A value known at compile time.
    ///
    /// # Panics
    /// If `value` is not printable ASCII. In a `static` that is a compile error.
    pub const fn from_static(value: &'static str) -> Self {
        Self(HeaderValue::from_static(value))
    }
}

impl TryFrom<&str> for AsciiValue {
    type Error = InvalidMetadata;

    fn try_from(value: &str) -> Result<Self, InvalidMetadata> {
        if !value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
            return Err(InvalidMetadata(Fault::Value));
        }
        HeaderValue::from_str(value).map(Self).map_err(|_| InvalidMetadata(Fault::Value))
    }
}

macro_rules! ascii_value_from_integer {
    ($($integer:ty),+) => {
        $(impl From<$integer> for AsciiValue {
            fn from(value: $integer) -> Self {
                Self(HeaderValue::from(value))
            }
        })+
    };
}

ascii_value_from_integer!(u32, i32, u64, i64, usize);

impl fmt::Display for InvalidMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Fault::Key => {
                "invalid metadata key: wanted letters, digits, '-', '_' and '.', \
                 with the suffix -bin for bytes and without it for text"
            }
            Fault::Value => "invalid metadata value: wanted printable ASCII",
            Fault::Base64 => "invalid metadata value: a -bin key holds base64",
        })
    }
}

impl std::error::Error for InvalidMetadata {}
