//! pajamax: unary calls alone, on a thread for each connection.
//!
//! The newest `pajamax-build` generates for pajamax 0.3, so what it would generate stands here.

use std::error::Error;
use std::fmt::Debug;

use compare::args::Args;
use compare::echo::Payload;
use compare::users::{Fault, Users, message};
use pajamax::error::Error as Malformed;
use pajamax::status::{Code, Status};
use pajamax::{Config, PajamaxService, local_build_response};
use prost::Message;
use prost013::DecodeError;
use prost013::bytes::{Buf, BufMut};
use prost013::encoding::{DecodeContext, WireType};
use user_server::pb::{CreateUserRequest, GetUserRequest};

struct Service(Users);

impl PajamaxService for Service {
    fn route(&self, path: &[u8]) -> Option<usize> {
        match path {
            b"/ru.tinkoff.kora.example.UserService/GetUser" => Some(0),
            b"/ru.tinkoff.kora.example.UserService/CreateUser" => Some(1),
            b"/compare.Echo/Echo" => Some(2),
            _ => None,
        }
    }

    fn handle(&self, method: usize, request: &[u8], stream: u32) -> Result<(), Malformed> {
        match method {
            0 => {
                let user = self.0.get(&decode::<GetUserRequest>(request)?.user_id);
                let reply = user.map(|user| Reply(message(user.borrowed()))).map_err(status);
                local_build_response(stream, reply)
            }
            1 => {
                let CreateUserRequest { name, email } = decode(request)?;
                let user = self.0.create(&name, &email);
                let reply = user.map(|user| Reply(message(user.borrowed()))).map_err(status);
                local_build_response(stream, reply)
            }
            _ => local_build_response(stream, Ok(Reply(decode::<Payload>(request)?))),
        }
    }

    fn is_dispatch_mode(&self) -> bool {
        false
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Malformed> {
    M::decode(bytes).map_err(|_| Malformed::InvalidHttp2("a message is malformed"))
}

fn status(fault: Fault) -> Status {
    let (code, message) = match fault {
        Fault::InvalidArgument(message) => (Code::InvalidArgument, message),
        Fault::NotFound(message) => (Code::NotFound, message),
        Fault::Internal => (Code::Internal, "the user store failed".to_owned()),
    };
    Status { code, message }
}

/// A message of today's prost for the older one that pajamax encodes with.
#[derive(Debug, Default)]
struct Reply<M>(M);

impl<M: Message + Default + Debug> prost013::Message for Reply<M> {
    fn encode_raw(&self, out: &mut impl BufMut) {
        self.0.encode_raw(out);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        unreachable!("replies are only encoded")
    }

    fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut config = Config::new();
    if args.tuned {
        config = config.max_flush_requests(1000);
    }
    config.add_service(Service(Users::seeded())).serve(args.address)?;
    Ok(())
}
