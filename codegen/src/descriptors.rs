//! One descriptor set for each service: the file that defines it, and its imports.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use prost::Message;
use prost_types::FileDescriptorProto;

use crate::error::Error;
use crate::names;

/// A `google.protobuf.FileDescriptorSet` with the bytes of its files. The type of prost would drop
/// custom options, which are extensions.
#[derive(Clone, PartialEq, Message)]
struct RawSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

/// Writes the descriptor set of every service in `set`, whose files are in dependency order.
pub(crate) fn write(set: &[u8], out_dir: &Path) -> Result<(), Error> {
    let raw = decode::<RawSet>(set)?.file;
    let files =
        raw.iter().map(|raw| decode(raw)).collect::<Result<Vec<FileDescriptorProto>, _>>()?;

    for (index, file) in files.iter().enumerate().filter(|(_, file)| !file.service.is_empty()) {
        let needed = with_imports(&files[..=index], file);
        let chosen = raw.iter().zip(&files).filter(|(_, file)| needed.contains(file.name()));
        let set = RawSet { file: chosen.map(|(raw, _)| raw.clone()).collect() }.encode_to_vec();
        for service in &file.service {
            let name = names::full(file.package(), service.name());
            write_if_changed(&out_dir.join(names::descriptor_file(&name)), &set)?;
        }
    }
    Ok(())
}

/// The names of `file` and of its direct and indirect imports.
fn with_imports<'a>(
    files: &'a [FileDescriptorProto],
    file: &'a FileDescriptorProto,
) -> HashSet<&'a str> {
    let mut needed = HashSet::from([file.name()]);
    // From the last file to the first: a file comes after its imports.
    for file in files.iter().rev() {
        if needed.contains(file.name()) {
            needed.extend(file.dependency.iter().map(String::as_str));
        }
    }
    needed
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Error> {
    M::decode(bytes).map_err(|err| Error::invalid(format!("descriptors of protox: {err}")))
}

/// Keeps the time stamp of an unchanged file, so that Cargo does not compile it again.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).map_err(|err| Error::io(format!("writing {}", path.display()), err))
}
