use std::collections::HashSet;

use super::index::{FileId, Index};
use super::pb::v1::server_reflection_request::MessageRequest;
use super::pb::v1::server_reflection_response::MessageResponse;
use super::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use crate::Status;

/// The files that a stream has sent: never more than there are.
#[derive(Default)]
pub(super) struct Sent(HashSet<FileId>);

impl Index {
    /// Answers one request of a stream. An error is part of the answer, and the stream continues.
    pub(super) fn answer(
        &self,
        request: ServerReflectionRequest,
        sent: &mut Sent,
    ) -> ServerReflectionResponse {
        let found = match &request.message_request {
            Some(question) => self.look_up(question, sent),
            None => Err(Status::invalid_argument("the request asks for nothing")),
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            message_response: Some(found.unwrap_or_else(|status| {
                MessageResponse::ErrorResponse(ErrorResponse {
                    error_code: status.code() as i32,
                    error_message: status.message().to_owned(),
                })
            })),
            original_request: Some(request),
        }
    }

    // The messages name nothing: the answer contains the request, which may be long.
    fn look_up(
        &self,
        question: &MessageRequest,
        sent: &mut Sent,
    ) -> Result<MessageResponse, Status> {
        let (file, missing) = match question {
            MessageRequest::FileByFilename(name) => (self.file(name), "no such file"),
            MessageRequest::FileContainingSymbol(name) => (self.symbol(name), "no such symbol"),
            MessageRequest::FileContainingExtension(asked) => (
                self.extension(&asked.containing_type, asked.extension_number),
                "no such extension",
            ),
            MessageRequest::AllExtensionNumbersOfType(name) => return self.numbers(name),
            MessageRequest::ListServices(_) => return Ok(self.list_services()),
        };
        let file = file.ok_or_else(|| Status::not_found(missing))?;
        Ok(self.with_imports(file, sent))
    }

