//! A connection for one piece of work.

use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, Pool};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::tls::Tls;
use super::{StoreError, error};

/// How long a cancellation may take: the server has other ways to find out, `statement_timeout`.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a statement that only reads may go on when its call is over: a page takes a few
/// milliseconds, a new connection as long and more of the database.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection of the pool. If it is dropped before it is [released](Self::release), its statement is
/// cancelled, and it is not used again: an answer may still come. A statement that only reads gets a
/// moment to end, and the connection goes back to the pool.
pub(super) struct Session<'a> {
    /// `None` once it is released.
    client: Option<Object>,
    tls: &'a Tls,
    only_reads: bool,
}

impl<'a> Session<'a> {
    /// Waits for a connection to be free, or makes one.
    pub(super) async fn open(pool: &Pool, tls: &'a Tls) -> Result<Self, StoreError> {
        let client = pool.get().await.map_err(error::of_pool)?;
        Ok(Self { client: Some(client), tls, only_reads: false })
    }

    /// Each of its statements is one that only reads.
    pub(super) fn only_reads(mut self) -> Self {
        self.only_reads = true;
        self
    }

    pub(super) fn client(&mut self) -> &mut Object {
        self.client.as_mut().expect("nobody has it after its release")
    }

    /// All is answered. The pool throws away those that are closed.
    pub(super) fn release(mut self) {
        drop(self.client.take());
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let (tls, only_reads) = (self.tls.clone(), self.only_reads);
        // Without a runtime the process is about to end, and its connections with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if !only_reads || !answers(&client).await {
                    cancel(Object::take(client), tls).await;
                }
            });
        }
    }
}

/// Whether a connection has answered all that it was asked, in time.
async fn answers(client: &Object) -> bool {
    matches!(timeout(READ_TIMEOUT, client.simple_query("")).await, Ok(Ok(_)))
}

/// Closes a connection, and cancels its statement.
async fn cancel(client: ClientWrapper, tls: Tls) {
    let cancel = client.cancel_token();
    drop(client);
    match timeout(CANCEL_TIMEOUT, cancel.cancel_query(tls)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "cannot cancel a statement"),
        Err(_) => tracing::debug!("a cancellation is not taken"),
    }
}
