use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use prost::{DecodeError, Message};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
};

use crate::ServiceInfo;

/// The schema of the router's services, by name. It is built once and never changes.
#[derive(Default)]
pub(super) struct Index {
    /// Sorted.
    services: Vec<&'static str>,
    files: Vec<File>,
    by_name: HashMap<String, FileId>,
    symbols: HashMap<String, FileId>,
    /// The extensions of each message, by its full name and by number. Each declared message has an
    /// entry.
    extensions: HashMap<String, BTreeMap<i32, FileId>>,
}

/// An index in [`Index::files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileId(usize);

struct File {
    /// The bytes of the file in the descriptor set: encoding it again would drop custom options.
    encoded: Bytes,
    imports: Vec<String>,
}

/// `google.protobuf.FileDescriptorSet` with the bytes of its files.
#[derive(Clone, PartialEq, Message)]
struct EncodedFiles {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

impl Index {
    pub(super) fn new<'a>(services: impl IntoIterator<Item = &'a ServiceInfo>) -> Self {
        let mut index = Self::default();
        for service in services {
            index.services.push(service.name);
            index.add_or_warn(service.name, service.file_descriptor_set);
        }
        index.services.sort_unstable();
        index.services.dedup();
        index
    }

    pub(super) fn services(&self) -> &[&'static str] {
        &self.services
    }

    pub(super) fn file(&self, name: &str) -> Option<FileId> {
        self.by_name.get(name).copied()
    }

    /// The file that declares a symbol.
    pub(super) fn symbol(&self, full_name: &str) -> Option<FileId> {
        self.symbols.get(full_name).copied()
    }

    /// The file that declares an extension of `message`.
    pub(super) fn extension(&self, message: &str, number: i32) -> Option<FileId> {
        self.extensions.get(message)?.get(&number).copied()
    }

    /// The sorted numbers of a message's extensions; `None` if there is no such message.
    pub(super) fn extension_numbers(&self, message: &str) -> Option<Vec<i32>> {
        Some(self.extensions.get(message)?.keys().copied().collect())
    }

    pub(super) fn encoded(&self, file: FileId) -> &Bytes {
        &self.files[file.0].encoded
    }

    /// The known direct imports of a file.
    pub(super) fn imports(&self, file: FileId) -> impl Iterator<Item = FileId> {
        self.files[file.0].imports.iter().filter_map(|name| self.file(name))
    }

    /// Adds the files of a descriptor set, and logs an invalid one.
    pub(super) fn add_or_warn(&mut self, name: &str, set: &'static [u8]) {
        if let Err(error) = self.add(Bytes::from_static(set)) {
            tracing::warn!(name, %error, "reflection cannot read the descriptor set");
        }
    }

    /// Adds the files of a descriptor set: all of them, or none if one is broken.
    fn add(&mut self, set: Bytes) -> Result<(), DecodeError> {
        let encoded = EncodedFiles::decode(set)?.file;
        let files: Vec<_> = encoded
            .iter()
            .map(|file| FileDescriptorProto::decode(file.clone()))
            .collect::<Result<_, _>>()?;
        for (file, encoded) in files.into_iter().zip(encoded) {
            self.add_file(file, encoded);
        }
        Ok(())
    }

    fn add_file(&mut self, file: FileDescriptorProto, encoded: Bytes) {
        if let Some(earlier) = self.file(file.name()) {
            if *self.encoded(earlier) != encoded {
                let file = file.name();
                tracing::warn!(file, "services differ in a file, reflection has the first one's");
            }
            return;
        }
        let id = FileId(self.files.len());
        self.by_name.insert(file.name().to_owned(), id);
        Declarations { index: self, file: id }.of_file(&file);
        self.files.push(File { encoded, imports: file.dependency });
    }
}

/// Adds all declarations of a file.
struct Declarations<'a> {
    index: &'a mut Index,
    file: FileId,
}

