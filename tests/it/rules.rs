//! The tables of wire rules and of attacks name tests. This test looks them up, so that neither
//! becomes outdated.

use std::fs;
use std::path::Path;

/// The cells of each row: rule, tests, remark.
fn rows(table: &str) -> Vec<[&str; 3]> {
    let lines = table.lines().filter(|line| {
        line.starts_with("| ") && !line.starts_with("| rule ") && !line.starts_with("| attack ")
    });
    let cells = lines.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" |").map(str::trim).collect();
        cells.try_into().unwrap_or_else(|_| panic!("three cells: {line}"))
    });
    cells.collect()
}

/// Whether the module has a test with this name.
fn has_test(path: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (module, name) = path.rsplit_once("::").unwrap();
    let module = module.replace("::", "/");
    let folders = ["tests/it", "src", "user-server/src"];
    let mut files = folders
        .iter()
        .flat_map(|folder| [format!("{folder}/{module}.rs"), format!("{folder}/{module}/mod.rs")]);
    let Some(source) = files.find_map(|file| fs::read_to_string(root.join(file)).ok()) else {
        return false;
    };
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") {
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            if is_test && function.is_some_and(|rest| rest.split('(').next() == Some(name)) {
                return true;
            }
            is_test = false;
        }
    }
    false
}

#[test]
fn tables_name_existing_tests_or_give_a_reason() {
    let wire = rows(include_str!("RULES.md"));
    assert!(wire.len() > 50, "{} rows", wire.len());
    let attacks = rows(include_str!("ATTACKS.md"));
    assert!(attacks.len() > 15, "{} rows", attacks.len());
    let http2 = rows(include_str!("HTTP2.md"));
    assert!(http2.len() > 20, "{} rows", http2.len());
    for [rule, tests, remark] in wire.into_iter().chain(attacks).chain(http2) {
        let mut named = tests.split_whitespace().map(|name| name.trim_matches('`')).peekable();
        assert!(named.peek().is_some() || !remark.is_empty(), "no test and no reason: {rule}");
        for name in named {
            assert!(name.contains("::") && has_test(name), "{rule}: there is no test {name}");
        }
    }
}
