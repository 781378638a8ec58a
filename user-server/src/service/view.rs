//! Limits on the data of users that a caller can see.

use std::borrow::Cow;

use crate::domain::{User, UserStatus};

/// The data of users that a caller can see. The service takes it from the extensions of a call. Without it, the
/// caller sees everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// E-mail addresses are masked, as in `a***@example.com`.
    pub masked_email: bool,
    /// Users who are not active are hidden, as if they did not exist.
    pub active_only: bool,
}

impl View {
    /// Whether this user is visible.
    pub fn shows<Text>(self, user: &User<Text>) -> bool {
        !self.active_only || user.status == UserStatus::Active
    }

    /// The address, masked if required.
    pub fn email(self, address: &str) -> Cow<'_, str> {
        if !self.masked_email {
            return address.into();
        }
        // A quoted local part may contain an `@` too.
        let (local, domain) = address.rsplit_once('@').unwrap_or_default();
        let mut characters = local.chars();
        // The first character of a local part of one would reveal all of it.
        let first = characters.next().filter(|_| characters.next().is_some());
        format!("{}***@{domain}", first.map(String::from).unwrap_or_default()).into()
    }

    /// The view with the limits of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            masked_email: self.masked_email || other.masked_email,
            active_only: self.active_only || other.active_only,
        }
    }

    /// The view with the limits that both have in common.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            masked_email: self.masked_email && other.masked_email,
            active_only: self.active_only && other.active_only,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITED: View = View { masked_email: true, active_only: true };

    #[test]
    fn masked_email_keeps_domain_and_first_character() {
        for (address, masked) in [
            ("alice@example.com", "a***@example.com"),
            ("al@example.com", "a***@example.com"),
            ("a@example.com", "***@example.com"),
            ("\"a@b\"@example.com", "\"***@example.com"),
            ("юля@пример.рф", "ю***@пример.рф"),
        ] {
            assert_eq!(LIMITED.email(address), masked);
            assert_eq!(View::default().email(address), address);
        }
    }

    #[test]
    fn view_or_keeps_common_limits() {
        let masked = View { masked_email: true, active_only: false };
        assert_eq!(LIMITED.or(masked), masked);
        assert_eq!(LIMITED.or(LIMITED), LIMITED);
        assert_eq!(LIMITED.or(View::default()), View::default());
    }
}
