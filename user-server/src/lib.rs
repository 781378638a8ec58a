//! The user service: from the command line to a running server.
//!
//! ```text
//! main -> commands -> cli, config         arguments and settings
//!            |
//!            `-> serve -> store, routes, interceptors -> balafon::Server
//!
//! service (gRPC) --> store (memory, SQLite, PostgreSQL) --> domain (knows neither gRPC nor SQL)
//! ```
//!
//! A file for each part of the composition: `server` for the library's settings, `routes` for the services,
//! `auth`, `limits`, `tls` and `traces` for the parts of the same names.

mod access;
mod admin;
mod auth;
mod check;
mod cli;
mod commands;
mod config;
mod copies;
pub mod domain;
mod expiry;
mod limits;
pub mod log;
mod open_store;
mod process;
mod reload;
mod routes;
mod serve;
mod server;
pub mod service;
mod start_error;
pub mod store;
mod tls;
mod token;
mod traces;

/// The code that is generated from `proto/user_service.proto`.
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/ru.tinkoff.kora.example.rs"));
}

pub use self::commands::main;
