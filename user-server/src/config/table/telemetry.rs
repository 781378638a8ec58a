use crate::config::kind::{File, Kind, Many, Optional, Period, Share, Text};
use crate::config::setting::{KindOf, Secret, Section, Setting, settings};
use crate::config::values::{Attribute, Collector, OtlpHeader};

settings! {
    struct TelemetrySettings in "telemetry", "Traces";

    otlp_endpoint: Optional<Collector> = "telemetry.otlp-endpoint" {
        flag: "otlp-endpoint",
        value: "URL",
        example: "https://localhost:4318",
        secret: Secret::Password,
        help: "The OpenTelemetry collector that receives a span for each call, by OTLP over HTTP \
            (http/protobuf). The server adds /v1/traces to the URL. The default port is 4318, also for \
            https. If it is unset, no spans are exported, but log lines still have trace ids. The variables \
            OTEL_EXPORTER_OTLP_*, OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES apply where a setting \
            of this section is unset",
    }
    otlp_header: Many<OtlpHeader> = "telemetry.otlp-header" {
        flag: "otlp-header",
        value: "NAME=VALUE",
        example: "x-team=users",
        secret: Secret::Header,
        help: "Headers that are sent with each request to the collector. Put secret values into the \
            file of telemetry.otlp-headers instead",
    }
    otlp_headers: Optional<File> = "telemetry.otlp-headers" {
        flag: "otlp-headers",
        value: "FILE",
        example: "/etc/user-server/collector-headers",
        help: "A file of headers that are sent with each request to the collector: one NAME=VALUE per \
            line. A line that begins with # is a comment",
    }
    otlp_timeout: Period = "telemetry.otlp-timeout" {
        flag: "otlp-timeout",
        value: "TIME",
        default: Some("10s"),
        help: "The timeout of each request to the collector",
    }
    otlp_ca: Optional<File> = "telemetry.otlp-ca" {
        flag: "otlp-ca",
        value: "FILE",
        example: "/etc/user-server/collector-ca.pem",
        help: "A PEM file with the certificate authorities for a collector with an https URL. If it is \
            unset, the trust store of the system is used",
    }
    sample_ratio: Share = "telemetry.sample-ratio" {
        flag: "otlp-sample-ratio",
        value: "RATIO",
        default: Some("1"),
        help: "The share of traces that is exported, from 0 to 1, for traces that start at this server. \
            For a trace that a client has started, the client decides",
    }
    service_name: Text = "telemetry.service-name" {
        flag: "otlp-service-name",
        value: "NAME",
        default: Some("user-server"),
        help: "The service.name of this server in traces",
    }
    resource_attributes: Many<Attribute> = "telemetry.resource-attribute" {
        flag: "otlp-resource-attribute",
        value: "NAME=VALUE",
        example: "deployment.environment.name=production",
        help: "Resource attributes of this server in traces",
    }
}
