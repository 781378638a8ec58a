//! Compiles generated code in a crate that depends on balafon alone, and under another name.

/// All packages by one include.
pub mod protos {
    rpc::include_proto!("protos");
}

/// A package by itself. Its name has keywords, and it refers to no other package.
pub mod single {
    rpc::include_proto!("shop.type.self");
}

/// All files and their imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/all.bin"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rpc::prost::Message;
    use rpc::prost_types::FileDescriptorSet;
    use rpc::testing::Recorder;
    use rpc::{Request, Response, Sink, Status, Streaming};

    use super::protos::shop::r#type::self_::item::{Kind, Tags};
    use super::protos::shop::r#type::self_::{Item, Items};
    use super::protos::shop::{Basket, Baskets, baskets};

    struct Shop;

    impl Baskets for Shop {
        async fn add(&self, request: Request<Item>) -> Result<Response<Basket>, Status> {
            let items = vec![request.message];
            Ok(Response::new(Basket { items, ..Basket::default() }))
        }

        async fn watch(&self, _: Request<Streaming<Basket>>, _: Sink<Tags>) -> Result<(), Status> {
            Ok(())
        }
    }

    impl Items for Shop {
        async fn r#match(&self, request: Request<Item>, mut out: Sink<Tags>) -> Result<(), Status> {
            out.send(request.message.tags.unwrap_or_default()).await?;
            Ok(())
        }
    }

    fn item() -> Item {
        let kinds = BTreeMap::from([("a".to_owned(), Kind::Fresh.into())]);
        let items = BTreeMap::from([(1, Item::default())]);
        Item { tags: Some(Tags { kinds, items }) }
    }

    #[test]
    fn btree_map_fields_travel_and_are_shown() {
        let decoded = Item::decode(&*item().encode_to_vec()).expect("it was just encoded");
        assert_eq!(decoded, item());
        let shown = format!("{:?}", decoded.tags.expect("they were set"));
        assert!(shown.starts_with(r#"Tags { kinds: {"a": 1}, items: {1: Item"#), "{shown}");
    }

    #[test]
    fn services_of_nested_packages_are_implemented() {
        assert_eq!(baskets::ADD.path, "/shop.Baskets/Add");
        let shared = std::sync::Arc::new(Shop);
        let router = rpc::Router::new()
            .add(Baskets::into_service(shared.clone()))
            .add(Items::into_service(shared));
        assert_eq!(router.methods().count(), 3);
        let recorder = Recorder::new();
        let mut sending = std::pin::pin!(Shop.r#match(Request::new(item()), recorder.sink()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(Future::poll(sending.as_mut(), &mut context).is_ready());
        assert_eq!(recorder.values(), [item().tags.unwrap_or_default()]);
    }

    #[test]
    fn file_descriptor_set_has_all_files_and_imports() {
        let set = FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).expect("a valid set");
        let names: Vec<_> = set.file.iter().map(|file| file.name()).collect();
        for name in ["basket.proto", "item.proto", "google/protobuf/timestamp.proto"] {
            assert!(names.contains(&name), "{names:?}");
        }
    }
}
