//! The user service: the domain, the stores, and the gRPC service in front of them.
//!
//! ```text
//! service (gRPC) --> store (trait; memory) --> domain (knows neither gRPC nor SQL)
//! ```

mod batch;
pub mod domain;
mod error;
mod idempotency;
mod service;
pub mod store;
mod view;

/// What is generated of `proto/user_service.proto`.
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/ru.tinkoff.kora.example.rs"));
}

pub use self::batch::{
    DEFAULT_CHUNK_DELAY, DEFAULT_CHUNK_SIZE, DEFAULT_MAX_BATCH, USERS_BATCH, USERS_FAILED,
    USERS_FAILURES,
};
pub use self::idempotency::{Caller, IDEMPOTENCY_KEY};
pub use self::service::{USERS_RESUME_AFTER, USERS_SKIPPED, USERS_TOTAL, Users};
pub use self::view::{Changes, View};
