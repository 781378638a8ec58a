//! Who calls, and what they may: `ATTACKS.md` is the table of what is refused.

mod attacks;
mod failures;
mod files;
mod permissions;
mod support;
mod ways;
