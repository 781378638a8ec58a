//! Makes families of the Prometheus library from values that are counted elsewhere.

use std::collections::HashMap;

use prometheus::core::Desc;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// For a registry, which checks that names are unique.
pub(super) fn descriptors(help: &[(&str, &str)]) -> Vec<Desc> {
    let descriptor = |&(name, help): &(&str, &str)| {
        Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new())
            .expect("the names are valid ones")
    };
    help.iter().map(descriptor).collect()
}

pub(super) fn family(
    (name, help): (&str, &str),
    of_type: MetricType,
    metrics: Vec<Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(of_type);
    family.set_metric(metrics);
    family
}

pub(super) fn label(name: &str, value: impl Into<String>) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.into());
    label
}

pub(super) fn counter(labels: &[LabelPair], value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(labels.to_vec());
    metric.set_counter(counter);
    metric
}

pub(super) fn gauge(labels: &[LabelPair], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels.to_vec());
    metric.set_gauge(gauge);
    metric
}

/// `counts` has one count for each bucket, and last the count above all bounds.
pub(super) fn histogram(labels: &[LabelPair], bounds: &[f64], counts: &[u64], sum: f64) -> Metric {
    let mut so_far = 0;
    let buckets = bounds.iter().zip(counts).map(|(bound, count)| {
        so_far += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(so_far);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum);
    let mut metric = Metric::from_label(labels.to_vec());
    metric.set_histogram(histogram);
    metric
}
