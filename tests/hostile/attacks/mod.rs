//! The attacks, by what they aim at.

mod floods;
mod held;
mod inflation;
mod payloads;

use crate::scenario::Scenario;

pub(crate) fn all() -> Vec<Scenario> {
    [held::scenarios(), inflation::scenarios(), floods::scenarios()].into_iter().flatten().collect()
}
