//! The environment variables that OpenTelemetry specifies. They apply where a setting of this program is
//! unset. An unusable one is only a warning, because it may be meant for another program.

use super::layers::{Layers, Origin};

/// Variables with one value, each with its setting. The first that is set applies: a variable for traces
/// before the one for all signals.
const SIMPLE: [(&str, &str); 5] = [
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "telemetry.otlp-endpoint"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp-endpoint"),
    ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "telemetry.otlp-ca"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "telemetry.otlp-ca"),
    ("OTEL_SERVICE_NAME", "telemetry.service-name"),
];

const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// The path of traces at a collector.
const PATH: &str = "/v1/traces";

pub(super) fn add(layers: &mut Layers, variables: &[(String, String)]) {
    // By the specification an empty value counts as unset.
    let value = |name: &str| {
        let found = variables.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    };
    let first = |names: &[&'static str]| names.iter().find_map(|&name| Some((name, value(name)?)));
    if value("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
        || value("OTEL_TRACES_EXPORTER") == Some("none")
    {
        return;
    }
    if let Some((name, protocol)) = first(&PROTOCOLS)
        && protocol != "http/protobuf"
    {
        if first(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]).is_some() {
            let why = "only http/protobuf is supported, so OTEL_EXPORTER_OTLP_* is ignored";
            layers.add_warnings(vec![format!("{name} is {protocol:?}: {why}")]);
        }
    } else {
        // In reverse, so that the first overrides the others.
        for (name, key) in SIMPLE.into_iter().rev() {
            let Some(text) = value(name) else { continue };
            match (name, text.strip_suffix(PATH)) {
                // This variable includes the path. The setting does not.
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Some(base)) => {
                    set(layers, key, vec![base.to_owned()], name);
                }
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", None) => {
                    let problem = format!("{name} is ignored: wanted a URL that ends with {PATH}");
                    layers.add_warnings(vec![problem]);
                }
                _ => set(layers, key, vec![text.to_owned()], name),
            }
        }
        if let Some((name, text)) = first(&TIMEOUTS) {
            // In milliseconds.
            set(layers, "telemetry.otlp-timeout", vec![format!("{text}ms")], name);
        }
        if let Some((name, text)) = first(&HEADERS) {
            set(layers, "telemetry.otlp-header", pairs(text), name);
        }
    }
    if let Some(text) = value(ATTRIBUTES) {
        let mut attributes = pairs(text);
        let names = attributes.extract_if(.., |pair| pair.starts_with("service.name="));
        let name = names.last().map(|pair| pair["service.name=".len()..].to_owned());
        if let Some(name) = name.filter(|_| value("OTEL_SERVICE_NAME").is_none()) {
            set(layers, "telemetry.service-name", vec![name], ATTRIBUTES);
        }
        if !attributes.is_empty() {
            set(layers, "telemetry.resource-attribute", attributes, ATTRIBUTES);
        }
    }
}

fn set(layers: &mut Layers, key: &str, texts: Vec<String>, name: &'static str) {
    if let Err(problem) = layers.set_if_accepted(key, texts, Origin::Standard(name)) {
        layers.add_warnings(vec![format!("{problem}; the variable is ignored")]);
    }
}

/// Parses `key1=value1,key2=value2`, as in W3C Baggage: names and values are trimmed, and values are
/// percent-encoded.
fn pairs(text: &str) -> Vec<String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => format!("{}={}", name.trim(), decoded(value.trim())),
            None => pair.to_owned(),
        })
        .collect()
}

/// Decodes percent-encoding. Invalid sequences stay as they are.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn otel_pairs_are_trimmed_and_decoded() {
        let text = " authorization = Bearer%20a%3Db , x-team=b%2Cc,,odd%=%zz%4";
        let wanted = ["authorization=Bearer a=b", "x-team=b,c", "odd%=%zz%4"];
        assert_eq!(pairs(text), wanted);
        assert_eq!(pairs("alone"), ["alone"]);
        assert_eq!(decoded("%ff"), "%ff");
    }
}
