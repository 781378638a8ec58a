use crate::config::kind::{Choice, Kind, Optional, Time};
use crate::config::setting::{KindOf, Section, Setting, settings};
use crate::config::values::{HostPort, LogFormat, LogLevel};

settings! {
    struct ShutdownSettings in "shutdown", "Shutdown";

    lame_duck: Time = "shutdown.lame-duck" {
        flag: "lame-duck",
        value: "TIME",
        default: Some("0s"),
        help: "How long the server keeps serving after the shutdown signal. Health is NOT_SERVING \
            during that time, so that load balancers stop sending calls. The drain follows",
    }
    drain_timeout: Time = "shutdown.drain-timeout" {
        flag: "drain-timeout",
        value: "TIME",
        default: Some("30s"),
        help: "How long open calls may take to finish in the drain. Calls that are still open then \
            are ended with UNAVAILABLE",
    }
}

settings! {
    struct AdminSettings in "admin", "Admin endpoint";

    listen: Optional<HostPort> = "admin.listen" {
        flag: "admin-listen",
        value: "HOST:PORT",
        example: "127.0.0.1:9091",
        help: "The address of the admin endpoint (HTTP): /metrics for Prometheus, /healthz, /readyz \
            and /version. It has no authentication, so do not expose it to the public. If it is unset, \
            there is no admin endpoint",
    }
}

settings! {
    struct LogSettings in "log", "Log";

    format: Choice<LogFormat> = "log.format" {
        flag: "log-format",
        value: "FORMAT",
        default: Some("pretty"),
        help: "The format of log lines: pretty for people, or json for one JSON object per line. The \
            log goes to the standard error output",
    }
    level: LogLevel = "log.level" {
        flag: "log-level",
        value: "LEVEL",
        default: Some("info"),
        help: "The lowest level that is logged: off, error, warn, info, debug or trace. A target can \
            have a level of its own: info,balafon::access=warn omits the line of each successful call",
    }
}
