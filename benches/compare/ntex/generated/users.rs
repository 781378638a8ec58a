#![allow(dead_code, unused_mut, unused_variables, clippy::identity_op, clippy::too_many_lines, clippy::derivable_impls, clippy::unit_arg, clippy::derive_partial_eq_without_eq, clippy::manual_range_patterns, clippy::default_trait_access, clippy::semicolon_if_nothing_returned, clippy::doc_markdown, clippy::wildcard_imports)]
//! DO NOT MODIFY. Auto-generated file

#[derive(Clone, PartialEq, Debug)]
pub struct CreateUserRequest {
    pub name: ::ntex_grpc::ByteString,
    pub email: ::ntex_grpc::ByteString,
}

#[derive(Clone, PartialEq, Debug)]
pub struct GetUserRequest {
    pub user_id: ::ntex_grpc::ByteString,
}

#[derive(Clone, PartialEq, Debug)]
pub struct UserResponse {
    pub id: ::ntex_grpc::ByteString,
    pub name: ::ntex_grpc::ByteString,
    pub email: ::ntex_grpc::ByteString,
    pub created_at: ::ntex_grpc::google_types::Timestamp,
    pub status: UserStatus,
}

#[derive(Clone, PartialEq, Debug)]
pub struct CreateUsersResponse {
    pub created_count: i32,
    pub user_ids: Vec<::ntex_grpc::ByteString>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct UserUpdate {
    pub user_id: ::ntex_grpc::ByteString,
    pub name: ::ntex_grpc::ByteString,
    pub email: ::ntex_grpc::ByteString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
pub enum UserStatus {
    Active = 0,
    Inactive = 1,
    Suspended = 2,
}

impl UserStatus {
    /// String value of the enum field names used in the ProtoBuf definition with stripped prefix.
    pub fn to_str_name(self) -> &'static str {
        match self {
            UserStatus::Active => "ACTIVE",
            UserStatus::Inactive => "INACTIVE",
            UserStatus::Suspended => "SUSPENDED",
        }
    }

    /// String value of the enum field names used in the ProtoBuf definition.
    ///
    /// The values are not transformed in any way and thus are considered stable
    /// (if the ProtoBuf definition does not change) and safe for programmatic use.
    pub fn to_origin_name(self) -> &'static str {
        match self {
            UserStatus::Active => "ACTIVE",
            UserStatus::Inactive => "INACTIVE",
            UserStatus::Suspended => "SUSPENDED",
        }
    }

pub fn from_i32(value: i32) -> ::std::option::Option<Self> {
                match value {
            0 => Some(UserStatus::Active),
1 => Some(UserStatus::Inactive),
2 => Some(UserStatus::Suspended),
    _ => ::std::option::Option::None,
            }
        }}


/// `UserService` service definition
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct UserService;

        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum UserServiceMethods {
            CreateUser(UserServiceCreateUserMethod),
GetUser(UserServiceGetUserMethod),
GetAllUsers(UserServiceGetAllUsersMethod),
CreateUsers(UserServiceCreateUsersMethod),
UpdateUsers(UserServiceUpdateUsersMethod),
        }

        
        #[derive(Debug, Clone)]
        pub struct UserServiceClient<T>(T);

        #[derive(Debug, Copy, Clone, PartialEq, Eq)]
        pub struct UserServiceCreateUserMethod;

        impl ::ntex_grpc::MethodDef for UserServiceCreateUserMethod {
            const NAME: &'static str = "CreateUser";
            const PATH: ::ntex_grpc::ByteString = ::ntex_grpc::ByteString::from_static("/ru.tinkoff.kora.example.UserService/CreateUser");
            type Input = CreateUserRequest;
            type Output = UserResponse;
            const CLIENT_STREAMING: bool = false;
            const SERVER_STREAMING: bool = false;
        }

#[derive(Debug, Copy, Clone, PartialEq, Eq)]
        pub struct UserServiceGetUserMethod;

        impl ::ntex_grpc::MethodDef for UserServiceGetUserMethod {
            const NAME: &'static str = "GetUser";
            const PATH: ::ntex_grpc::ByteString = ::ntex_grpc::ByteString::from_static("/ru.tinkoff.kora.example.UserService/GetUser");
            type Input = GetUserRequest;
            type Output = UserResponse;
            const CLIENT_STREAMING: bool = false;
            const SERVER_STREAMING: bool = false;
        }

