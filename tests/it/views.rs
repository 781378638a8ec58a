//! Views: a caller may be limited to some users and fields, in every RPC of the user service.

use std::sync::{Arc, Mutex};

use balafon::testing::{Recorder, requests};
use balafon::{Code, Request, Status, Streaming};
use futures_util::{Stream, TryStreamExt};
use user_server::domain::{NewUser, User, UserChange, UserId, UserStatus};
use user_server::pb::{CreateUserRequest, GetUserRequest, UserResponse, UserService, UserUpdate};
use user_server::service::{USERS_TOTAL, Users, View};
use user_server::store::ChangeListener;
use user_server::store::memory::MemoryStore;
use user_server::store::{
    Extent, IdempotencyKey, Packed, Page, Part, StoreError, Stored, UserStore,
};

const LIMITED: View = View { masked_email: true, active_only: true };

/// Users called `Gone` are inactive, all others active.
#[derive(Clone, Default)]
struct Mixed(Arc<MemoryStore>);

fn mixed<Text: AsRef<str>>(user: User<Text>) -> User<Text> {
    match user.name.as_ref() {
        "Gone" => User { status: UserStatus::Inactive, ..user },
        _ => user,
    }
}

fn shared(user: Arc<User>) -> Arc<User> {
    Arc::new(mixed((*user).clone()))
}

impl UserStore for Mixed {
    async fn create_one(
        &self,
        user: NewUser,
        key: Option<IdempotencyKey>,
        told: Option<ChangeListener>,
    ) -> Result<Arc<User>, StoreError> {
        self.0.create_one(user, key, told).await
    }

    async fn create_many(
        &self,
        users: Vec<NewUser>,
        part: Option<Part>,
        told: Option<ChangeListener>,
    ) -> Result<Stored, StoreError> {
        self.0.create_many(users, part, told).await
    }

    async fn get(&self, id: UserId) -> Result<Option<Arc<User>>, StoreError> {
        Ok(self.0.get(id).await?.map(shared))
    }

    async fn update(
        &self,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<Arc<User>>, StoreError> {
        Ok(self.0.update(id, change).await?.map(shared))
    }

    async fn extent(&self) -> Result<Extent, StoreError> {
        self.0.extent().await
    }

    fn scan(
        &self,
        after: Option<UserId>,
        extent: Extent,
    ) -> impl Stream<Item = Result<Page, StoreError>> + Send {
        self.0.scan(after, extent).map_ok(|page| {
            let mut users = Packed::with_room_for(page.len());
            page.iter().for_each(|user| users.push(mixed(user)));
            users.into()
        })
    }
}

/// A service with the users Here and Gone, and their ids.
async fn service() -> (Users<Mixed>, Mixed, [String; 2]) {
    let store = Mixed::default();
    let mut ids = [String::new(), String::new()];
    for (name, id) in ["Here", "Gone"].into_iter().zip(&mut ids) {
        let user = NewUser::parse(name, "alice@example.com").unwrap();
        *id = store.create(user).await.unwrap().id.to_string();
    }
    (Users::new(store.clone()), store, ids)
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(LIMITED);
    request
}

async fn update(
    users: &Users<Mixed>,
    id: &str,
    limit: impl FnOnce(Streaming<UserUpdate>) -> Request<Streaming<UserUpdate>>,
) -> Result<Vec<UserResponse>, Status> {
    let update =
        UserUpdate { user_id: id.to_owned(), name: String::new(), email: "bob@b.example".into() };
    let (sender, stream) = requests();
    sender.send(&update);
    sender.half_close();
    let recorder = Recorder::new();
    users.update_users(limit(stream), recorder.sink()).await?;
    Ok(recorder.values())
}

#[tokio::test]
async fn get_user_masks_and_hides() {
    let (users, _, [here, gone]) = service().await;
    let get = |id: &str| limited(GetUserRequest { user_id: id.to_owned() });
    let shown = users.get_user(get(&here)).await.unwrap().message;
    assert_eq!((&*shown.name, &*shown.email), ("Here", "a***@example.com"));
    let hidden = users.get_user(get(&gone)).await.unwrap_err();
    let missing = "01a2035c-fbdf-74b5-ac2d-30dbfd63b6c3";
    let never = users.get_user(get(missing)).await.unwrap_err();
    assert_eq!(hidden.code(), Code::NotFound);
    assert_eq!(hidden.message().replace(&gone, missing), never.message());
    let all = Request::new(GetUserRequest { user_id: gone });
    assert_eq!(users.get_user(all).await.unwrap().message.email, "alice@example.com");
}

#[tokio::test]
async fn get_all_users_masks_hides_and_omits_the_count() {
    let (users, ..) = service().await;
    let recorder = Recorder::<UserResponse>::new();
    users.get_all_users(limited(()), recorder.sink()).await.unwrap();
    let shown = recorder.values();
    assert_eq!(shown.len(), 1);
    assert_eq!((&*shown[0].name, &*shown[0].email), ("Here", "a***@example.com"));
    assert_eq!(recorder.metadata().get(&USERS_TOTAL), None);

    let recorder = Recorder::<UserResponse>::new();
    users.get_all_users(Request::new(()), recorder.sink()).await.unwrap();
    assert_eq!(recorder.values().len(), 2);
    assert_eq!(recorder.metadata().get(&USERS_TOTAL), Some("2"));
}

#[tokio::test]
async fn update_users_masks_and_keeps_hidden_fields() {
    let (users, store, [here, gone]) = service().await;
    let shown = update(&users, &here, limited).await.unwrap();
    assert_eq!(shown[0].email, "b***@b.example");
    let hidden = update(&users, &gone, limited).await.unwrap_err();
    assert_eq!(hidden.code(), Code::NotFound);
    let id = UserId::parse(&gone).unwrap();
    assert_eq!(store.get(id).await.unwrap().unwrap().email, "alice@example.com");
    let shown = update(&users, &gone, Request::new).await.unwrap();
    assert_eq!(shown[0].email, "bob@b.example");
}

#[tokio::test]
async fn create_user_masks_and_create_users_returns_ids_only() {
    let (users, ..) = service().await;
    let request = CreateUserRequest { name: "New".into(), email: "new@example.com".into() };
    let shown = users.create_user(limited(request.clone())).await.unwrap().message;
    assert_eq!(shown.email, "n***@example.com");
    let stream = Streaming::from_messages([request]);
    let created = users.create_users(limited(stream)).await.unwrap().message;
    assert_eq!(created.created_count, 1);
}

#[tokio::test]
async fn change_listener_gets_every_change() {
    let (users, _, [here, _]) = service().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let changes = ChangeListener::new({
        let told = told.clone();
        move |id| told.lock().unwrap().push(id.to_string())
    });
    let new = CreateUserRequest { name: "New".into(), email: "new@example.com".into() };
    let mut request = Request::new(new.clone());
    request.extensions_mut().insert(changes.clone());
    let first = users.create_user(request).await.unwrap().message.id;
    let mut request = Request::new(Streaming::from_messages([new.clone(), new]));
    request.extensions_mut().insert(changes.clone());
    let batch = users.create_users(request).await.unwrap().message.user_ids;
    let changing = |stream| {
        let mut request = Request::new(stream);
        request.extensions_mut().insert(changes);
        request
    };
    update(&users, &here, changing).await.unwrap();
    let expected = [vec![first], batch, vec![here]].concat();
    assert_eq!(*told.lock().unwrap(), expected);
}
