//! The metrics of the store in PostgreSQL.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use user_server::store::UserStore;

use super::{InDatabase, MOMENT, Place, alice, slow};
use crate::support::patiently;

/// The values that a registry would gather now; for histograms, the count.
fn gathered(collectors: &[Box<dyn Collector>]) -> HashMap<String, f64> {
    let families = collectors.iter().flat_map(|collector| collector.collect());
    let value = |family: &MetricFamily| match &family.get_metric()[0] {
        metric if metric.get_histogram().get_sample_count() > 0 => {
            metric.get_histogram().get_sample_count() as f64
        }
        metric => metric.get_gauge().get_value(),
    };
    families.map(|family| (family.name().to_owned(), value(&family))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_queue_commits_and_breaker_are_metrics() {
    let Some(mut place) = InDatabase::alone().await else { return };
    place.options.connections = 2;
    let store = Arc::new(place.open().await);
    let collectors = store.collectors();
    let is = |name: &str| gathered(&collectors)[&format!("user_store_{name}")];
    let id = store.create(alice()).await.unwrap().id;
    store.create_all(vec![alice(); 3]).await.unwrap();
    assert_eq!([is("commit_seconds"), is("commit_users")], [2.0, 2.0]);
    let names = ["connections", "connections_in_use", "connections_waiting", "queue"];
    assert_eq!(names.map(is), [2.0, 0.0, 0.0, 0.0]);

    place.run_sql(&slow("INSERT OR UPDATE"));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let store = store.clone();
        let change = user_server::domain::UserChange::parse("Bob", "").unwrap();
        calls.spawn(async move { store.update(id, change).await.map(drop) });
    }
    for _ in 0..4 {
        let store = store.clone();
        calls.spawn(async move { store.create(alice()).await.map(drop) });
    }
    let full = async {
        // The first creation is being committed, perhaps together with some of the others.
        while names[..3].iter().map(|name| is(name)).ne([2.0, 2.0, 3.0])
            || place.active("INSERT") == 0
        {
            tokio::time::sleep(MOMENT).await;
        }
    };
    patiently(full).await;
    let queued = is("queue");
    let another = store.clone();
    calls.spawn(async move { another.create(alice()).await.map(drop) });
    patiently(async {
        while is("queue") <= queued {
            tokio::time::sleep(MOMENT).await;
        }
    })
    .await;
    calls.shutdown().await;

    assert_eq!([is("breaker_open"), is("read_only")], [0.0, 0.0]);
    let mut available = store.availability();
    place.server.stop();
    patiently(available.wait_for(|available| !available)).await.unwrap();
    assert_eq!([is("breaker_open"), is("read_only")], [1.0, 0.0]);
}