    /// The requested file, also if it was sent before. Its direct and indirect imports follow, unless the
    /// stream has sent them.
    fn with_imports(&self, file: FileId, sent: &mut Sent) -> MessageResponse {
        sent.0.insert(file);
        let mut files = vec![file];
        let mut next = 0;
        while let Some(&file) = files.get(next) {
            // The imports of a sent file were sent with it.
            files.extend(self.imports(file).filter(|import| sent.0.insert(*import)));
            next += 1;
        }
        let encoded = files.into_iter().map(|file| self.encoded(file).to_vec());
        MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto: encoded.collect(),
        })
    }

    fn numbers(&self, message: &str) -> Result<MessageResponse, Status> {
        let numbers = self.extension_numbers(message);
        Ok(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
            base_type_name: message.to_owned(),
            extension_number: numbers.ok_or_else(|| Status::not_found("no such message type"))?,
        }))
    }

    fn list_services(&self) -> MessageResponse {
        let name = |name: &&str| ServiceResponse { name: (*name).to_owned() };
        MessageResponse::ListServicesResponse(ListServiceResponse {
            service: self.services().iter().map(name).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorProto;

    use super::super::index::tests::{extension, file, message, service};
    use super::super::pb::v1::ExtensionRequest;
    use super::*;
    use crate::Code;

    /// `top` imports `left` and `right`, which both import `base`; `other` imports `right`.
    fn index() -> Index {
        let base =
            FileDescriptorProto { message_type: vec![message("Base")], ..file("base.proto", &[]) };
        let right = FileDescriptorProto {
            extension: vec![extension("ext", ".pkg.Base", 9)],
            ..file("right.proto", &["base.proto"])
        };
        Index::new([
            &service(
                "pkg.Top",
                [
                    base.clone(),
                    file("left.proto", &["base.proto"]),
                    right.clone(),
                    file("top.proto", &["left.proto", "right.proto", "not_known.proto"]),
                ],
            ),
            &service("pkg.Other", [base, right, file("other.proto", &["right.proto"])]),
        ])
    }

    fn ask(question: impl Into<Option<MessageRequest>>, sent: &mut Sent) -> MessageResponse {
        let request =
            ServerReflectionRequest { host: String::new(), message_request: question.into() };
        index().answer(request, sent).message_response.expect("every answer has a content")
    }

    fn by_name(name: &str) -> MessageRequest {
        MessageRequest::FileByFilename(name.into())
    }

    fn by_extension(containing_type: &str, extension_number: i32) -> MessageRequest {
        let containing_type = containing_type.into();
        MessageRequest::FileContainingExtension(ExtensionRequest {
            containing_type,
            extension_number,
        })
    }

    fn file_names(answer: MessageResponse) -> Vec<String> {
        let MessageResponse::FileDescriptorResponse(files) = answer else {
            panic!("no files: {answer:?}")
        };
        let name =
            |file: Vec<u8>| FileDescriptorProto::decode(&file[..]).unwrap().name().to_owned();
        files.file_descriptor_proto.into_iter().map(name).collect()
    }

    fn error_code(answer: MessageResponse) -> i32 {
        let MessageResponse::ErrorResponse(error) = answer else { panic!("no error: {answer:?}") };
        error.error_code
    }

    #[test]
    fn reflection_sends_a_file_before_its_imports() {
        let files = file_names(ask(by_name("top.proto"), &mut Sent::default()));
        assert_eq!(files, ["top.proto", "left.proto", "right.proto", "base.proto"]);
    }

    #[test]
    fn reflection_skips_imports_already_sent() {
        let mut sent = Sent::default();
        assert_eq!(
            file_names(ask(by_name("other.proto"), &mut sent)),
            ["other.proto", "right.proto", "base.proto"]
        );
        assert_eq!(file_names(ask(by_name("top.proto"), &mut sent)), ["top.proto", "left.proto"]);
        assert_eq!(file_names(ask(by_name("base.proto"), &mut sent)), ["base.proto"]);
        for _ in 0..2 {
            assert_eq!(file_names(ask(by_name("top.proto"), &mut sent)), ["top.proto"]);
        }
        assert_eq!(sent.0.len(), 5);
    }

    #[test]
    fn reflection_finds_files_by_symbol_and_extension() {
        let mut sent = Sent::default();
        let symbol = MessageRequest::FileContainingSymbol("pkg.Base".into());
        assert_eq!(file_names(ask(symbol, &mut sent)), ["base.proto"]);
        assert_eq!(file_names(ask(by_extension("pkg.Base", 9), &mut sent)), ["right.proto"]);
    }

    #[test]
    fn reflection_reports_not_found_in_band() {
        for question in [
            by_name("not_known.proto"),
            MessageRequest::FileContainingSymbol("pkg.None".into()),
            MessageRequest::FileContainingSymbol(".pkg.Base".into()),
            by_extension("pkg.Base", 1),
            by_extension("pkg.None", 9),
            MessageRequest::AllExtensionNumbersOfType("pkg.None".into()),
        ] {
            let code = error_code(ask(question.clone(), &mut Sent::default()));
            assert_eq!(code, Code::NotFound as i32, "{question:?}");
        }
    }

    #[test]
    fn reflection_refuses_an_empty_request_in_band() {
        assert_eq!(error_code(ask(None, &mut Sent::default())), Code::InvalidArgument as i32);
    }

    #[test]
    fn reflection_lists_extension_numbers_of_a_type() {
        let question = MessageRequest::AllExtensionNumbersOfType("pkg.Base".into());
        let numbers = ExtensionNumberResponse {
            base_type_name: "pkg.Base".into(),
            extension_number: vec![9],
        };
        let answer = ask(question, &mut Sent::default());
        assert_eq!(answer, MessageResponse::AllExtensionNumbersResponse(numbers));
    }

    #[test]
    fn reflection_lists_services_in_order() {
        let answer = ask(MessageRequest::ListServices("*".into()), &mut Sent::default());
        let service = ["pkg.Other", "pkg.Top"].map(|name| ServiceResponse { name: name.into() });
        let list = ListServiceResponse { service: service.into() };
        assert_eq!(answer, MessageResponse::ListServicesResponse(list));
    }

    #[test]
    fn reflection_echoes_host_and_request() {
        for message_request in [None, Some(by_name("top.proto")), Some(by_name("none"))] {
            let request = ServerReflectionRequest { host: "example:1".into(), message_request };
            let answer = index().answer(request.clone(), &mut Sent::default());
            assert_eq!(answer.valid_host, "example:1");
            assert_eq!(answer.original_request, Some(request));
        }
    }
}
