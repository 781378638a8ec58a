//! The attacks, by what they aim at.

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
    all.into_iter().flatten().collect()
}