impl Declarations<'_> {
    fn of_file(&mut self, file: &FileDescriptorProto) {
        let package = file.package();
        file.message_type.iter().for_each(|message| self.message(package, message));
        file.enum_type.iter().for_each(|values| self.enumeration(package, values));
        file.extension.iter().for_each(|extension| self.extension(package, extension));
        for service in &file.service {
            let service_name = self.symbol(package, service.name());
            for method in &service.method {
                self.symbol(&service_name, method.name());
            }
        }
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = self.symbol(scope, message.name());
        let fields = message.field.iter().map(|field| field.name());
        for member in fields.chain(message.oneof_decl.iter().map(|oneof| oneof.name())) {
            self.symbol(&name, member);
        }
        message.nested_type.iter().for_each(|nested| self.message(&name, nested));
        message.enum_type.iter().for_each(|values| self.enumeration(&name, values));
        message.extension.iter().for_each(|extension| self.extension(&name, extension));
        self.index.extensions.entry(name).or_default();
    }

    /// In protobuf the values of an enum are its siblings. Tools also look them up as its members.
    fn enumeration(&mut self, scope: &str, values: &EnumDescriptorProto) {
        let name = self.symbol(scope, values.name());
        for value in &values.value {
            self.symbol(scope, value.name());
            self.symbol(&name, value.name());
        }
    }

    fn extension(&mut self, scope: &str, extension: &FieldDescriptorProto) {
        self.symbol(scope, extension.name());
        // Compilers resolve the name and mark it with a dot (`descriptor.proto`, "extendee").
        let extendee = extension.extendee().trim_start_matches('.').to_owned();
        let numbers = self.index.extensions.entry(extendee).or_default();
        numbers.entry(extension.number()).or_insert(self.file);
    }

    /// Adds a symbol, and returns its full name.
    fn symbol(&mut self, scope: &str, name: &str) -> String {
        let full_name = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        self.index.symbols.entry(full_name.clone()).or_insert(self.file);
        full_name
    }
}

#[cfg(test)]
pub(super) mod tests {
    use prost_types::{
        EnumValueDescriptorProto, FileDescriptorSet, MethodDescriptorProto, OneofDescriptorProto,
        ServiceDescriptorProto,
    };

    use super::*;

    pub(crate) fn file(name: &str, imports: &[&str]) -> FileDescriptorProto {
        FileDescriptorProto {
            name: Some(name.into()),
            package: Some("pkg".into()),
            dependency: imports.iter().map(|name| name.to_string()).collect(),
            ..Default::default()
        }
    }

    pub(crate) fn message(name: &str) -> DescriptorProto {
        DescriptorProto { name: Some(name.into()), ..Default::default() }
    }

    pub(crate) fn extension(name: &str, extendee: &str, number: i32) -> FieldDescriptorProto {
        FieldDescriptorProto {
            extendee: Some(extendee.into()),
            number: Some(number),
            ..field(name)
        }
    }

    /// A service with a descriptor set of these files.
    pub(crate) fn service(
        name: &'static str,
        file: impl Into<Vec<FileDescriptorProto>>,
    ) -> ServiceInfo {
        let set = FileDescriptorSet { file: file.into() }.encode_to_vec();
        ServiceInfo { name, file_descriptor_set: set.leak() }
    }

    fn field(name: &str) -> FieldDescriptorProto {
        FieldDescriptorProto { name: Some(name.into()), ..Default::default() }
    }

    fn enumeration(name: &str, value: &str) -> EnumDescriptorProto {
        let value = EnumValueDescriptorProto { name: Some(value.into()), ..Default::default() };
        EnumDescriptorProto { name: Some(name.into()), value: vec![value], ..Default::default() }
    }

    /// A file with one symbol of every kind, in `package`.
    fn rich_file(package: Option<&str>) -> FileDescriptorProto {
        let method = MethodDescriptorProto { name: Some("Call".into()), ..Default::default() };
        let nested = DescriptorProto {
            field: vec![field("inner")],
            nested_type: vec![message("Deepest")],
            ..message("Nested")
        };
        let outer = DescriptorProto {
            field: vec![field("plain")],
            oneof_decl: vec![OneofDescriptorProto {
                name: Some("choice".into()),
                ..Default::default()
            }],
            nested_type: vec![nested],
            enum_type: vec![enumeration("Shade", "DARK")],
            extension: vec![extension("nested_ext", ".pkg.Open", 7)],
            ..message("Outer")
        };
        FileDescriptorProto {
            package: package.map(Into::into),
            message_type: vec![outer],
            enum_type: vec![enumeration("Colour", "RED")],
            extension: vec![extension("top_ext", ".pkg.Open", 5)],
            service: vec![ServiceDescriptorProto {
                name: Some("Service".into()),
                method: vec![method],
                ..Default::default()
            }],
            ..file("rich.proto", &[])
        }
    }

    const RICH_SYMBOLS: [&str; 16] = [
        "Service",
        "Service.Call",
        "Outer",
        "Outer.plain",
        "Outer.choice",
        "Outer.Nested",
        "Outer.Nested.inner",
        "Outer.Nested.Deepest",
        "Outer.Shade",
        "Outer.DARK",
        "Outer.Shade.DARK",
        "Outer.nested_ext",
        "Colour",
        "RED",
        "Colour.RED",
        "top_ext",
    ];

