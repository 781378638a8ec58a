//! The book's pages for users of the library: `cargo test --doc` compiles and runs their code.

#[doc = include_str!("../docs/library/blocking.md")]
mod blocking {}

#[doc = include_str!("../docs/library/errors.md")]
mod errors {}

#[doc = include_str!("../docs/library/interceptors.md")]
mod interceptors {}

#[doc = include_str!("../docs/library/streams.md")]
mod streams {}

#[doc = include_str!("../docs/library/testing.md")]
mod testing {}

#[cfg(feature = "tls")]
#[doc = include_str!("../docs/library/tls.md")]
mod tls {}
