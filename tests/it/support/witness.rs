use balafon::{Call, Code, Interceptor, Next, Outcome};
use tokio::sync::mpsc;

use super::patiently;

/// An interceptor that records the outcomes of calls.
#[derive(Clone)]
pub struct Witness(mpsc::UnboundedSender<Outcome>);

/// The outcomes that a [`Witness`] has seen, in order.
pub struct Seen(mpsc::UnboundedReceiver<Outcome>);

impl Witness {
    pub fn new() -> (Self, Seen) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Seen(receiver))
    }
}

impl Interceptor for Witness {
    async fn intercept(&self, call: Call, next: Next<'_>) -> Outcome {
        let outcome = next.run(call).await;
        let _ = self.0.send(outcome.clone());
        outcome
    }
}

impl Seen {
    /// The code of the next call that ends.
    pub async fn code(&mut self) -> Code {
        let outcome = patiently(self.0.recv()).await.expect("the interceptor is there");
        outcome.status.code()
    }

    /// The code of a call that has ended, if it was not returned before.
    pub fn now(&mut self) -> Option<Code> {
        self.0.try_recv().ok().map(|outcome| outcome.status.code())
    }
}
