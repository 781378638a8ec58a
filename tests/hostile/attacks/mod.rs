//! The attacks, by target.

mod early;
mod floods;
mod held;
mod inflation;
mod loris;
mod metadata;
mod payloads;
mod pinned;
mod resets;
mod scans;
mod shared;
mod tiny;
mod unread;

use crate::scenario::Scenario;

/// Attacks that run only on request.
const ON_REQUEST: &[&str] = &[
    "bomb-zstd-create-user",
    "complete-deflate-check",
    "complete-gzip-create-users",
    "complete-identity-create-user",
    "complete-zstd-create-user",
    "complete-zstd-watch",
    "early-internal",
    "early-not-found",
    "flood-ping-ack",
    "flood-reset-again",
    "flood-settings-empty",
    "flood-settings-idle",
    "flood-unknown-large",
    "flood-window",
    "loris-continuation",
    "loris-half-preface",
    "made-you-reset-by-overflow",
    "metadata-binary",
    "metadata-long-value",
    "metadata-of-unary",
    "rapid-reset-of-whole-calls",
    "tiny-0-of-open-call",
    "unread-errors",
    "unread-settings",
    "zstd-empty-frames",
    "zstd-skippable-frames",
];

pub(crate) fn all() -> Vec<Scenario> {
    let all = [
        held::scenarios(),
        pinned::scenarios(),
        metadata::scenarios(),
        early::scenarios(),
        tiny::scenarios(),
        resets::scenarios(),
        inflation::scenarios(),
        floods::scenarios(),
        scans::scenarios(),
        unread::scenarios(),
        loris::scenarios(),
    ];
    let all = all.into_iter().flatten();
    let marked = all.map(|it| if ON_REQUEST.contains(&&*it.name) { it.on_request() } else { it });
    marked.collect()
}
