//! Streams with a key: a store keeps their progress.

use std::sync::{Arc, Mutex};

use user_server::domain::{NewUser, UserId};
use user_server::store::ChangeListener;
use user_server::store::{Known, Mark, Part, StoreError, Stored, UserStore};

use super::{Place, alice, all, key, named};

/// A stream with this many users, whose parts may begin and end anywhere.
struct Stream {
    users: Vec<NewUser>,
}

impl Stream {
    fn new(len: usize) -> Self {
        Self { users: (0..len).map(named).collect() }
    }

    fn mark(&self, users: usize) -> Mark {
        self.users[..users].iter().fold(Mark::START, Mark::then)
    }

    async fn create(
        &self,
        store: &impl UserStore,
        from: usize,
        to: usize,
        ends: bool,
    ) -> Result<Stored, StoreError> {
        let (begin, end) = (self.mark(from), self.mark(to));
        let part = Part { key: key("me", "k"), from: begin, to: end, ends };
        store.create_many(self.users[from..to].to_vec(), Some(part), None).await
    }
}

async fn ids(store: &impl UserStore) -> Vec<UserId> {
    all(store).await.iter().map(|user| user.id).collect()
}

pub async fn keyed_stream_resumes_where_it_stopped(place: &impl Place) {
    let (store, stream) = (place.open().await, Stream::new(7));
    let mut created = Vec::new();
    for (from, to, ends) in [(0, 3, false), (3, 4, false), (4, 7, false), (7, 7, true)] {
        match stream.create(&store, from, to, ends).await.unwrap() {
            Stored::Now(ids) => created.extend(ids),
            Stored::Before(known) => panic!("{known:?}"),
        }
        // It was stored once.
        assert!(matches!(stream.create(&store, from, to, ends).await, Ok(Stored::Before(_))));
    }
    assert_eq!(ids(&store).await, created);
    let ended = Known { ids: created, mark: stream.mark(7), ended: true };
    assert_eq!(stream.create(&store, 0, 7, true).await.unwrap(), Stored::Before(ended.clone()));
    // The stream has no more users.
    assert_eq!(Stream::new(8).create(&store, 7, 8, true).await.unwrap(), Stored::Before(ended));
}

pub async fn keyed_stream_repeated_gets_the_stored_users(place: &impl Place) {
    let (store, stream) = (Arc::new(place.open().await), Stream::new(5));
    // Perhaps in one group commit: one of them is stored.
    let first = async || stream.create(&*store, 0, 3, false).await.unwrap();
    let second = async || stream.create(&*store, 3, 5, true).await.unwrap();
    let (one, other, _) = tokio::join!(first(), first(), second());
    let stored = [&one, &other].into_iter().filter(|it| matches!(it, Stored::Now(_))).count();
    assert_eq!(stored, 1);
    for outcome in [one, other, first().await] {
        let (Stored::Now(told) | Stored::Before(Known { ids: told, .. })) = outcome;
        assert!(ids(&*store).await.starts_with(&told));
    }
    let nothing = Known { ids: Vec::new(), mark: Mark::START, ended: false };
    let unknown =
        Part { key: key("me", "l"), from: stream.mark(1), to: stream.mark(2), ends: true };
    let outcome = store.create_many(vec![named(1)], Some(unknown), None).await.unwrap();
    assert_eq!(outcome, Stored::Before(nothing));
}

pub async fn key_belongs_to_one_user_or_one_stream(place: &impl Place) {
    let (store, stream) = (place.open().await, Stream::new(1));
    store.create_once(key("me", "k"), named(0)).await.unwrap();
    assert!(stream.create(&store, 0, 1, true).await.unwrap_err().is_key_reused());
    let part = Part { key: key("", "k"), from: Mark::START, to: stream.mark(1), ends: true };
    store.create_many(vec![named(0)], Some(part), None).await.unwrap();
    assert!(store.create_once(key("", "k"), named(0)).await.unwrap_err().is_key_reused());
    assert_eq!(store.extent().await.unwrap().total, 2);
}

pub async fn empty_stream_takes_no_key(place: &impl Place) {
    let store = place.open().await;
    let outcome = Stream::new(0).create(&store, 0, 0, true).await.unwrap();
    assert_eq!(outcome, Stored::Now(Vec::new()));
    store.create_once(key("me", "k"), alice()).await.unwrap();
}

pub async fn creator_gets_the_ids_before_they_are_visible(place: &impl Place) {
    let store = place.open().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let changes = || {
        let told = told.clone();
        Some(ChangeListener::new(move |id| told.lock().unwrap().push(id)))
    };
    let first = store.create_one(alice(), Some(key("", "k")), changes()).await.unwrap();
    store.create_many(vec![alice(); 3], None, changes()).await.unwrap();
    store.create_one(alice(), None, changes()).await.unwrap();
    let stored = ids(&store).await;
    assert_eq!(*told.lock().unwrap(), stored);
    // Also for the users that were created before.
    store.create_one(alice(), Some(key("", "k")), changes()).await.unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&first.id));
}

pub async fn reopened_store_resumes_a_stream(place: &impl Place) {
    let stream = Stream::new(600);
    let Stored::Now(first) = stream.create(&place.open().await, 0, 520, false).await.unwrap()
    else {
        panic!("it was stored before");
    };
    let store = place.open().await;
    let known = Known { ids: first.clone(), mark: stream.mark(520), ended: false };
    assert_eq!(stream.create(&store, 0, 256, false).await.unwrap(), Stored::Before(known));
    let Stored::Now(rest) = stream.create(&store, 520, 600, true).await.unwrap() else {
        panic!("it was stored before");
    };
    assert_eq!(ids(&store).await, [first, rest].concat());
}
