//! What the servers that authenticate agree on.

/// Who signs tokens, and for whom.
pub const ISSUER: &str = "https://issuer.example.com";
pub const AUDIENCE: &str = "users";

/// The role that the load has.
pub const ROLE: &str = "reader";

/// What roles may call.
pub const ROLES: [(&str, &[&str]); 3] = [
    ("admin", &["/CreateUser", "/CreateUsers"]),
    ("support", &["/UpdateUsers", "/GetUser"]),
    (ROLE, &["/GetUser", "/GetAllUsers"]),
];
