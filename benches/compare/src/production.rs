//! What the servers that authenticate agree on.

use std::num::NonZeroU32;

/// Who signs tokens, and for whom.
pub const ISSUER: &str = "https://issuer.example.com";
pub const AUDIENCE: &str = "users";

/// How often each principal may call: it is counted, and never reached.
pub const CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::MAX;

/// The role that the load has.
pub const ROLE: &str = "reader";

/// What roles may call.
pub const ROLES: [(&str, &[&str]); 3] = [
    ("admin", &["/CreateUser", "/CreateUsers"]),
    ("support", &["/UpdateUsers", "/GetUser"]),
    (ROLE, &["/GetUser", "/GetAllUsers"]),
];
