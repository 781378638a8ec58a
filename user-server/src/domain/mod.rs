//! Users, and the rules for their names and e-mail addresses.
//!
//! This module knows neither gRPC nor databases, and imports no other module of the crate. The values of a
//! [`NewUser`] and of a [`UserChange`] are always valid, so stores do not check them again. Names and
//! addresses are personal data: neither `Debug` output nor error texts contain them.

mod email;
mod validation;
mod visible;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use self::email::valid_email;
pub use self::validation::{Invalid, MAX_EMAIL_BYTES, MAX_NAME_CHARS, Violation};
use self::validation::{collect, valid_name};

/// Identifies a user: a UUID of version 7 (RFC 9562 section 5.7).
///
/// Stores issue strictly increasing ids, so the order of ids is the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Uuid);

impl UserId {
    /// The length of the textual form, in bytes.
    pub const TEXT_LEN: usize = 36;

    /// Parses the hyphenated form of 36 characters, in upper or lower case. Any other text is `None`.
    ///
    /// Every UUID version is accepted: an id that no store has issued is unknown, not malformed.
    pub fn parse(text: &str) -> Option<Self> {
        // The length rules out the other notations: bare digits, in braces, as a URN.
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        Uuid::try_parse(text).ok().map(Self)
    }

    /// Writes the lower-case hyphenated form to `buffer`, without an allocation.
    pub fn encode<'a>(&self, buffer: &'a mut [u8; Self::TEXT_LEN]) -> &'a str {
        self.0.as_hyphenated().encode_lower(buffer)
    }

    /// The bytes of the lower-case hyphenated form.
    pub fn to_ascii(self) -> [u8; Self::TEXT_LEN] {
        let mut text = [b'-'; Self::TEXT_LEN];
        let (first, second) = self.0.as_u64_pair();
        let (a, b) = (hex((first >> 32) as u32), hex(first as u32));
        let (c, d) = (hex((second >> 32) as u32), hex(second as u32));
        text[..8].copy_from_slice(&a);
        text[9..13].copy_from_slice(&b[..4]);
        text[14..18].copy_from_slice(&b[4..]);
        text[19..23].copy_from_slice(&c[..4]);
        text[24..28].copy_from_slice(&c[4..]);
        text[28..].copy_from_slice(&d);
        text
    }

    /// The lower-case hyphenated form. It costs less than `to_string`.
    pub fn to_text(&self) -> String {
        self.encode(&mut [0; Self::TEXT_LEN]).to_owned()
    }
}

/// The eight lower-case digits of a number. They are computed at once, each in a byte of a word.
fn hex(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 for each digit above 9.
    let letters = (digits + 6 * ONES) >> 4 & ONES;
    (digits + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.encode(&mut [0; Self::TEXT_LEN]))
    }
}

impl From<Uuid> for UserId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<UserId> for Uuid {
    fn from(id: UserId) -> Self {
        id.0
    }
}

/// A time in UTC, with the fields and the range of a protobuf `Timestamp`: years 1 to 9999, in nanoseconds.
/// So every value can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: i32,
}

impl Timestamp {
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self { seconds: -62_135_596_800, nanos: 0 };
    /// 9999-12-31T23:59:59.999999999Z.
    pub const MAX: Self = Self { seconds: 253_402_300_799, nanos: 999_999_999 };

    /// The time `seconds` after the Unix epoch, plus `nanos`. `seconds` is negative before the epoch. `nanos` is
    /// 0 to 999,999,999 and counts forward, also before the epoch. `None` outside of [`MIN`](Self::MIN) to
    /// [`MAX`](Self::MAX).
    pub fn new(seconds: i64, nanos: i32) -> Option<Self> {
        let seconds_in_range = (Self::MIN.seconds..=Self::MAX.seconds).contains(&seconds);
        let nanos_in_range = (0..=Self::MAX.nanos).contains(&nanos);
        if seconds_in_range && nanos_in_range { Some(Self { seconds, nanos }) } else { None }
    }

    /// The time of the system clock.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Whole seconds since the Unix epoch, negative before it.
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`seconds`](Self::seconds): 0 to 999,999,999.
    pub fn nanos(&self) -> i32 {
        self.nanos
    }
}

