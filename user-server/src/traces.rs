//! Traces and their export, from the settings of the section `[telemetry]`.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::config::{Config, Kind, Layers, OtlpHeader};
use crate::start_error::StartError;
use crate::tls::trust_or_system;
use balafon::interceptors::traces::{Endpoint, Exporter, Header, Resource, Traces};

/// The time for the export of the last spans at the end of a drain. A collector that answers takes
/// milliseconds. Shutdown does not wait longer for one that does not.
const FLUSH: Duration = Duration::from_secs(5);

/// The same if calls have used up the drain: the spans of exactly those calls are of interest.
const FLUSH_AT_LEAST: Duration = Duration::from_secs(1);

/// The export of spans, if there is a collector. It ends within the drain.
pub(super) struct Export {
    exporter: Option<Exporter>,
    drain_timeout: Duration,
    drain_began: Arc<OnceLock<Instant>>,
}

/// The interceptor, which is registered before all others but that of trusted proxies, and its exporter.
pub(super) fn start(config: &Config, layers: &Layers) -> Result<(Traces, Export), StartError> {
    let mut traces = Traces::new().sample_ratio(config.telemetry.sample_ratio);
    let mut exporter = None;
    if let Some(endpoint) = endpoint(config, layers)? {
        let mut resource = Resource::new(&config.telemetry.service_name)
            .attribute("service.version", env!("CARGO_PKG_VERSION"));
        for (name, value) in &config.telemetry.resource_attributes {
            resource = resource.attribute(name, value);
        }
        tracing::info!(%endpoint, "exporting traces");
        let started = Exporter::start(endpoint, resource)
            .map_err(|error| StartError::caused_by("cannot start the export of traces", error))?;
        traces = traces.export_to(&started);
        exporter = Some(started);
    }
    let drain_timeout = config.shutdown.drain_timeout;
    Ok((traces, Export { exporter, drain_timeout, drain_began: Arc::default() }))
}

/// The collector, if there is one.
pub(super) fn endpoint(config: &Config, layers: &Layers) -> Result<Option<Endpoint>, StartError> {
    let Some(mut endpoint) = config.telemetry.otlp_endpoint.clone() else { return Ok(None) };
    if endpoint.is_tls() {
        endpoint = endpoint.trust(trust_or_system(
            ("telemetry.otlp-ca", config.telemetry.otlp_ca.as_deref()),
            "telemetry.otlp-endpoint",
            layers,
        )?);
    }
    let of_file = headers(config, layers)?;
    for header in config.telemetry.otlp_header.iter().cloned().chain(of_file) {
        endpoint = endpoint.header(header);
    }
    Ok(Some(endpoint.timeout(config.telemetry.otlp_timeout)))
}

/// The headers of the file, if there is one. Errors do not contain its text, which may be secret.
fn headers(config: &Config, layers: &Layers) -> Result<Vec<Header>, StartError> {
    let Some(path) = &config.telemetry.otlp_headers else { return Ok(Vec::new()) };
    let name = layers.name_at_origin("telemetry.otlp-headers");
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        StartError::caused_by(format_args!("{name}: cannot read {file}"), error)
    })?;
    let mut headers = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(header) = OtlpHeader::parse(line) else {
            let wanted = OtlpHeader::wanted();
            return Err(StartError::new(format!("{name}: {file}: line {number}: wanted {wanted}")));
        };
        headers.push(header);
    }
    Ok(headers)
}

impl Export {
    /// Passes the signal on, and notes its time as the start of the drain.
    pub(super) fn watch<F: Future<Output = ()>>(
        &self,
        signal: F,
    ) -> impl Future<Output = ()> + use<F> {
        let began = self.drain_began.clone();
        async move {
            signal.await;
            // The signal comes only once.
            let _ = began.set(Instant::now());
        }
    }

    /// Exports the remaining spans after the last call, within the rest of the drain.
    pub(super) async fn finish(self) {
        let Some(exporter) = self.exporter else { return };
        let elapsed = self.drain_began.get().map(Instant::elapsed).unwrap_or_default();
        let left = self.drain_timeout.saturating_sub(elapsed).clamp(FLUSH_AT_LEAST, FLUSH);
        if !exporter.shut_down(left).await {
            tracing::warn!("the last spans were not exported in time and are lost");
        }
    }
}
