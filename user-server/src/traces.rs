//! Traces, as they are configured.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

use super::StartError;
use super::config::{Config, Kind, Layers, OtlpHeader};
use super::tls::trust_or_system;
use balafon::interceptors::traces::{Endpoint, Exporter, Resource, Traces};

/// What the last spans have at the end of a drain: a collector that answers takes milliseconds, and
/// for one that does not nobody should wait.
const FLUSH: Duration = Duration::from_secs(5);

/// The same where calls have taken all of the drain: spans of just these are of interest.
const FLUSH_AT_LEAST: Duration = Duration::from_secs(1);

/// The export of spans, if there is a collector, to be ended within the drain.
pub(super) struct Export {
    exporter: Option<Exporter>,
    drain_timeout: Duration,
    drain_began: Arc<OnceLock<Instant>>,
}

/// The interceptor, to be registered before all others, and what it exports to.
pub(super) fn start(config: &Config, layers: &Layers) -> Result<(Traces, Export), StartError> {
    let mut traces = Traces::new().sample_ratio(config.sample_ratio);
    let mut exporter = None;
    if let Some(endpoint) = endpoint(config, layers)? {
        let resource = Resource::new(&config.service_name)
            .attribute("service.version", env!("CARGO_PKG_VERSION"));
        let attributes = config.resource_attributes.iter();
        let resource = attributes.fold(resource, |it, (name, value)| it.attribute(name, value));
        tracing::info!(%endpoint, "exporting traces");
        let started = Exporter::start(endpoint, resource)
            .map_err(|error| StartError(format!("cannot start to export traces: {error}")))?;
        traces = traces.export_to(&started);
        exporter = Some(started);
    }
    let drain_timeout = config.drain_timeout;
    Ok((traces, Export { exporter, drain_timeout, drain_began: Arc::default() }))
}

/// The collector, if there is one.
pub(super) fn endpoint(config: &Config, layers: &Layers) -> Result<Option<Endpoint>, StartError> {
    let Some(mut endpoint) = config.otlp_endpoint.clone() else { return Ok(None) };
    if endpoint.is_tls() {
        endpoint = endpoint.trust(trust_or_system(
            ("telemetry.otlp-ca", config.otlp_ca.as_deref()),
            "telemetry.otlp-endpoint",
            layers,
        )?);
    }
    let of_file = headers(config, layers)?;
    let headers = config.otlp_header.iter().cloned().chain(of_file);
    endpoint = headers.fold(endpoint, |endpoint, (name, value)| endpoint.header(name, value));
    Ok(Some(endpoint.timeout(config.otlp_timeout)))
}

/// The headers of the file, if there is one. What is in it stays out of errors.
fn headers(config: &Config, layers: &Layers) -> Result<Vec<(HeaderName, HeaderValue)>, StartError> {
    let Some(path) = &config.otlp_headers else { return Ok(Vec::new()) };
    let (place, file) = (layers.place("telemetry.otlp-headers"), path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| StartError(format!("{place}: cannot read {file}: {error}")))?;
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let header = |(number, line)| {
        OtlpHeader::parse(line).ok_or_else(|| {
            let wanted = OtlpHeader::wanted();
            StartError(format!("{place}: {file}: line {number}: wanted {wanted}"))
        })
    };
    lines.map(header).collect()
}

impl Export {
    /// The same signal, whose time counts as that at which the drain begins.
    pub(super) fn watch<F: Future<Output = ()>>(
        &self,
        signal: F,
    ) -> impl Future<Output = ()> + use<F> {
        let began = self.drain_began.clone();
        async move {
            signal.await;
            // It comes once.
            let _ = began.set(Instant::now());
        }
    }

    /// Exports what there is when the calls are over, in what is left of the drain.
    pub(super) async fn finish(self) {
        let Some(exporter) = self.exporter else { return };
        let gone = self.drain_began.get().map(Instant::elapsed).unwrap_or_default();
        let left = self.drain_timeout.saturating_sub(gone).clamp(FLUSH_AT_LEAST, FLUSH);
        if !exporter.shut_down(left).await {
            tracing::warn!("the last spans could not be exported in time");
        }
    }
}