#[derive(Debug, Copy, Clone, PartialEq, Eq)]
        pub struct UserServiceGetAllUsersMethod;

        impl ::ntex_grpc::MethodDef for UserServiceGetAllUsersMethod {
            const NAME: &'static str = "GetAllUsers";
            const PATH: ::ntex_grpc::ByteString = ::ntex_grpc::ByteString::from_static("/ru.tinkoff.kora.example.UserService/GetAllUsers");
            type Input = ();
            type Output = UserResponse;
            const CLIENT_STREAMING: bool = false;
            const SERVER_STREAMING: bool = true;
        }

#[derive(Debug, Copy, Clone, PartialEq, Eq)]
        pub struct UserServiceCreateUsersMethod;

        impl ::ntex_grpc::MethodDef for UserServiceCreateUsersMethod {
            const NAME: &'static str = "CreateUsers";
            const PATH: ::ntex_grpc::ByteString = ::ntex_grpc::ByteString::from_static("/ru.tinkoff.kora.example.UserService/CreateUsers");
            type Input = CreateUserRequest;
            type Output = CreateUsersResponse;
            const CLIENT_STREAMING: bool = true;
            const SERVER_STREAMING: bool = false;
        }

#[derive(Debug, Copy, Clone, PartialEq, Eq)]
        pub struct UserServiceUpdateUsersMethod;

        impl ::ntex_grpc::MethodDef for UserServiceUpdateUsersMethod {
            const NAME: &'static str = "UpdateUsers";
            const PATH: ::ntex_grpc::ByteString = ::ntex_grpc::ByteString::from_static("/ru.tinkoff.kora.example.UserService/UpdateUsers");
            type Input = UserUpdate;
            type Output = UserResponse;
            const CLIENT_STREAMING: bool = true;
            const SERVER_STREAMING: bool = true;
        }


mod _priv_impl_user_service {
use super::*;

impl ::ntex_grpc::Message for CreateUserRequest {
#[inline]
              fn write(&self, dst: &mut ::ntex_grpc::BytePages) {
                ::ntex_grpc::NativeType::serialize(&self.name, 1, ::ntex_grpc::types::DefaultValue::Default, dst);::ntex_grpc::NativeType::serialize(&self.email, 2, ::ntex_grpc::types::DefaultValue::Default, dst);
             }

#[inline]
             fn read(src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<Self, ::ntex_grpc::DecodeError> {
                 let mut msg = Self::default();
                 ::ntex_grpc::Message::merge_from(&mut msg, src)?;
                 Ok(msg)
             }

             #[inline]
             fn merge_from(&mut self, src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<(), ::ntex_grpc::DecodeError> {
                 const STRUCT_NAME: &str = "CreateUserRequest";
                 while !src.is_empty() {
                    let (tag, wire_type) = ::ntex_grpc::encoding::decode_key(src)?;
                    match tag {
                 1 => ::ntex_grpc::NativeType::deserialize(&mut self.name, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "name"))?,2 => ::ntex_grpc::NativeType::deserialize(&mut self.email, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "email"))?,
                 _ => ::ntex_grpc::encoding::skip_field(wire_type, tag, src)?,
             }
                 }
                 Ok(())
             }

#[inline]
             fn encoded_len(&self) -> usize {
                 0  + ::ntex_grpc::NativeType::serialized_len(&self.name, 1, ::ntex_grpc::types::DefaultValue::Default) + ::ntex_grpc::NativeType::serialized_len(&self.email, 2, ::ntex_grpc::types::DefaultValue::Default)
             }

}

impl ::std::default::Default for CreateUserRequest {
                 #[inline]
                 fn default() -> Self {
                     Self { name: ::core::default::Default::default(),
email: ::core::default::Default::default(),
 }
                 }
             }


