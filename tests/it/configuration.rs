//! The sources of the program's settings, and the errors for wrong ones.

use std::fs;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::support::folder::Folder;
use crate::support::program::{Running, complaint, user_server};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config.sample.toml");

/// Runs the program to its end: standard output, standard error, exit code.
fn run(command: &mut Command) -> (String, String, i32) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// The output of `config`.
fn effective(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let environment = environment.iter().copied();
    let (out, err, code) = run(user_server().arg("config").args(arguments).envs(environment));
    assert_eq!((err.as_str(), code), ("", 0));
    out
}

/// The errors for this file, each line without the file's name.
fn wrong(content: &str) -> Vec<String> {
    let folder = Folder::new();
    let file = folder.write("server.toml", content);
    let (out, err, code) = run(user_server().args(["--config", &file]));
    assert_eq!((out.as_str(), code), ("", 2), "{err}");
    let prefix = format!("user-server: {file}:");
    err.lines().map(|line| line.strip_prefix(&prefix).unwrap_or(line).to_owned()).collect()
}

#[test]
fn flags_precede_variables_file_and_defaults() {
    let folder = Folder::new();
    let file = folder.write("server.toml", "workers = 2\n[limits]\nmax-batch = 2\nmax-streams = 2");
    let variables = [("USER_SERVER_WORKERS", "3"), ("USER_SERVER_MAX_BATCH", "3")];
    let all = effective(&["--config", &file, "--workers", "4"], &variables);
    let max_streams = format!("max-streams = 2  # {file}:4");
    for line in [
        "workers = 4  # --workers",
        "max-batch = 3  # USER_SERVER_MAX_BATCH",
        &max_streams,
        "max-connections = 10000  # default",
    ] {
        assert!(all.lines().any(|it| it == line), "{line} is not in\n{all}");
    }
}

#[test]
fn file_may_be_named_by_a_variable() {
    let folder = Folder::new();
    let file = folder.write("server.toml", "workers = 2");
    let all = effective(&[], &[("USER_SERVER_CONFIG", &file)]);
    assert!(all.contains("workers = 2"), "{all}");
}

#[test]
fn flags_may_stand_before_and_after_the_command() {
    let (out, _, _) = run(user_server().args(["--workers", "3", "config", "--max-batch", "7"]));
    assert!(out.contains("workers = 3") && out.contains("max-batch = 7"), "{out}");
}

#[test]
fn lists_can_be_written_in_each_source() {
    let listen = r#"listen = ["127.0.0.1:0", "unix:/tmp/x"]  # "#;
    let variable = [("USER_SERVER_LISTEN", "127.0.0.1:0, unix:/tmp/x")];
    assert!(effective(&[], &variable).starts_with(listen));
    let flags = ["--listen", "127.0.0.1:0", "--listen", "unix:/tmp/x"];
    assert!(effective(&flags, &[]).starts_with(listen));
    let folder = Folder::new();
    let file = folder.write("server.toml", r#"listen = ["127.0.0.1:0", "unix:/tmp/x"]"#);
    assert!(effective(&["--config", &file], &[]).starts_with(listen));
}

#[test]
fn printed_configuration_is_an_equivalent_file() {
    let folder = Folder::new();
    let odd = r#"a "quoted" \ name"#;
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect()
    };
    for flags in [&[][..], &["--tls-cert", odd, "--tls-key", "k", "--max-connection-age", "1h30m"]]
    {
        let printed = effective(flags, &[]);
        let file = folder.write("server.toml", &printed);
        assert_eq!(values(&effective(&["--config", &file], &[])), values(&printed));
    }
}

