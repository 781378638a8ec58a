//! Creators that use streams, and the answers that they got.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use prost::Message;
use tonic::{Code, Request, Status};
use user_server::pb::{CreateUserRequest, UserResponse, user_service};

use crate::server::Client;

/// Users of a stream: several chunks of 256.
const USERS: usize = 600;

/// Creates users by one stream after the other, each with names of its own.
pub(crate) struct Batcher {
    number: usize,
    mode: &'static str,
    /// Whether its streams have keys: then failed streams are repeated.
    keyed: bool,
    /// The next stream.
    next: usize,
    /// Streams that are not verified yet, with the most users that each may have.
    claims: Vec<(usize, RangeInclusive<usize>)>,
    /// The ids of acknowledged users, by name.
    pub(crate) acknowledged: Vec<(String, String)>,
    /// Failed streams with a stated number of stored users.
    pub(crate) told: usize,
    /// Repeated streams.
    pub(crate) repeated: usize,
}

impl Batcher {
    /// In both modes, with and without keys.
    pub(crate) fn all() -> Vec<Self> {
        let modes = [("chunked", false), ("chunked", true), ("atomic", false), ("atomic", true)];
        let new = |(number, (mode, keyed))| Self {
            number,
            mode,
            keyed,
            next: 0,
            claims: Vec::new(),
            acknowledged: Vec::new(),
            told: 0,
            repeated: 0,
        };
        modes.into_iter().cycle().take(2 * modes.len()).enumerate().map(new).collect()
    }

    /// Runs until the server has ended.
    pub(crate) async fn run(&mut self, mut client: Client) {
        while self.create(&mut client).await {}
    }

    fn name(&self, stream: usize, user: usize) -> String {
        format!("batcher {} stream {stream} user {user}", self.number)
    }

    /// Whether the stream was acknowledged.
    async fn create(&mut self, client: &mut Client) -> bool {
        let names: Vec<_> = (0..USERS).map(|user| self.name(self.next, user)).collect();
        let user = |name: &String| CreateUserRequest {
            name: name.clone(),
            email: "batch@example.com".to_owned(),
        };
        let users: Vec<_> = names.iter().map(user).collect();
        let mut request = Request::new(tokio_stream::iter(users));
        request.metadata_mut().insert("users-batch", self.mode.parse().unwrap());
        if self.keyed {
            let key = format!("batch-{}-{}", self.number, self.next).parse().unwrap();
            request.metadata_mut().insert("idempotency-key", key);
        }
        let answer = client.stream(&user_service::CREATE_USERS, request).await;
        match &answer {
            Ok(answer) => {
                assert_eq!(answer.user_ids.len(), USERS);
                self.acknowledged.extend(names.into_iter().zip(answer.user_ids.clone()));
            }
            Err(status) => {
                let (claim, told) = self.claim(status);
                self.told += usize::from(told);
                if self.keyed {
                    self.repeated += 1;
                    return false;
                }
                self.claims.push((self.next, claim));
            }
        }
        self.next += 1;
        answer.is_ok()
    }

    /// The number of users of a failed stream that may be stored, and whether the server has stated
    /// it.
    fn claim(&self, status: &Status) -> (RangeInclusive<usize>, bool) {
        let details = balafon::google::rpc::Status::decode(status.details()).unwrap();
        let info = details.details.iter().find(|it| it.type_url.ends_with("google.rpc.ErrorInfo"));
        let Some(info) = info else {
            // The connection was lost: no number was stated.
            return (0..=USERS, false);
        };
        let info = balafon::google::rpc::ErrorInfo::decode(&*info.value).unwrap();
        let number = |key| info.metadata.get(key).map_or(0, |text| text.parse::<usize>().unwrap());
        let (created, unknown) = (number("created"), number("unknown"));
        if !self.keyed && created + unknown > 0 {
            assert_ne!(status.code(), Code::Unavailable, "it asks for users twice: {status:?}");
        }
        (created..=created + unknown, true)
    }

    /// Searches the users above `after` for the acknowledged and the stated ones.
    pub(crate) fn verify(&mut self, found: &HashMap<&str, &UserResponse>, after: Option<&str>) {
        let newest_first = self.acknowledged.iter().rev();
        for (name, id) in newest_first.take_while(|(_, id)| Some(id.as_str()) > after) {
            let user = found.get(name.as_str());
            let user = user.unwrap_or_else(|| panic!("{name} is lost: it had the id {id}"));
            assert_eq!(&user.id, id, "{name} was created twice");
        }
        for (stream, claim) in std::mem::take(&mut self.claims) {
            let is_there = |user: &usize| found.contains_key(&*self.name(stream, *user));
            let stored = (0..USERS).filter(is_there).count();
            assert!(
                (0..stored).all(|user| is_there(&user)),
                "users of stream {stream} are missing"
            );
            let whole = self.mode == "chunked" || stored == 0 || stored == USERS;
            assert!(whole, "a part of an atomic stream is stored: {stored}");
            let name = self.name(stream, 0);
            assert!(claim.contains(&stored), "{name}: {stored} are stored, not {claim:?}");
        }
    }
}
