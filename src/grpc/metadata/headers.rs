use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use http::header::HeaderMap;
use http::request;

/// The headers of [`Metadata`](super::Metadata).
#[derive(Clone, Default)]
pub(super) enum Headers {
    /// Most responses have none, and an empty map takes time to make and to drop.
    #[default]
    None,
    Own(HeaderMap),
    /// Those of a request that the client repeats. They are copied before a change.
    Shared(Arc<request::Parts>),
}

impl Headers {
    pub(super) fn to_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Own(headers) => headers,
            Self::Shared(parts) => &mut Arc::make_mut(parts).headers,
            Self::None => {
                *self = Self::Own(HeaderMap::new());
                self.to_mut()
            }
        }
    }

    pub(super) fn into_own(self) -> HeaderMap {
        match self {
            Self::None => HeaderMap::new(),
            Self::Own(headers) => headers,
            Self::Shared(parts) => Arc::unwrap_or_clone(parts).headers,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::Own(headers) => headers.is_empty(),
            Self::Shared(parts) => parts.headers.is_empty(),
        }
    }
}

impl Deref for Headers {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
        match self {
            Self::None => &NONE,
            Self::Own(headers) => headers,
            Self::Shared(parts) => &parts.headers,
        }
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Headers {}

impl From<HeaderMap> for Headers {
    fn from(headers: HeaderMap) -> Self {
        Self::Own(headers)
    }
}
