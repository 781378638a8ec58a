use std::borrow::Cow;

use crate::domain::{User, UserStatus};

/// What a caller may see of users. The service looks for it in a call's extensions, and shows
/// everything if there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// E-mail addresses are shown as `a***@example.com`.
    pub masked_email: bool,
    /// Users who are not active are as if they were not there.
    pub active_only: bool,
}

impl View {
    /// Whether this user is there.
    pub fn shows<Text>(self, user: &User<Text>) -> bool {
        !self.active_only || user.status == UserStatus::Active
    }

    /// The address as it is shown.
    pub fn email(self, address: &str) -> Cow<'_, str> {
        if !self.masked_email {
            return address.into();
        }
        // A local part in quotes may have an `@` as well.
        let (local, domain) = address.rsplit_once('@').unwrap_or_default();
        let mut characters = local.chars();
        // One character alone would be the whole of it.
        let first = characters.next().filter(|_| characters.next().is_some());
        format!("{}***@{domain}", first.map(String::from).unwrap_or_default()).into()
    }

    /// What those see for whom the limits of both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            masked_email: self.masked_email || other.masked_email,
            active_only: self.active_only || other.active_only,
        }
    }

    /// What those see who may have either view.
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
    fn a_masked_address_keeps_its_domain_and_a_character() {
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
    fn of_two_views_the_less_limited_counts() {
        let masked = View { masked_email: true, active_only: false };
        assert_eq!(LIMITED.or(masked), masked);
        assert_eq!(LIMITED.or(LIMITED), LIMITED);
        assert_eq!(LIMITED.or(View::default()), View::default());
    }
}
