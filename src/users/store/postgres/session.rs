//! A connection for one piece of work.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::tls::Tls;
use super::{StoreError, error};

/// How long a cancellation may take: the server has other ways to find out, `statement_timeout`.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection of the pool. If it is dropped before it is [released](Self::release), what it was
/// asked is cancelled, and it is not used again: an answer may still come.
pub(super) struct Session<'a> {
    /// `None` once it is released.
    client: Option<Object>,
    tls: &'a Tls,
}

impl<'a> Session<'a> {
    /// Waits for a connection to be free, or makes one.
    pub(super) async fn open(pool: &Pool, tls: &'a Tls) -> Result<Self, StoreError> {
        let client = pool.get().await.map_err(error::of_pool)?;
        Ok(Self { client: Some(client), tls })
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
        let (client, tls) = (Object::take(client), self.tls.clone());
        let cancel = client.cancel_token();
        drop(client);
        // Without a runtime the process is about to end, and its connections with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                match timeout(CANCEL_TIMEOUT, cancel.cancel_query(tls)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "cannot cancel a statement"),
                    Err(_) => tracing::debug!("a cancellation is not taken"),
                }
            });
        }
    }
}
