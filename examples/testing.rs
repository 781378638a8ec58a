//! Unit tests of handlers, without a network.
//!
//! Run the tests: `cargo test -p balafon-examples --example testing`
//!
//! Unary handlers are called like any function. `balafon::testing` has the other side of streams.

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
        if request.message.value > 1000 {
            return Err(Status::out_of_range("the highest number is 1000"));
        }
        for value in (1..=request.message.value).rev() {
            out.send(Number { value }).await?;
        }
        Ok(())
    }

    async fn sum(&self, request: Request<Streaming<Number>>) -> Result<Response<Number>, Status> {
        let (mut numbers, _call) = request.into_parts();
        let mut sum: i64 = 0;
        while let Some(number) = numbers.message().await? {
            sum = sum.saturating_add(number.value);
        }
        Ok(Response::new(Number { value: sum }))
    }

    async fn running_sum(
        &self,
        request: Request<Streaming<Number>>,
        mut out: Sink<Number>,
    ) -> Result<(), Status> {
        let (mut numbers, _call) = request.into_parts();
        let mut sum: i64 = 0;
        while let Some(number) = numbers.message().await? {
            sum = sum.saturating_add(number.value);
            out.send(Number { value: sum }).await?;
        }
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:50051".to_owned());
    println!("listening on {address}");
    Server::new().run(address, Router::new().add(Calculator.into_service()))
}

#[cfg(test)]
mod tests {
    use balafon::Code;
    use balafon::testing::{Recorder, requests};

    use super::*;

    fn number(value: i64) -> Number {
        Number { value }
    }

    /// A handler of a stream of requests gets all of them at once.
    #[tokio::test]
    async fn sum_adds_all_numbers() {
        let numbers = Streaming::from_messages([1, 2, 3].map(number));
        let response = Calculator.sum(Request::new(numbers)).await.unwrap();
        assert_eq!(response.message, number(6));
    }

    /// A recorder has the messages that a handler sends.
    #[tokio::test]
    async fn count_down_ends_with_1() {
        let recorder = Recorder::new();
        recorder.record(|out| Calculator.count_down(Request::new(number(3)), out)).await;
        assert_eq!(recorder.values(), [3, 2, 1].map(number));
        assert!(recorder.is_completed());
    }

    #[tokio::test]
    async fn count_down_refuses_large_numbers() {
        let recorder = Recorder::<Number>::new();
        recorder.record(|out| Calculator.count_down(Request::new(number(1001)), out)).await;
        assert_eq!(recorder.error().unwrap().code(), Code::OutOfRange);
        assert!(recorder.values().is_empty());
    }

    /// The test sends each request after the answer to the one before.
    #[tokio::test]
    async fn running_sum_answers_each_number() {
        let recorder = Recorder::new();
        let (client, numbers) = requests();
        let call = recorder.record(|out| Calculator.running_sum(Request::new(numbers), out));
        let test = async {
            client.send(&number(1));
            while recorder.values() != [number(1)] {
                tokio::task::yield_now().await;
            }
            client.send(&number(2));
            client.half_close();
        };
        tokio::join!(call, test);
        assert_eq!(recorder.values(), [1, 3].map(number));
    }
}