        impl ::ntex_grpc::Message for GetUserRequest {
#[inline]
              fn write(&self, dst: &mut ::ntex_grpc::BytePages) {
                ::ntex_grpc::NativeType::serialize(&self.user_id, 1, ::ntex_grpc::types::DefaultValue::Default, dst);
             }

#[inline]
             fn read(src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<Self, ::ntex_grpc::DecodeError> {
                 let mut msg = Self::default();
                 ::ntex_grpc::Message::merge_from(&mut msg, src)?;
                 Ok(msg)
             }

             #[inline]
             fn merge_from(&mut self, src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<(), ::ntex_grpc::DecodeError> {
                 const STRUCT_NAME: &str = "GetUserRequest";
                 while !src.is_empty() {
                    let (tag, wire_type) = ::ntex_grpc::encoding::decode_key(src)?;
                    match tag {
                 1 => ::ntex_grpc::NativeType::deserialize(&mut self.user_id, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "user_id"))?,
                 _ => ::ntex_grpc::encoding::skip_field(wire_type, tag, src)?,
             }
                 }
                 Ok(())
             }

#[inline]
             fn encoded_len(&self) -> usize {
                 0  + ::ntex_grpc::NativeType::serialized_len(&self.user_id, 1, ::ntex_grpc::types::DefaultValue::Default)
             }

}

impl ::std::default::Default for GetUserRequest {
                 #[inline]
                 fn default() -> Self {
                     Self { user_id: ::core::default::Default::default(),
 }
                 }
             }


        impl ::ntex_grpc::Message for UserResponse {
#[inline]
              fn write(&self, dst: &mut ::ntex_grpc::BytePages) {
                ::ntex_grpc::NativeType::serialize(&self.id, 1, ::ntex_grpc::types::DefaultValue::Default, dst);::ntex_grpc::NativeType::serialize(&self.name, 2, ::ntex_grpc::types::DefaultValue::Default, dst);::ntex_grpc::NativeType::serialize(&self.email, 3, ::ntex_grpc::types::DefaultValue::Default, dst);::ntex_grpc::NativeType::serialize(&self.created_at, 4, ::ntex_grpc::types::DefaultValue::Default, dst);::ntex_grpc::NativeType::serialize(&self.status, 5, ::ntex_grpc::types::DefaultValue::Default, dst);
             }

#[inline]
             fn read(src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<Self, ::ntex_grpc::DecodeError> {
                 let mut msg = Self::default();
                 ::ntex_grpc::Message::merge_from(&mut msg, src)?;
                 Ok(msg)
             }

             #[inline]
             fn merge_from(&mut self, src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<(), ::ntex_grpc::DecodeError> {
                 const STRUCT_NAME: &str = "UserResponse";
                 while !src.is_empty() {
                    let (tag, wire_type) = ::ntex_grpc::encoding::decode_key(src)?;
                    match tag {
                 1 => ::ntex_grpc::NativeType::deserialize(&mut self.id, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "id"))?,2 => ::ntex_grpc::NativeType::deserialize(&mut self.name, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "name"))?,3 => ::ntex_grpc::NativeType::deserialize(&mut self.email, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "email"))?,4 => ::ntex_grpc::NativeType::deserialize(&mut self.created_at, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "created_at"))?,5 => ::ntex_grpc::NativeType::deserialize(&mut self.status, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "status"))?,
                 _ => ::ntex_grpc::encoding::skip_field(wire_type, tag, src)?,
             }
                 }
                 Ok(())
             }

#[inline]
             fn encoded_len(&self) -> usize {
                 0  + ::ntex_grpc::NativeType::serialized_len(&self.id, 1, ::ntex_grpc::types::DefaultValue::Default) + ::ntex_grpc::NativeType::serialized_len(&self.name, 2, ::ntex_grpc::types::DefaultValue::Default) + ::ntex_grpc::NativeType::serialized_len(&self.email, 3, ::ntex_grpc::types::DefaultValue::Default) + ::ntex_grpc::NativeType::serialized_len(&self.created_at, 4, ::ntex_grpc::types::DefaultValue::Default) + ::ntex_grpc::NativeType::serialized_len(&self.status, 5, ::ntex_grpc::types::DefaultValue::Default)
             }

}

