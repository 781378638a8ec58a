use std::fs;

use compare::echo::Payload;
use compare::users::COUNT;
use prost::Message;
use user_server::pb::{CreateUserRequest, GetUserRequest, UserUpdate};

use crate::Failure;
use crate::options::Options;

/// Messages of a call that streams.
const STREAM: usize = 1000;
/// Messages of a call that sends each when the one before is answered.
const PINGS: usize = 100;

/// What the calls send and what has to come back.
pub struct Script {
    pub path: String,
    pub authority: String,
    pub https: bool,
    pub authorization: Option<String>,
    /// The bodies that calls have in turn, with gRPC's framing.
    pub bodies: Vec<Vec<u8>>,
    /// How much of a body may go out before there is an answer, and again after each answer.
    pub step: usize,
    /// How many messages answer a call.
    pub answers: usize,
}

impl Script {
    pub fn new(options: &Options, ids: &str) -> Result<Self, Failure> {
        let ids: Vec<&str> = ids.split_whitespace().collect();
        let one = |message: Vec<u8>| vec![message];
        let get = |id: &&str| one(GetUserRequest { user_id: (*id).to_owned() }.encode_to_vec());
        let update = |id: &str, n: usize| {
            let name = format!("User Renamed {n:04}");
            UserUpdate { user_id: id.to_owned(), name, email: String::new() }.encode_to_vec()
        };
        let updates = |count| -> Vec<_> {
            ids.iter().cycle().take(count).enumerate().map(|(n, id)| update(id, n)).collect()
        };
        let create = |n| {
            let (name, email) = (format!("New User {n}"), format!("new{n}@example.com"));
            CreateUserRequest { name, email }.encode_to_vec()
        };
        let (method, calls, answers): (_, Vec<Vec<Vec<u8>>>, _) = match &*options.method {
            "get" => ("GetUser", ids.iter().map(get).collect(), 1),
            "all" => ("GetAllUsers", vec![one(Vec::new())], COUNT),
            "create" => ("CreateUsers", vec![(0..STREAM).map(create).collect()], 1),
            "ping" => ("UpdateUsers", vec![updates(PINGS)], PINGS),
            "flow" => ("UpdateUsers", vec![updates(STREAM)], STREAM),
            "echo" => {
                let data = vec![b'x'; options.payload].into();
                ("Echo", vec![one(Payload { data }.encode_to_vec())], 1)
            }
            other => return Err(format!("--method {other}?").into()),
        };
        let bodies: Vec<_> = calls.iter().map(|messages| framed(messages)).collect();
        let body = bodies.first().ok_or("there are no ids on the standard input")?.len();
        let service = match method {
            "Echo" => "compare.Echo",
            _ => "ru.tinkoff.kora.example.UserService",
        };
        Ok(Self {
            path: format!("/{service}/{method}"),
            authority: options.address.ok_or("--address is missing")?.to_string(),
            https: options.tls.is_some(),
            authorization: options.authorization.as_ref().map(fs::read_to_string).transpose()?,
            // The messages of `updates` are equally long.
            step: if options.method == "ping" { body / PINGS } else { body },
            bodies,
            answers,
        })
    }
}

/// Each message behind its five bytes: not compressed, and how long.
fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for message in messages {
        body.push(0);
        body.extend(u32::try_from(message.len()).expect("it is short").to_be_bytes());
        body.extend(message);
    }
    body
}
