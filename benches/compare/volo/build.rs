fn main() {
    volo_build::Builder::protobuf()
        .add_service("../../../proto/user_service.proto")
        .add_service("../proto/echo.proto")
        .include_dirs(vec!["../../../proto".into(), "../proto".into()])
        .write()
        .unwrap();
}