impl ::std::default::Default for UserResponse {
                 #[inline]
                 fn default() -> Self {
                     Self { id: ::core::default::Default::default(),
name: ::core::default::Default::default(),
email: ::core::default::Default::default(),
created_at: ::core::default::Default::default(),
status: ::core::default::Default::default(),
 }
                 }
             }


        impl ::ntex_grpc::Message for CreateUsersResponse {
#[inline]
              fn write(&self, dst: &mut ::ntex_grpc::BytePages) {
                ::ntex_grpc::NativeType::serialize(&self.created_count, 1, ::ntex_grpc::types::DefaultValue::Default, dst);::ntex_grpc::NativeType::serialize(&self.user_ids, 2, ::ntex_grpc::types::DefaultValue::Default, dst);
             }

#[inline]
             fn read(src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<Self, ::ntex_grpc::DecodeError> {
                 let mut msg = Self::default();
                 ::ntex_grpc::Message::merge_from(&mut msg, src)?;
                 Ok(msg)
             }

             #[inline]
             fn merge_from(&mut self, src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<(), ::ntex_grpc::DecodeError> {
                 const STRUCT_NAME: &str = "CreateUsersResponse";
                 while !src.is_empty() {
                    let (tag, wire_type) = ::ntex_grpc::encoding::decode_key(src)?;
                    match tag {
                 1 => ::ntex_grpc::NativeType::deserialize(&mut self.created_count, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "created_count"))?,2 => ::ntex_grpc::NativeType::deserialize(&mut self.user_ids, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "user_ids"))?,
                 _ => ::ntex_grpc::encoding::skip_field(wire_type, tag, src)?,
             }
                 }
                 Ok(())
             }

#[inline]
             fn encoded_len(&self) -> usize {
                 0  + ::ntex_grpc::NativeType::serialized_len(&self.created_count, 1, ::ntex_grpc::types::DefaultValue::Default) + ::ntex_grpc::NativeType::serialized_len(&self.user_ids, 2, ::ntex_grpc::types::DefaultValue::Default)
             }

}

impl ::std::default::Default for CreateUsersResponse {
                 #[inline]
                 fn default() -> Self {
                     Self { created_count: ::core::default::Default::default(),
user_ids: ::core::default::Default::default(),
 }
                 }
             }


        impl ::ntex_grpc::Message for UserUpdate {
#[inline]
              fn write(&self, dst: &mut ::ntex_grpc::BytePages) {
                ::ntex_grpc::NativeType::serialize(&self.user_id, 1, ::ntex_grpc::types::DefaultValue::Default, dst);::ntex_grpc::NativeType::serialize(&self.name, 2, ::ntex_grpc::types::DefaultValue::Default, dst);::ntex_grpc::NativeType::serialize(&self.email, 3, ::ntex_grpc::types::DefaultValue::Default, dst);
             }

#[inline]
             fn read(src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<Self, ::ntex_grpc::DecodeError> {
                 let mut msg = Self::default();
                 ::ntex_grpc::Message::merge_from(&mut msg, src)?;
                 Ok(msg)
             }

             #[inline]
             fn merge_from(&mut self, src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<(), ::ntex_grpc::DecodeError> {
                 const STRUCT_NAME: &str = "UserUpdate";
                 while !src.is_empty() {
                    let (tag, wire_type) = ::ntex_grpc::encoding::decode_key(src)?;
                    match tag {
                 1 => ::ntex_grpc::NativeType::deserialize(&mut self.user_id, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "user_id"))?,2 => ::ntex_grpc::NativeType::deserialize(&mut self.name, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "name"))?,3 => ::ntex_grpc::NativeType::deserialize(&mut self.email, tag, wire_type, src)
                    .map_err(|err| err.push(STRUCT_NAME, "email"))?,
                 _ => ::ntex_grpc::encoding::skip_field(wire_type, tag, src)?,
             }
                 }
                 Ok(())
             }

#[inline]
             fn encoded_len(&self) -> usize {
                 0  + ::ntex_grpc::NativeType::serialized_len(&self.user_id, 1, ::ntex_grpc::types::DefaultValue::Default) + ::ntex_grpc::NativeType::serialized_len(&self.name, 2, ::ntex_grpc::types::DefaultValue::Default) + ::ntex_grpc::NativeType::serialized_len(&self.email, 3, ::ntex_grpc::types::DefaultValue::Default)
             }

}

impl ::std::default::Default for UserUpdate {
                 #[inline]
                 fn default() -> Self {
                     Self { user_id: ::core::default::Default::default(),
name: ::core::default::Default::default(),
email: ::core::default::Default::default(),
 }
                 }
             }


        impl ::ntex_grpc::NativeType for UserStatus {
                 const TYPE: ::ntex_grpc::WireType = ::ntex_grpc::WireType::Varint;

                 #[inline]
                 fn merge(&mut self, src: &mut ::ntex_grpc::Bytes) -> ::std::result::Result<(), ::ntex_grpc::DecodeError> {
                     *self = ::ntex_grpc::encoding::decode_varint(src).map(|val| Self::from_i32(val as i32).unwrap_or_default())?;
                     Ok(())
                 }

                 #[inline]
                 fn encode_value(&self, dst: &mut ::ntex_grpc::BytePages) {
                    ::ntex_grpc::encoding::encode_varint(*self as i32 as u64, dst);
                 }

                 #[inline]
                 fn encoded_len(&self, tag: u32) -> usize {
                     ::ntex_grpc::encoding::key_len(tag) + ::ntex_grpc::encoding::encoded_len_varint(*self as i32 as u64)
                 }

                 #[inline]
                 fn value_len(&self) -> usize {
                     ::ntex_grpc::encoding::encoded_len_varint(*self as i32 as u64)
                 }

                 #[inline]
                 fn is_default(&self) -> bool {
                     self == &UserStatus::Active
                 }
            }

            impl ::std::default::Default for UserStatus {
                #[inline]
                fn default() -> Self {
                    UserStatus::Active
                }
            }

            impl ::std::convert::From<UserStatus> for i32 {
                #[inline]
                fn from(value: UserStatus) -> i32 {
                    value as i32
                }
            }