#[test]
fn passwords_are_never_shown() {
    let folder = Folder::new();
    let file = folder.write("server.toml", r#"store = "redis://me:hunter2@db:6379/0""#);
    for arguments in [&["--config", &file][..], &["check", "--config", &file]] {
        let (out, err, _) = run(user_server().args(arguments));
        let all = out + &err;
        assert!(all.contains("redis://me:(secret)@db:6379/0"), "{all}");
        assert!(!all.contains("hunter2"), "{all}");
    }
}

#[test]
fn sample_in_the_repository_is_the_printed_one() {
    let (sample, _, code) = run(user_server().args(["config", "--sample"]));
    assert_eq!(code, 0);
    let committed = fs::read_to_string(SAMPLE).unwrap();
    assert!(
        committed == sample,
        "write it anew: cargo run -p user-server -- config --sample > config.sample.toml"
    );
}

#[test]
fn sample_shows_the_defaults_and_is_accepted() {
    let defaults = effective(&[], &[]);
    assert_eq!(effective(&["--config", SAMPLE], &[]), defaults);

    let folder = Folder::new();
    let sample = fs::read_to_string(SAMPLE).unwrap();
    let lines = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
        _ => line,
    });
    let file = folder.write("server.toml", lines.collect::<Vec<_>>().join("\n"));
    let all = effective(&["--config", &file], &[]);
    for line in defaults.lines().filter(|line| line.ends_with("# default")) {
        let value = line.trim_end_matches("default");
        assert!(all.contains(value), "{line} is something else in the sample");
    }
}

#[test]
fn unknown_keys_come_with_a_suggestion() {
    let file = "drain_timeout = \"3s\"\nlog = \"info\"\n[tsl]\ncert = \"x\"\n[tls]\ncrt = \"x\"\n\
                [limits]\nfrobnicate = true\n[nothing]\n";
    assert_eq!(
        wrong(file),
        [
            "1: drain_timeout is not a setting: did you mean shutdown.drain-timeout?",
            "2: log is a section: wanted [log] with format, level",
            "4: tsl.cert is not a setting: did you mean tls.cert?",
            "6: tls.crt is not a setting: did you mean tls.cert?",
            "8: limits.frobnicate is not a setting: `user-server config --sample` lists all settings",
            "9: nothing is not a setting: `user-server config --sample` lists all settings",
        ]
    );
}

