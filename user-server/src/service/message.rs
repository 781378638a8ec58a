//! Users as messages.

use balafon::{Encoded, Sink, Status};

use super::View;
use crate::domain::{Timestamp, User, UserStatus};
use crate::pb::{self, UserResponse};

/// The message of a user, as far as the caller can see it.
pub(super) fn message_of(user: User<&str>, view: View) -> UserResponse {
    let User { id, name, email, created_at, status } = user;
    UserResponse {
        id: id.to_text(),
        name: name.to_owned(),
        email: view.email(email).into_owned(),
        created_at: Some(balafon::prost_types::Timestamp {
            seconds: created_at.seconds(),
            nanos: created_at.nanos(),
        }),
        status: status_of(status) as i32,
    }
}

fn status_of(status: UserStatus) -> pb::UserStatus {
    match status {
        UserStatus::Active => pb::UserStatus::Active,
        UserStatus::Inactive => pb::UserStatus::Inactive,
        UserStatus::Suspended => pb::UserStatus::Suspended,
    }
}

/// Messages of users, encoded without building a [`UserResponse`] for each: that takes half of the instructions.
pub(super) struct UserMessages {
    view: View,
    messages: Encoded<UserResponse>,
    /// The memory in which a message is encoded.
    message: Vec<u8>,
}

impl UserMessages {
    pub(super) fn new(view: View) -> Self {
        Self { view, messages: Encoded::new(), message: Vec::new() }
    }

    /// Adds the message that [`message_of`] returns.
    pub(super) fn push(&mut self, user: User<&str>) -> Result<(), Status> {
        let User { id, name, email, created_at, status } = user;
        let message = &mut self.message;
        message.clear();
        put_bytes(message, 1, &id.to_ascii());
        put_bytes(message, 2, name.as_bytes());
        put_bytes(message, 3, self.view.email(email).as_bytes());
        put_timestamp(message, 4, created_at);
        put_number(message, 5, status_of(status) as i64);
        Ok(self.messages.push_bytes(message)?)
    }

    pub(super) fn wire_len(&self) -> usize {
        self.messages.wire_len()
    }

    /// Sends the messages and removes them.
    pub(super) async fn send(&mut self, out: &mut Sink<UserResponse>) -> Result<(), Status> {
        out.send_encoded(&self.messages).await?;
        self.messages.clear();
        Ok(())
    }
}

/// The wire types of protobuf.
const VARINT: u8 = 0;
const LENGTH_DELIMITED: u8 = 2;

#[inline]
fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        message.push(field << 3 | LENGTH_DELIMITED);
        put_varint(message, bytes.len() as u64);
        message.extend_from_slice(bytes);
    }
}

fn put_timestamp(message: &mut Vec<u8>, field: u8, time: Timestamp) {
    message.extend_from_slice(&[field << 3 | LENGTH_DELIMITED, 0]);
    let start = message.len();
    put_number(message, 1, time.seconds());
    put_number(message, 2, time.nanos().into());
    // Two numbers are 22 bytes at most.
    message[start - 1] = (message.len() - start) as u8;
}

/// A negative number is encoded as in two's complement, in 10 bytes.
fn put_number(message: &mut Vec<u8>, field: u8, number: i64) {
    if number != 0 {
        message.push(field << 3 | VARINT);
        put_varint(message, number as u64);
    }
}

fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use balafon::prost::Message;

    use super::*;
    use crate::domain::{MAX_EMAIL_BYTES, MAX_NAME_CHARS, UserId};

    #[test]
    fn user_messages_are_encoded_like_generated_ones() {
        let id = UserId::parse("018f3c2a-7b1d-7e4f-8a90-b1c2d3e4f506").unwrap();
        let (long_name, long_email) = ("😀".repeat(MAX_NAME_CHARS), "e".repeat(MAX_EMAIL_BYTES));
        let texts = [("Alice", "alice@example.com"), (&*long_name, &*long_email), ("", "")];
        let times = [(0, 0), (1, 0), (0, 1), (1_700_000_000, 999_999_999), (-1, 127)];
        let ends = [Timestamp::MIN, Timestamp::MAX];
        let times = times.map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap());
        let states = [UserStatus::Active, UserStatus::Inactive, UserStatus::Suspended];
        for view in [false, true].map(|masked_email| View { masked_email, active_only: false }) {
            let mut messages = UserMessages::new(view);
            let mut expected = Vec::new();
            for (name, email) in texts {
                for created_at in times.into_iter().chain(ends) {
                    for status in states {
                        let user = User { id, name, email, created_at, status };
                        messages.push(user).unwrap();
                        expected.push(message_of(user, view).encode_to_vec());
                    }
                }
            }
            assert!(messages.messages.iter().eq(expected));
        }
    }
}
