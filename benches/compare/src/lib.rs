//! What the servers share: the store and its users, the command line, the generated code.

extern crate self as compare;

pub mod args;
pub mod production;
pub mod store;
pub mod users;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The messages of `echo.proto`, and its service for balafon.
pub mod echo {
    balafon::include_proto!("compare");
}

/// Both services for tonic; their messages are balafon's, as both use prost.
pub mod tonic_pb {
    pub mod users {
        include!(concat!(env!("OUT_DIR"), "/tonic/ru.tinkoff.kora.example.rs"));
    }
    pub mod echo {
        include!(concat!(env!("OUT_DIR"), "/tonic/compare.rs"));
    }
}

/// Both services for connectrpc.
pub mod connect_pb {
    include!(concat!(env!("OUT_DIR"), "/connect/all.rs"));
}