#[test]
fn values_of_the_wrong_type_name_the_accepted_ones() {
    let file = r#"
workers = "many"
store-connections = 0
reflection = "yes"
listen = []
[limits]
max-receive-message = 4194304
max-streams = 0
connection-buffer = "0B"
[connection]
max-idle = "forever"
keepalive-timeout = "0s"
[auth]
allow = ["admin"]
limit = ["scope:a=nothing"]
leeway = "2d"
[rate-limit]
rules = ["*=100"]
trusted-proxies = ["10/8"]
redis = "hunter2@localhost"
[shutdown]
lame-duck = 30
drain-timeout = ["1s"]
[log]
format = "xml"
level = "inof"
"#;
    let duration = "a duration with its unit (ms, s, m, h, d), such as 500ms, 30s or 1h30m";
    let size = "a size with its unit (B, KiB, MiB, GiB), such as 16KiB or 4MiB";
    let mut expected = vec![
        // Malformed values are found as the file is parsed; the other errors come after that.
        format!("23: shutdown.drain-timeout is a list: wanted {duration}"),
        r#"2: workers is "many": wanted a whole number from 1 to 1024, or auto"#.to_owned(),
        r#"3: store-connections is "0": wanted a whole number from 1 to 1024"#.to_owned(),
        r#"4: reflection is "yes": wanted true or false"#.to_owned(),
        "5: listen is an empty list".to_owned(),
        format!(r#"7: limits.max-receive-message is "4194304": wanted {size}, and not zero"#),
        r#"8: limits.max-streams is "0": wanted a whole number from 1"#.to_owned(),
        format!(r#"9: limits.connection-buffer is "0B": wanted {size}, and not zero"#),
    ];
    expected.extend([
        format!(
            r#"11: connection.max-idle is "forever": wanted {duration}, and not zero, or off"#
        ),
        format!(r#"12: connection.keepalive-timeout is "0s": wanted {duration}, and not zero"#),
        "14: auth.allow is \"admin\": wanted ROLE=METHODS or scope:SCOPE=METHODS, where METHODS is \
         package.Service/Method, package.Service/*, */Method or *"
            .to_owned(),
        "15: auth.limit is \"scope:a=nothing\": wanted ROLE=LIMIT or scope:SCOPE=LIMIT, where LIMIT \
         is masked-email or active-only"
            .to_owned(),
        format!(r#"16: auth.leeway is "2d": wanted {duration}, and at most 1d"#),
        "18: rate-limit.rules is \"*=100\": wanted METHODS=CALLS/TIME, \
         METHODS=COUNTmessages/TIME or METHODS=off, such as *=100/1m or \
         */CreateUsers=10000messages/1m, where METHODS is package.Service/Method, package.Service/*, */Method or *"
            .to_owned(),
        "19: rate-limit.trusted-proxies is \"10/8\": wanted an address, a network such as \
         10.0.0.0/8, or unix"
            .to_owned(),
        "20: rate-limit.redis is \"(secret)@localhost\": wanted \
         redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE], the same with rediss://, or \
         redis+unix:///PATH"
            .to_owned(),
        format!(r#"22: shutdown.lame-duck is "30": wanted {duration}"#),
        r#"25: log.format is "xml": wanted pretty or json"#.to_owned(),
        "26: log.level is \"inof\": wanted off, error, warn, info, debug or trace, also by target, \
         such as info,balafon::access=warn"
            .to_owned(),
    ]);
    assert_eq!(wrong(file), expected);
}

#[test]
fn settings_that_were_removed_are_unknown() {
    let file = "unix-mode = \"660\"\n[limits]\nchunk-size = 16\nchunk-delay = \"1s\"\n[rate-limit]\n\
                clients = 1\nredis-timeout = \"1s\"\n";
    let lines = wrong(file);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("is not a setting: ")), "{lines:?}");
}

#[test]
fn errors_name_the_flag_or_variable() {
    let wanted = "wanted a whole number from 1\n";
    assert_eq!(
        complaint(&["--max-batch", "-1"]),
        format!(r#"user-server: --max-batch is "-1": {wanted}"#)
    );
    let (_, err, code) = run(user_server().env("USER_SERVER_MAX_BATCH", ""));
    assert_eq!(err, format!(r#"user-server: USER_SERVER_MAX_BATCH is "": {wanted}"#));
    assert_eq!(code, 2);
}

#[test]
fn unreadable_file_is_one_clear_line() {
    assert_eq!(wrong("workers = 2\nx = = 3\n"), ["2: not TOML: extra `=`, expected nothing"]);
    assert_eq!(wrong("workers = 2\nworkers = 3\n"), ["2: not TOML: duplicate key"]);
    let line = complaint(&["--config", "/no/such.toml"]);
    let why = "cannot read the file: No such file or directory (os error 2)";
    assert_eq!(line, format!("user-server: /no/such.toml: {why}\n"));
}

#[test]
fn contradictions_name_both_settings() {
    for (file, problem) in [
        ("[tls]\nkey = 'k'", "2: tls.key needs tls.cert (--tls-cert), which is not set"),
        ("[tls]\ncert = 'c'", "2: tls.cert needs tls.key (--tls-key), which is not set"),
        ("tls.client-ca = 'c'", "1: tls.client-ca needs tls.cert (--tls-cert), which is not set"),
        (
            "[tls]\nclient-auth = 'optional'",
            "2: tls.client-auth is \"optional\": this needs tls.client-ca (--tls-client-ca), which \
             is not set",
        ),
        (
            "[connection]\nmax-age-grace = '3s'",
            "2: connection.max-age-grace needs connection.max-age (--max-connection-age), which is \
             off",
        ),
        (
            "[connection]\nkeepalive-time = 'off'\nkeepalive-timeout = '3s'",
            "3: connection.keepalive-timeout needs connection.keepalive-time (--keepalive-time), \
             which is off",
        ),
        (
            "[limits]\nserver-buffer = '8MiB'",
            "2: limits.server-buffer is 8MiB, less than limits.connection-buffer \
             (--connection-buffer-limit), which is 12MiB",
        ),
        (
            "[limits]\nmax-receive-message = '1GiB'",
            "2: limits.max-receive-message is 1GiB, more than limits.connection-buffer \
             (--connection-buffer-limit), which is 12MiB",
        ),
        ("listen = ['h:1', 'h:2', 'h:1']", "1: listen has h:1 twice"),
        (
            "rate-limit.redis = 'redis://localhost'",
            "1: rate-limit.redis needs rate-limit.rules (--rate-limit), which is not set",
        ),
        (
            "[rate-limit]\nrules = ['*=1/1s']\nredis = 'rediss://:hunter2@redis'",
            "3: rate-limit.redis is rediss: this needs rate-limit.redis-ca (--rate-limit-redis-ca), \
             its certificate authorities",
        ),
        (
            "telemetry.otlp-endpoint = 'http://localhost'\ntelemetry.otlp-ca = 'ca.pem'",
            "2: telemetry.otlp-ca is for https, which telemetry.otlp-endpoint (--otlp-endpoint) is \
             not",
        ),
        (
            "auth.certificates = 'c'",
            "1: auth.certificates needs tls.client-ca (--tls-client-ca), which is not set",
        ),
        (
            "auth.revoked = 'r'\nauth.api-keys = 'k'",
            "1: auth.revoked needs one of auth.jwks (--auth-jwks), auth.public-key \
             (--auth-public-key), auth.secret (--auth-secret); none of them is set",
        ),
        (
            "auth.allow = ['admin=*']",
            "1: auth.allow needs one of auth.jwks (--auth-jwks), auth.public-key \
             (--auth-public-key), auth.secret (--auth-secret), auth.api-keys (--auth-api-keys), \
             auth.certificates (--auth-certificates); none of them is set",
        ),
        (
            "auth.jwks = 'j'\nauth.allow = ['support=*']\nauth.limit = ['suport=active-only']",
            "3: auth.limit has suport, which auth.allow (--auth-allow) does not name: did you mean \
             support?",
        ),
        (
            "[tls]\ncert = 'c'\nkey = 'k'\nclient-ca = 'a'\nclient-auth = 'off'\n\
             [auth]\ncertificates = 'n'",
            "5: tls.client-auth is off: auth.certificates (--auth-certificates) needs optional or \
             required",
        ),
    ] {
        assert_eq!(wrong(file), [problem]);
    }
}

#[test]
fn unknown_methods_are_refused() {
    let file = "[rate-limit]\nrules = ['*/GetUsr=1/1s', '*=100/1m']\n[auth]\napi-keys = 'k'\n\
                allow = ['a=*/GetUser', 'b=UserService/*', 'c=*/Frobnicate']\n";
    let [rule, short, unknown] = &wrong(file)[..] else { panic!("{:?}", wrong(file)) };
    assert_eq!(
        rule,
        "2: rate-limit.rules has \"*/GetUsr=1/1s\": no method matches */GetUsr; did you mean */GetUser?"
    );
    assert_eq!(
        short,
        "5: auth.allow has \"b=UserService/*\": no method matches UserService/*; did you \
         mean ru.tinkoff.kora.example.UserService/*?"
    );
    let others = "5: auth.allow has \"c=*/Frobnicate\": no method matches */Frobnicate; the methods are \
                  grpc.health.v1.Health/Check, ";
    assert!(unknown.starts_with(others), "{unknown}");
    // The same at the start with flags.
    let line = complaint(&["--rate-limit", "*/CreateUsr=1/1s"]);
    let wanted = "user-server: --rate-limit has \"*/CreateUsr=1/1s\": no method matches \
                  */CreateUsr; did you mean */CreateUser?\n";
    assert_eq!(line, wanted);
    // Methods that are only disabled are no mistake.
    let off = [
        "config",
        "--reflection=false",
        "--rate-limit",
        "grpc.reflection.v1.ServerReflection/*=1/1s",
    ];
    assert_eq!(run(user_server().args(off)).2, 0);
}

#[test]
fn unreachable_rules_are_a_warning() {
    let rules = "*/GetUser=1/1s,*=5/1s,*/CreateUser=1/1s,grpc.health.v1.Health/*=1/1s";
    let (out, _, code) =
        run(user_server().args(["check", "--store=memory:", "--rate-limit", rules]));
    let warnings: Vec<_> = out.lines().filter(|line| line.starts_with("warning: ")).collect();
    let [shadowed, health] = warnings[..] else { panic!("{out}") };
    assert!(shadowed.starts_with("warning: --rate-limit has \"*/CreateUser=1/1s\" without effect"));
    assert!(
        health.starts_with("warning: --rate-limit has \"grpc.health.v1.Health/*=1/1s\" without")
    );
    assert_eq!(code, 0);
}

#[test]
fn misspelt_variables_are_a_warning() {
    let mut command = user_server();
    command.env("USER_SERVER_WORKRS", "3");
    // Kubernetes sets such variables for a service with this name.
    command.env("USER_SERVER_PORT_9090_TCP_ADDR", "10.0.0.1");
    let (out, _, code) = run(command.args(["check", "--store", "memory:"]));
    let warning = "USER_SERVER_WORKRS is not a setting: did you mean USER_SERVER_WORKERS?";
    assert_eq!(out, format!("ok: configuration\nwarning: {warning}\nok: store memory:\n"));
    assert_eq!(code, 0);
    let mut running = Running::start(&[], &[("USER_SERVER_WORKRS", "3")]);
    assert!(running.before.contains(warning));
    running.signal("TERM");
    assert!(running.child.wait().unwrap().success());
}

/// A certificate that expires in this year, and its key.
fn certificate(last_year: i32) -> (String, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn check_reads_certificates_and_keys() {
    let folder = Folder::new();
    let (good, key) = certificate(2999);
    let (expired, expired_key) = certificate(2002);
    let good = folder.write("good.pem", &good);
    let key = folder.write("good.key", &key);
    let expired = folder.write("expired.pem", &expired);
    let expired_key = folder.write("expired.key", &expired_key);

    let check = |cert: &str, key: &str| {
        let (out, err, code) = run(user_server().args([
            "check",
            "--store",
            "memory:",
            "--tls-cert",
            cert,
            "--tls-key",
            key,
        ]));
        assert_eq!(err, "");
        let (first, rest) = out.split_once('\n').unwrap();
        let (tls, last) = rest.split_once('\n').unwrap();
        assert_eq!((first, last), ("ok: configuration", "ok: store memory:\n"));
        (tls.to_owned(), code)
    };
    let valid = "ok: TLS: the certificate is valid, and the key matches it";
    assert_eq!(check(&good, &key), (valid.to_owned(), 0));
    let old = "error: --tls-cert: certificate chain: the certificate has expired";
    assert_eq!(check(&expired, &expired_key), (old.to_owned(), 2));
    let other = format!(
        "error: cannot use {good} with {expired_key}: private key: does not belong to the first \
         certificate"
    );
    assert_eq!(check(&good, &expired_key), (other, 2));
    let missing = folder.path("missing.key").display().to_string();
    let (line, code) = check(&good, &missing);
    assert!(line.starts_with(&format!("error: --tls-key: cannot read {missing}: ")), "{line}");
    assert_eq!(code, 2);
}

#[test]
fn check_reports_configuration_errors() {
    let (out, err, code) = run(user_server().args(["check", "--lame-duck", "5"]));
    assert!(out.starts_with(r#"error: --lame-duck is "5": wanted a duration"#), "{out}");
    assert_eq!((err.as_str(), code), ("", 2));
}

#[cfg(unix)]
#[tokio::test]
async fn listen_addresses_are_all_served() {
    use std::os::unix::fs::PermissionsExt;

    use tokio::net::UnixStream;

    use crate::support::peer::{Peer, framed, request};

    let folder = Folder::new();
    let path = folder.path("users.sock");
    let listen = format!("unix:{}", path.display());
    let mut running = Running::start(&["--listen", &listen], &[]);
    // Behind the address that `Running` adds, or before it.
    let also = running.line_with("listening");
    let both = format!("{} {also}", running.address);
    assert!(both.contains(&listen) && both.contains("127.0.0.1:"), "{both}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let stream = UnixStream::connect(&path).await.unwrap();
    let mut peer = Peer::over(stream, &h2::client::Builder::new()).await;
    let get_user = request("/ru.tinkoff.kora.example.UserService/GetUser");
    assert_eq!(peer.call(get_user, framed("nobody")).await.grpc_status(), "5");
    assert!(running.line_with("balafon::access").contains(r#""peer":"unix""#));
    running.signal("TERM");
    assert!(running.child.wait().unwrap().success());
    assert!(!path.exists());
}

#[test]
fn settings_of_the_file_take_effect() {
    let folder = Folder::new();
    let file = folder.write("server.toml", "listen = '127.0.0.1:1'\nworkers = 3\n");
    let running = Running::start(&["--config", &file], &[]);
    assert!(running.listening.contains(r#""workers":3"#), "{}", running.listening);
}

#[test]
fn values_are_trimmed() {
    let folder = Folder::new();
    let path = folder.path("users.db");
    let path = path.to_str().unwrap();
    let store = format!("store = \"sqlite:{path}\"");
    for spaced in [
        format!("sqlite:{path}\n"),
        format!(" \t sqlite:{path} \r\n"),
        format!("\u{a0}sqlite:{path}"),
    ] {
        assert!(effective(&[], &[("USER_SERVER_STORE", &spaced)]).contains(&store), "{spaced:?}");
        assert!(effective(&["--store", &spaced], &[]).contains(&store), "{spaced:?}");
        let escaped = spaced.replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r");
        let file = folder.write("server.toml", format!("store = \"{escaped}\""));
        assert!(effective(&["--config", &file], &[]).contains(&store), "{spaced:?}");
        assert!(effective(&[], &[("USER_SERVER_CONFIG", &format!("{file}\n"))]).contains(&store));
    }
    let all = effective(&[], &[("USER_SERVER_LISTEN", " 127.0.0.1:0 , unix:/tmp/x\n")]);
    assert!(all.contains(r#"["127.0.0.1:0", "unix:/tmp/x"]"#), "{all}");
    for (name, value, shown) in [
        ("USER_SERVER_WORKERS", "3\n", "workers = 3"),
        ("USER_SERVER_REFLECTION", "false\n", "reflection = false"),
        ("USER_SERVER_AUTH_SECRET", "/run/secret\n", "secret = \"/run/secret\""),
        ("USER_SERVER_OTLP_ENDPOINT", "http://localhost:4318\n", "\"http://localhost:4318\""),
    ] {
        assert!(effective(&[], &[(name, value)]).contains(shown), "{name}");
    }
}

#[test]
fn values_of_several_lines_are_refused() {
    for escape in ["\\n", "\\u0000", "\\u001B[1m", "\\u0085"] {
        let lines = wrong(&format!("store = \"sqlite:a{escape}b\""));
        assert!(lines[0].contains("store has a control character"), "{lines:?}");
    }
    let (out, err, code) = run(user_server().arg("check").env("USER_SERVER_STORE", "sqlite:a\nb"));
    assert!((out + &err).contains("USER_SERVER_STORE has a control character"));
    assert_eq!(code, 2);
}

#[test]
fn usual_mistakes_come_with_a_remedy() {
    for (arguments, way_out) in [
        (["--store", "sqlite://x.db"], "(the path is not a URL: write sqlite:x.db)"),
        (["--store", "sqlite::memory:"], "(write memory: for users"),
        (["--listen", "tcp://127.0.0.1:9090"], "(an address has no scheme: write 127.0.0.1:9090)"),
        (["--admin-listen", ":9091"], "write 127.0.0.1:9091"),
        (["--store", "postgres://me:hun/ter2@db/users"], "%2F for /"),
    ] {
        let line = complaint(&arguments);
        assert!(line.contains(arguments[0]) && line.contains(way_out), "{line}");
        assert!(!line.contains("ter2"), "{line}");
    }
}

#[test]
fn unread_libpq_variables_are_a_warning() {
    let store = ["check", "--store", "postgres://me@127.0.0.1:1/users"];
    let (out, _, _) = run(user_server().args(store).env("PGPASSWORD", "hunter2"));
    assert!(out.contains("warning: PGPASSWORD is not read") && !out.contains("hunter2"), "{out}");
    let store = ["check", "--store", "postgres://me:secret@127.0.0.1:1/users"];
    let (out, _, _) = run(user_server().args(store).env("PGPASSWORD", "hunter2"));
    assert!(!out.contains("PGPASSWORD"), "{out}");
}

#[test]
fn help_is_a_command_too() {
    let (help, _, code) = run(user_server().arg("--help"));
    assert_eq!(run(user_server().arg("help")), (help, String::new(), code));
    let (out, _, code) = run(user_server().args(["help", "backup"]));
    assert!(out.contains("FILE") && code == 0, "{out}");
}
