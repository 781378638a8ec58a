//! A connection for one statement.

use deadpool_postgres::Object;
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::tls::Tls;

/// A connection of the pool that is asked once. If the question is dropped, it is cancelled, and the
/// connection is not used again: an answer may still come.
pub(super) struct Session<'a> {
    /// `None` once it is answered.
    client: Option<Object>,
    tls: &'a Tls,
}

impl<'a> Session<'a> {
    pub(super) fn new(client: Object, tls: &'a Tls) -> Self {
        Self { client: Some(client), tls }
    }

    pub(super) async fn query(
        mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let Some(client) = &self.client else { return Ok(Vec::new()) };
        let answer = match client.prepare_cached(sql).await {
            Ok(statement) => client.query(&statement, values).await,
            Err(error) => Err(error),
        };
        // To the pool, which throws away those that are closed.
        drop(self.client.take());
        answer
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
                if let Err(error) = cancel.cancel_query(tls).await {
                    tracing::debug!(%error, "cannot cancel a statement");
                }
            });
        }
    }
}