/// A time outside of the range becomes the nearest end of the range.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let (seconds, nanos) = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => (i64::try_from(after.as_secs()), after.subsec_nanos()),
            Err(before) => {
                // Nanoseconds count forward before the epoch too.
                let before = before.duration();
                let nanos = (1_000_000_000 - before.subsec_nanos()) % 1_000_000_000;
                let seconds = i64::try_from(before.as_secs()).map(|seconds| -seconds);
                (seconds.map(|seconds| seconds - i64::from(nanos > 0)), nanos)
            }
        };
        let nearest_end = if time < UNIX_EPOCH { Self::MIN } else { Self::MAX };
        let seconds = seconds.unwrap_or(nearest_end.seconds);
        Self::new(seconds, nanos as i32).unwrap_or(nearest_end)
    }
}

/// Whether a user may use the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserStatus {
    /// In use: the status of a new user.
    Active,
    /// Not in use, by the user's choice or for lack of activity.
    Inactive,
    /// Blocked by an operator.
    Suspended,
}

/// A stored user. `User<&str>` borrows its texts. The `Debug` output leaves out the personal data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct User<Text = String> {
    /// Issued by the store at creation. It never changes.
    pub id: UserId,
    /// Valid under the rules of [`NewUser::parse`].
    pub name: Text,
    /// Valid under the rules of [`NewUser::parse`]; not unique.
    pub email: Text,
    /// The time of the system clock at creation. If the clock steps back, a later user can have an earlier
    /// time. The order of creation is the order of ids.
    pub created_at: Timestamp,
    /// Whether the user may use the service.
    pub status: UserStatus,
}

impl User {
    /// The same user with borrowed texts.
    pub fn borrowed(&self) -> User<&str> {
        let Self { id, ref name, ref email, created_at, status } = *self;
        User { id, name, email, created_at, status }
    }
}

impl User<&str> {
    /// The same user with owned texts.
    pub fn into_owned(self) -> User {
        let Self { id, name, email, created_at, status } = self;
        User { id, name: name.to_owned(), email: email.to_owned(), created_at, status }
    }
}

impl<Text> fmt::Debug for User<Text> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("created_at", &self.created_at)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The valid name and e-mail address of a user to create.
#[derive(Clone, PartialEq, Eq)]
pub struct NewUser {
    name: String,
    email: String,
}

impl NewUser {
    /// Trims the values, converts them to Unicode Normalization Form C, and validates them.
    ///
    /// - A name has 1 to [`MAX_NAME_CHARS`] characters of any script. Control characters, invisible
    ///   characters and direction overrides are refused.
    /// - An e-mail address has at most [`MAX_EMAIL_BYTES`] bytes: a local part of 1 to 64 bytes, `@`, and a
    ///   domain of at least two labels. The local part is a dot-string or a quoted string without white
    ///   space (RFC 5321), or their extension to other scripts (RFC 6531). The existence of the address is not
    ///   checked.
    ///
    /// # Errors
    ///
    /// [`Invalid`] with one violation for each invalid field.
    pub fn parse(name: &str, email: &str) -> Result<Self, Invalid> {
        let (name, email) = collect(valid_name(name), valid_email(email))?;
        Ok(Self { name, email })
    }

    /// The name, normalized and trimmed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The e-mail address, normalized and trimmed.
    pub fn email(&self) -> &str {
        &self.email
    }

    /// The active user with the id that the store has chosen.
    pub fn into_user(self, id: UserId, created_at: Timestamp) -> User {
        let Self { name, email } = self;
        User { id, name, email, created_at, status: UserStatus::Active }
    }
}

impl fmt::Debug for NewUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUser").finish_non_exhaustive()
    }
}

/// An update of a user: valid new values for some of its fields.
#[derive(Clone, PartialEq, Eq)]
pub struct UserChange {
    name: Option<String>,
    email: Option<String>,
}

impl UserChange {
    /// As [`NewUser::parse`], but an empty value keeps the stored one. A value of only white space is a
    /// violation: it was meant to change the field.
    ///
    /// # Errors
    ///
    /// [`Invalid`] with one violation for each invalid field.
    pub fn parse(name: &str, email: &str) -> Result<Self, Invalid> {
        let name = if name.is_empty() { Ok(None) } else { valid_name(name).map(Some) };
        let email = if email.is_empty() { Ok(None) } else { valid_email(email).map(Some) };
        let (name, email) = collect(name, email)?;
        Ok(Self { name, email })
    }

