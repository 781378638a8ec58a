//! Request metadata with one byte for each header (RFC 7541, 6.1), in calls that stay open.

use super::held::on_connections;
use crate::client::{CHECK, CREATE_USERS, WATCH};
use crate::link::{Target, Writer};
use crate::scenario::{Rule, Scenario};
use crate::wire::{Frames, index, indexed_heads, message};

/// Calls of one connection.
const STREAMS: u32 = 1000;

/// The default of `--max-header-list`, less the headers that each call has anyway.
const LIST: usize = 16 * 1024 - 512;

/// The overhead that each header counts beside its name and value (RFC 9113, 10.5.1).
const OVERHEAD: usize = 32;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = vec![
        metadata("metadata-one-name", WATCH, one_name).also_over_tls(),
        metadata("metadata-many-names", WATCH, many_names),
        metadata("metadata-long-value", WATCH, long_value),
        metadata("metadata-of-uploads", CREATE_USERS, one_name).on_both_stores(),
        metadata("metadata-of-unary", CHECK, many_names),
    ];
    all.push(metadata("metadata-binary", WATCH, binary));
    all
}

/// Headers for the dynamic table, and the number of times that each call repeats all of them.
type Headers = (Vec<(String, String)>, usize);

/// A short header, as often as it fits.
fn one_name() -> Headers {
    (vec![("a".to_owned(), String::new())], LIST / (OVERHEAD + 1))
}

/// As many short headers as the table of 4 KiB holds.
fn many_names() -> Headers {
    let name =
        |index: u8| format!("{}{}", (b'a' + index / 26) as char, (b'a' + index % 26) as char);
    let names: Vec<_> = (0..100).map(|index| (name(index), String::new())).collect();
    (names, LIST / (100 * (OVERHEAD + 2)))
}

/// One header that takes most of the table.
fn long_value() -> Headers {
    (vec![("a".to_owned(), "v".repeat(3600))], LIST / (OVERHEAD + 3601))
}

/// A header that is decoded when it is read.
fn binary() -> Headers {
    (vec![("a-bin".to_owned(), "YQ".to_owned())], LIST / (OVERHEAD + 7))
}

fn metadata(name: &str, path: &'static str, headers: fn() -> Headers) -> Scenario {
    Scenario::new(name, Rule::Bounded, move || {
        let (headers, times) = headers();
        let texts: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let [first, mut later] = indexed_heads(path, &texts);
        // The last of them is the newest entry.
        let once: Vec<_> = (62..62 + headers.len()).rev().flat_map(index).collect();
        later.extend_from_slice(&once.repeat(times - 1));
        let heads = [first, later];
        async move |target: Target| {
            let attack = async |writer| open_calls(&target, writer, &heads, path).await;
            on_connections(&target, 2, attack).await
        }
    })
}

async fn open_calls(target: &Target, writer: Writer, heads: &[Vec<u8>; 2], path: &str) {
    for index in 0..STREAMS {
        let (stream, mut frames) = (1 + 2 * index, Frames::default());
        frames.headers(stream, &heads[usize::from(index > 0)]);
        if path == WATCH {
            frames.last_data(stream, &message(false, &[]));
        }
        if writer.send(&frames.0).await.is_err() {
            return;
        }
    }
    target.end().await;
}
