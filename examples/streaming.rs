//! Server, client and bidirectional streaming.
//!
//! Run it: `cargo run --example streaming`
//! Call it:
//!
//! ```text
//! grpcurl -plaintext -d '{"value": 3}' localhost:50051 numbers.Numbers/CountDown
//! grpcurl -plaintext -d '{"value": 3} {"value": 4}' localhost:50051 numbers.Numbers/Sum
//! grpcurl -plaintext -d '{"value": 3} {"value": 4}' localhost:50051 numbers.Numbers/RunningSum
//! ```

use balafon::services::reflection;
use balafon::{Request, Response, Router, Server, Sink, Status, Streaming};

use pb::{Number, Numbers};

mod pb {
    balafon::include_proto!("numbers");
}

struct Calculator;

impl Numbers for Calculator {
    async fn count_down(
        &self,
        request: Request<Number>,
        mut out: Sink<Number>,
    ) -> Result<(), Status> {
        for value in (1..=request.message.value).rev() {
            // Waits while the client's flow-control window is full.
            out.send(Number { value }).await?;
        }
        Ok(())
    }

    async fn sum(&self, request: Request<Streaming<Number>>) -> Result<Response<Number>, Status> {
        let (mut numbers, _call) = request.into_parts();
        let mut sum = 0;
        // `None` is the half-close. A cancelled call is an error here, never an early `None`.
        while let Some(number) = numbers.message().await? {
            sum = add(sum, number.value)?;
        }
        Ok(Response::new(Number { value: sum }))
    }

    async fn running_sum(
        &self,
        request: Request<Streaming<Number>>,
        mut out: Sink<Number>,
    ) -> Result<(), Status> {
        let (mut numbers, _call) = request.into_parts();
        let mut sum = 0;
        while let Some(number) = numbers.message().await? {
            sum = add(sum, number.value)?;
            out.send(Number { value: sum }).await?;
        }
        Ok(())
    }
}

fn add(sum: i64, value: i64) -> Result<i64, Status> {
    sum.checked_add(value).ok_or_else(|| Status::out_of_range("the sum exceeds 64 bits"))
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:50051".to_owned());
    println!("listening on {address}");
    let router = Router::new().add(Calculator.into_service());
    Server::new().run(address, reflection::reflect(router))
}
