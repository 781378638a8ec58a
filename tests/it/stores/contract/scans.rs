//! Rules of [`UserStore::scan`].

use std::pin::{Pin, pin};

use futures_util::{FutureExt, Stream, TryStreamExt};
use user_server::domain::UserId;
use user_server::store::{Extent, PAGE_LEN, Page, UserStore};

use super::{Place, Scanned, after, alice, all, change, named, users};

async fn ids(scan: impl Stream<Item = Scanned>) -> Vec<UserId> {
    users(scan).await.iter().map(|user| user.id).collect()
}

/// The next page of a scan that has one.
async fn next(scan: &mut Pin<&mut impl Stream<Item = Scanned>>) -> Page {
    scan.try_next().await.unwrap().unwrap()
}

pub async fn scan_has_every_user_once_in_order(place: &impl Place) {
    let store = place.open().await;
    let mut created = Vec::new();
    for count in [0, 1, PAGE_LEN - 1, PAGE_LEN, PAGE_LEN + 1, 3 * PAGE_LEN] {
        let users = (created.len()..count).map(named).collect();
        created.extend(store.create_all(users).await.unwrap());
        let pages: Vec<Page> =
            store.scan(None, store.extent().await.unwrap()).try_collect().await.unwrap();
        assert!(pages.iter().all(|page| page.len() <= PAGE_LEN));
        let scanned: Vec<_> = pages.iter().flat_map(Page::iter).map(|user| user.id).collect();
        assert_eq!(scanned, created);
    }
}

pub async fn scan_begins_after_any_id_up_to_its_extent(place: &impl Place) {
    let store = place.open().await;
    let empty = store.extent().await.unwrap();
    let created = store.create_all((0..5).map(named).collect()).await.unwrap();
    let extent = store.extent().await.unwrap();
    store.create(alice()).await.unwrap();
    assert_eq!(ids(store.scan(None, empty)).await, []);
    assert_eq!(ids(store.scan(None, extent)).await, created);
    for (position, id) in created.iter().enumerate() {
        assert_eq!(ids(store.scan(Some(*id), extent)).await, created[position + 1..]);
        let until = Extent { newest: Some(*id), ..extent };
        assert_eq!(ids(store.scan(None, until)).await, created[..=position]);
    }
    // These are no ids of users.
    let [older_than_all, newer_than_all] = ["00000000", "ffffffff"].map(|digits| {
        UserId::parse(&format!("{digits}-{0}-{0}-{0}-{0}{digits}", &digits[..4])).unwrap()
    });
    assert_eq!(ids(store.scan(Some(older_than_all), extent)).await, created);
    assert_eq!(ids(store.scan(Some(newer_than_all), extent)).await, []);
    let until = Extent { newest: Some(created[1]), ..extent };
    assert_eq!(ids(store.scan(Some(created[3]), until)).await, []);
}

pub async fn scan_has_the_users_of_its_beginning(place: &impl Place) {
    let store = place.open().await;
    const LEN: usize = 2 * PAGE_LEN + 100;
    let ids = store.create_all((0..LEN).map(named).collect()).await.unwrap();
    let last = ids[LEN - 1];
    let mut scan = pin!(store.scan(None, store.extent().await.unwrap()));
    let (mut seen, mut created) = (Vec::new(), 0);
    while let Some(page) = scan.try_next().await.unwrap() {
        for user in page.iter() {
            // The old or the new user, never a mixture.
            let changed = user.id == last && user.name == "changed meanwhile";
            assert!(changed || user.name == format!("user {}", seen.len()));
            seen.push(user.id);
        }
        store.create(alice()).await.unwrap();
        store.update(last, change("changed meanwhile", "")).await.unwrap();
        created += 1;
    }
    assert_eq!(seen, ids);

    let later = after(&store, Some(last)).await;
    assert_eq!(later.len(), created);
    assert!(later.iter().all(|user| user.name == "Alice"));
}

pub async fn scan_reads_only_a_few_pages_ahead(place: &impl Place) {
    let store = place.open().await;
    const PAGES: usize = 8;
    let ids = store.create_all((0..PAGES * PAGE_LEN).map(named).collect()).await.unwrap();
    let last = *ids.last().unwrap();
    let mut scan = pin!(store.scan(None, store.extent().await.unwrap()));
    let (mut seen, mut name) = (0, String::new());
    while seen < (PAGES - 4) * PAGE_LEN {
        seen += next(&mut scan).await.len();
        name = format!("changed behind {seen}");
        store.update(last, change(&name, "")).await.unwrap();
    }
    let rest = users(scan).await;
    assert_eq!(seen + rest.len(), ids.len());
    assert_eq!(rest.last().unwrap().name, name);
}

pub async fn scan_resumes_after_a_cancelled_wait(place: &impl Place) {
    let store = place.open().await;
    let created = store.create_all((0..5 * PAGE_LEN).map(named).collect()).await.unwrap();
    let mut scan = pin!(store.scan(None, store.extent().await.unwrap()));
    let mut seen = Vec::new();
    loop {
        let page = match scan.try_next().now_or_never() {
            Some(page) => page,
            None => scan.try_next().await,
        };
        let Some(page) = page.unwrap() else { break };
        seen.extend(page.iter().map(|user| user.id));
    }
    assert_eq!(seen, created);
    assert!(scan.try_next().await.unwrap().is_none(), "the end stays the end");
}

/// More than any store has connections or threads.
const MANY: usize = 64;

pub async fn scan_abandoned_halfway_leaves_the_store_unchanged(place: &impl Place) {
    let store = place.open().await;
    store.create_all((0..5 * PAGE_LEN).map(named).collect()).await.unwrap();
    for waited_for in [true, false].into_iter().cycle().take(MANY) {
        let mut scan = pin!(store.scan(None, store.extent().await.unwrap()));
        if waited_for {
            next(&mut scan).await;
        }
        let _ = scan.try_next().now_or_never();
    }
    store.create(alice()).await.unwrap();
    assert_eq!(all(&store).await.len(), 5 * PAGE_LEN + 1);
}

pub async fn stalled_scans_delay_no_call(place: &impl Place) {
    let store = place.open().await;
    let ids = store.create_all((0..5 * PAGE_LEN).map(named).collect()).await.unwrap();
    let extent = store.extent().await.unwrap();
    let mut resting: Vec<_> = (0..MANY).map(|_| Box::pin(store.scan(None, extent))).collect();
    let mut seen = 0;
    for scan in &mut resting {
        seen = next(&mut scan.as_mut()).await.len();
    }
    for id in &ids[..MANY] {
        assert!(store.get(*id).await.unwrap().is_some());
        assert!(store.update(*id, change("Bob", "")).await.unwrap().is_some());
        store.create(alice()).await.unwrap();
    }
    assert_eq!(all(&store).await.len(), 5 * PAGE_LEN + MANY);
    for scan in resting {
        assert_eq!(seen + users(scan).await.len(), 5 * PAGE_LEN);
    }
}