    #[test]
    fn index_finds_symbols_of_every_kind() {
        let index = Index::new([&service(
            "pkg.Service",
            [file("other.proto", &[]), rich_file(Some("pkg"))],
        )]);
        for symbol in RICH_SYMBOLS {
            assert_eq!(index.symbol(&format!("pkg.{symbol}")), Some(FileId(1)), "{symbol}");
            assert_eq!(index.symbol(symbol), None, "{symbol}");
        }
        assert_eq!(index.symbols.len(), RICH_SYMBOLS.len());
        for symbol in ["", "pkg", "pkg.", ".pkg.Outer", "pkg.Outer.", "pkg.outer", "pkg.Outer.RED"]
        {
            assert_eq!(index.symbol(symbol), None, "{symbol}");
        }
    }

    #[test]
    fn index_finds_symbols_without_a_package() {
        let index = Index::new([&service("Service", [rich_file(None)])]);
        assert!(RICH_SYMBOLS.iter().all(|symbol| index.symbol(symbol).is_some()));
    }

    #[test]
    fn index_finds_extensions_by_message_and_number() {
        let index = Index::new([&service("pkg.Service", [rich_file(Some("pkg"))])]);
        assert_eq!(index.extension("pkg.Open", 7), Some(FileId(0)));
        assert_eq!(index.extension("pkg.Open", 6), None);
        assert_eq!(index.extension("pkg.Outer", 5), None);
        assert_eq!(index.extension(".pkg.Open", 5), None);
        assert_eq!(index.extension_numbers("pkg.Open"), Some(vec![5, 7]));
        assert_eq!(index.extension_numbers("pkg.Outer.Nested"), Some(vec![]));
        assert_eq!(index.extension_numbers("pkg.Service"), None);
        assert_eq!(index.extension_numbers("pkg.None"), None);
    }

    #[test]
    fn index_sorts_services_without_duplicates() {
        let infos = ["b.B", "a.B", "a.A", "a.B"].map(|name| service(name, []));
        assert_eq!(Index::new(&infos).services(), ["a.A", "a.B", "b.B"]);
    }

    #[test]
    fn index_lists_a_service_with_an_invalid_schema() {
        let whole = service("pkg.Whole", [file("whole.proto", &[])]).file_descriptor_set;
        let not_a_file =
            EncodedFiles { file: vec![whole[2..].to_vec().into(), Bytes::from_static(b"\xff")] };
        for broken in [&whole[..whole.len() - 1], b"\xff\xff", not_a_file.encode_to_vec().leak()] {
            let broken = ServiceInfo { name: "pkg.Broken", file_descriptor_set: broken };
            let index = Index::new([&broken, &service("pkg.Good", [file("good.proto", &[])])]);
            assert_eq!(index.services(), ["pkg.Broken", "pkg.Good"]);
            assert_eq!(index.file("whole.proto"), None);
            assert_eq!(index.file("good.proto"), Some(FileId(0)));
        }
    }

    #[test]
    fn index_accepts_an_empty_descriptor_set() {
        let bare = ServiceInfo { name: "pkg.Bare", file_descriptor_set: b"" };
        assert_eq!(Index::new([&bare]).services(), ["pkg.Bare"]);
    }

    #[test]
    fn index_keeps_shared_files_once() {
        let shared = || file("shared.proto", &[]);
        let index = Index::new([
            &service("pkg.A", [shared(), file("a.proto", &["shared.proto"])]),
            &service("pkg.B", [shared(), file("b.proto", &["shared.proto"])]),
        ]);
        assert_eq!(index.files.len(), 3);
    }

    #[test]
    fn index_serves_the_first_of_equal_file_names() {
        let with = |name| FileDescriptorProto {
            message_type: vec![message(name)],
            ..file("same.proto", &[])
        };
        let index = Index::new([&service("pkg.A", [with("A")]), &service("pkg.B", [with("B")])]);
        let same = index.file("same.proto").unwrap();
        assert_eq!(*index.encoded(same), with("A").encode_to_vec());
        assert_eq!(index.symbol("pkg.A"), Some(same));
        assert_eq!(index.symbol("pkg.B"), None);
    }

    #[test]
    fn index_keeps_unknown_options() {
        let mut bytes = file("custom.proto", &[]).encode_to_vec();
        // FileOptions (field 8) with the extension 50000 = 1.
        bytes.extend([0x42, 4, 0x80, 0xb5, 0x18, 1]);
        let set = EncodedFiles { file: vec![bytes.clone().into()] }.encode_to_vec().leak();
        let index = Index::new([&ServiceInfo { name: "pkg.A", file_descriptor_set: set }]);
        assert_eq!(*index.encoded(FileId(0)), bytes);
        let known = FileDescriptorProto::decode(&bytes[..]).unwrap().encode_to_vec();
        assert_ne!(known, bytes, "prost drops the option");
    }
}
