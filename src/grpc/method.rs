use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

/// The static description of an RPC. Generated code has one `static` for each, which metrics,
/// limits, permissions and reflection use.
#[derive(Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Method {
    /// The value of `:path`, such as `/helloworld.Greeter/SayHello`.
    pub path: &'static str,
    /// The full name of the service, such as `helloworld.Greeter`.
    pub service: &'static str,
    /// The name of the method alone, such as `SayHello`.
    pub name: &'static str,
    /// Whether the client sends a stream of messages.
    pub client_streaming: bool,
    /// Whether the server sends a stream of messages.
    pub server_streaming: bool,
}

/// The method of every call with an unknown path. [`Call::path`](crate::Call::path) returns the
/// path that the client sent. All unknown paths share this one value, so that no client can add
/// entries to a table of metrics.
pub static UNKNOWN_METHOD: Method = Method {
    path: "/unknown/unknown",
    service: "unknown",
    name: "unknown",
    client_streaming: true,
    server_streaming: true,
};

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)
    }
}

/// A [`Method`] together with the types of its messages.
pub struct Rpc<Req, Res> {
    method: Method,
    messages: PhantomData<fn(Req) -> Res>,
}

impl<Req, Res> Rpc<Req, Res> {
    /// One request, one response.
    ///
    /// # Panics
    /// This constructor and the others panic if `path` is not `/service/method`. In a `static` that
    /// is a compile error.
    pub const fn unary(path: &'static str) -> Self {
        Self::new(path, false, false)
    }

    /// One request, a stream of responses.
    pub const fn server_streaming(path: &'static str) -> Self {
        Self::new(path, false, true)
    }

    /// A stream of requests, one response.
    pub const fn client_streaming(path: &'static str) -> Self {
        Self::new(path, true, false)
    }

    /// A stream of requests, a stream of responses.
    pub const fn bidi_streaming(path: &'static str) -> Self {
        Self::new(path, true, true)
    }

    const fn new(path: &'static str, client_streaming: bool, server_streaming: bool) -> Self {
        let (service, name) = split(path);
        let method = Method { path, service, name, client_streaming, server_streaming };
        Self { method, messages: PhantomData }
    }

    /// Returns the description without the message types.
    pub const fn method(&self) -> &Method {
        &self.method
    }
}

impl<Req, Res> Deref for Rpc<Req, Res> {
    type Target = Method;

    fn deref(&self) -> &Method {
        &self.method
    }
}

/// Splits `/service/method` into its two names.
const fn split(path: &'static str) -> (&'static str, &'static str) {
    let bytes = path.as_bytes();
    assert!(!bytes.is_empty() && bytes[0] == b'/', "the path of an RPC must start with a slash");
    let mut slash = bytes.len() - 1;
    while bytes[slash] != b'/' {
        slash -= 1;
    }
    assert!(slash > 1 && slash + 1 < bytes.len(), "the path of an RPC must be /service/method");
    let (service, name) = path.split_at(slash);
    (service.split_at(1).1, name.split_at(1).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpc_path_is_split_into_service_and_method() {
        static SAY_HELLO: Rpc<(), ()> = Rpc::server_streaming("/helloworld.Greeter/SayHello");
        assert_eq!(SAY_HELLO.service, "helloworld.Greeter");
        assert_eq!(SAY_HELLO.name, "SayHello");
        assert!(SAY_HELLO.server_streaming && !SAY_HELLO.client_streaming);
    }
}