    /// The new name, or `None` to keep the stored one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The new e-mail address, or `None` to keep the stored one.
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// Whether no field changes.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.email.is_none()
    }

    /// Changes a user.
    pub fn apply(self, user: &mut User) {
        let Self { name, email } = self;
        if let Some(name) = name {
            user.name = name;
        }
        if let Some(email) = email {
            user.email = email;
        }
    }
}

impl fmt::Debug for UserChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserChange")
            .field("changes_name", &self.name.is_some())
            .field("changes_email", &self.email.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    const TEXT: &str = "018f3c2a-7b1d-7e4f-8a90-b1c2d3e4f506";

    #[test]
    fn id_parses_any_case_and_prints_lower_case() {
        let id = UserId::parse(TEXT).unwrap();
        assert_eq!(UserId::parse(&TEXT.to_uppercase()), Some(id));
        assert_eq!(id.to_string(), TEXT);
        assert_eq!(id.encode(&mut [0; UserId::TEXT_LEN]), TEXT);
        assert_eq!(UserId::from(Uuid::from(id)), id);
    }

    #[test]
    fn id_has_the_same_text_in_ascii() {
        let digits = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        let ids = [(digits[0], digits[1]), (digits[1], digits[0]), (0, u64::MAX), (u64::MAX, 0)];
        for (first, second) in ids {
            let id = UserId::from(Uuid::from_u64_pair(first, second));
            assert_eq!(str::from_utf8(&id.to_ascii()), Ok(&*id.to_string()));
        }
    }

    #[test]
    fn id_refuses_other_notations() {
        let urn = format!("urn:uuid:{TEXT}");
        let braces = format!("{{{TEXT}}}");
        let digits = TEXT.replace('-', "");
        let padded = format!("{digits}    ");
        let inner_braces = format!("{{{}}}", &TEXT[1..35]);
        let moved_hyphen = "018f3c2a7-b1d-7e4f-8a90-b1c2d3e4f506";
        let not_hex = TEXT.replace('0', "g");
        let wide = "é".repeat(18);
        let spaced = format!(" {}", &TEXT[1..]);
        for text in
            ["", "1", &urn, &braces, &digits, &padded, &inner_braces, moved_hyphen, &not_hex]
                .into_iter()
                .chain([&*wide, &*spaced])
        {
            assert_eq!(UserId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn timestamp_nanoseconds_count_forward_before_the_epoch() {
        let nano = Duration::from_nanos(1);
        let parts = |time| {
            let timestamp = Timestamp::from(time);
            (timestamp.seconds(), timestamp.nanos())
        };
        assert_eq!(parts(UNIX_EPOCH), (0, 0));
        assert_eq!(parts(UNIX_EPOCH + Duration::new(5, 7)), (5, 7));
        assert_eq!(parts(UNIX_EPOCH - nano), (-1, 999_999_999));
        assert_eq!(parts(UNIX_EPOCH - Duration::from_secs(2)), (-2, 0));
    }

    #[test]
    fn timestamp_stays_in_the_protobuf_range() {
        let eons = Duration::from_secs(1 << 40);
        assert_eq!(Timestamp::from(UNIX_EPOCH + eons), Timestamp::MAX);
        assert_eq!(Timestamp::from(UNIX_EPOCH - eons), Timestamp::MIN);
        let (min, max) = (Timestamp::MIN, Timestamp::MAX);
        assert_eq!(Timestamp::new(min.seconds, 0), Some(min));
        assert_eq!(Timestamp::new(max.seconds, max.nanos), Some(max));
        for (seconds, nanos) in [(min.seconds - 1, 0), (max.seconds + 1, 0), (0, -1), (0, 1 << 30)]
        {
            assert_eq!(Timestamp::new(seconds, nanos), None, "{seconds} {nanos}");
        }
    }

    #[test]
    fn debug_output_has_no_personal_data() {
        let new = NewUser::parse("Alice", "alice@example.com").unwrap();
        let user = new.clone().into_user(UserId::parse(TEXT).unwrap(), Timestamp::MIN);
        let change = UserChange::parse("Alice", "alice@example.com").unwrap();
        let text = format!("{new:?} {user:?} {change:?}");
        assert!(text.contains(TEXT));
        assert!(!text.to_lowercase().contains("alice"), "{text}");
    }
}