impl ::ntex_grpc::ServiceDef for UserService {
            const NAME: &'static str = "ru.tinkoff.kora.example.UserService";
            type Methods = UserServiceMethods;

            #[inline]
            fn method_by_name(name: &str) -> Option<Self::Methods> {
                use ::ntex_grpc::MethodDef;
                match name {
                    UserServiceCreateUserMethod::NAME => Some(UserServiceMethods::CreateUser(UserServiceCreateUserMethod)),
UserServiceGetUserMethod::NAME => Some(UserServiceMethods::GetUser(UserServiceGetUserMethod)),
UserServiceGetAllUsersMethod::NAME => Some(UserServiceMethods::GetAllUsers(UserServiceGetAllUsersMethod)),
UserServiceCreateUsersMethod::NAME => Some(UserServiceMethods::CreateUsers(UserServiceCreateUsersMethod)),
UserServiceUpdateUsersMethod::NAME => Some(UserServiceMethods::UpdateUsers(UserServiceUpdateUsersMethod)),
_ => None
                }
            }
        }

        impl<T> UserServiceClient<T> {
            #[inline]
            /// Create new client instance
            pub fn new(transport: T) -> Self {
                Self(transport)
            }
        }

        impl<T> ::ntex_grpc::client::ClientInformation<T> for UserServiceClient<T> {
            #[inline]
            /// Create new client instance
            fn create(transport: T) -> Self {
                Self(transport)
            }

            #[inline]
            /// Get referece to underlying transport
            fn transport(&self) -> &T {
                &self.0
            }

            #[inline]
            /// Get mut referece to underlying transport
            fn transport_mut(&mut self) -> &mut T {
                &mut self.0
            }

            #[inline]
            /// Consume client and return inner transport
            fn into_inner(self) -> T {
                self.0
            }
        }

        impl<T> UserServiceClient<T> {
            
            pub fn create_user<'a>(&'a self, req: &'a super::CreateUserRequest) -> ::ntex_grpc::client::Request<'a, T, UserServiceCreateUserMethod> {
                ::ntex_grpc::client::Request::new(&self.0, req)
            }
        }

impl<T> UserServiceClient<T> {
            
            pub fn get_user<'a>(&'a self, req: &'a super::GetUserRequest) -> ::ntex_grpc::client::Request<'a, T, UserServiceGetUserMethod> {
                ::ntex_grpc::client::Request::new(&self.0, req)
            }
        }

impl<T> UserServiceClient<T> {
            
            pub fn get_all_users<'a>(&'a self, req: &'a ()) -> ::ntex_grpc::client::StreamRequest<'a, T, UserServiceGetAllUsersMethod, ::ntex_grpc::client::ServerStreaming<'a, ()>> {
                ::ntex_grpc::client::StreamRequest::server_streaming(&self.0, req)
            }
        }

impl<T> UserServiceClient<T> {
            
            pub fn create_users(&self, tx: &::ntex_grpc::SendStream<super::CreateUserRequest>) -> ::ntex_grpc::client::StreamRequest<'_, T, UserServiceCreateUsersMethod, ::ntex_grpc::client::ClientStreaming> {
                ::ntex_grpc::client::StreamRequest::client_streaming(&self.0, tx)
            }
        }

impl<T> UserServiceClient<T> {
            
            pub fn update_users(&self) -> ::ntex_grpc::client::StreamRequest<'_, T, UserServiceUpdateUsersMethod, ::ntex_grpc::client::Bidi> {
                ::ntex_grpc::client::StreamRequest::bidi(&self.0)
            }
        }}