//! The directory on a private Redis: what counts, what is void, what is swept.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use petrel_core::id::{NodeId, UserId};
use petrel_storage::redis::testing::PrivateRedis;
use petrel_storage::redis::{Directory, DirectoryError, Generation, Lease, Place, Presence};

/// Long enough not to end within a test that does not wait for it.
const LONG: Duration = Duration::from_secs(300);

fn directory(redis: &PrivateRedis, node: u8, lease: Duration) -> Directory {
    Directory::new(&redis.url(), "test", NodeId([node; 16]), lease).unwrap()
}

fn user(n: u8) -> UserId {
    UserId([n; 16])
}

fn on(n: u8, sessions: usize) -> Presence {
    Presence { user: user(n), sessions, attentive: sessions / 2 }
}

fn at(directory: &Directory, sessions: usize) -> Place {
    Place { node: directory.node(), sessions, attentive: sessions / 2 }
}

#[tokio::test]
async fn a_user_is_found_on_every_node_that_lives() {
    let redis = PrivateRedis::start().unwrap();
    let (one, two) = (directory(&redis, 1, LONG), directory(&redis, 2, LONG));
    let (mut a, mut b) = (one.connect().await.unwrap(), two.connect().await.unwrap());
    let g = Generation(1);
    for link in [&mut a, &mut b] {
        assert_eq!(link.write(g, g, &[on(7, 2)]).await.unwrap(), Lease::Lost);
        assert_eq!(link.look_up(user(7)).await.unwrap(), vec![], "no marker, no entry");
    }
    a.claim(g).await.unwrap();
    assert_eq!(b.look_up(user(7)).await.unwrap(), vec![at(&one, 2)]);
    b.claim(g).await.unwrap();
    let mut found = a.look_up(user(7)).await.unwrap();
    found.sort();
    assert_eq!(found, vec![at(&one, 2), at(&two, 2)]);
    // A node removes its own entry only.
    assert_eq!(a.write(g, g, &[on(7, 0)]).await.unwrap(), Lease::Held);
    assert_eq!(a.look_up(user(7)).await.unwrap(), vec![at(&two, 2)]);
    b.leave().await.unwrap();
    assert_eq!(a.look_up(user(7)).await.unwrap(), vec![]);
}

#[tokio::test]
async fn what_is_known_of_a_node_is_there_as_long_as_its_lease() {
    let redis = PrivateRedis::start().unwrap();
    let key = format!("petrel:test:a:{}", NodeId([1; 16]));
    let known = || redis.ask(&["GET", &key]).unwrap().concat();
    let g = Generation(1);
    let one = directory(&redis, 1, LONG);
    let mut link = one.connect().await.unwrap();
    link.claim(g).await.unwrap();
    assert_eq!(known(), "", "nothing was said of it");
    one.describe("serving at here:1".to_owned());
    link.write(g, g, &[]).await.unwrap();
    assert_eq!(known(), "serving at here:1");
    one.describe("draining at here:1".to_owned());
    link.claim(g).await.unwrap();
    assert_eq!(known(), "draining at here:1");
    link.leave().await.unwrap();
    assert_eq!(known(), "");
    let short = directory(&redis, 1, Duration::from_millis(1));
    short.describe("gone soon".to_owned());
    short.connect().await.unwrap().claim(g).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(known(), "");
}

#[tokio::test]
async fn what_a_dead_node_left_behind_is_void_and_swept() {
    let redis = PrivateRedis::start().unwrap();
    let (one, two) = (directory(&redis, 1, LONG), directory(&redis, 2, Duration::from_millis(1)));
    let (mut a, mut b) = (one.connect().await.unwrap(), two.connect().await.unwrap());
    let g = Generation(1);
    a.claim(g).await.unwrap();
    a.write(g, g, &[on(7, 1)]).await.unwrap();
    b.claim(g).await.unwrap();
    b.write(g, g, &[on(7, 1), on(8, 1)]).await.unwrap();
    // Its lease of a millisecond ends by itself.
    while !redis.ask(&["EXISTS", &format!("petrel:test:n:{}", two.node())]).unwrap()[0].eq("0") {}
    assert_eq!(a.look_up(user(7)).await.unwrap(), vec![at(&one, 1)]);
    assert_eq!(a.look_up(user(8)).await.unwrap(), vec![]);
    assert_eq!(a.sweep(&[user(7), user(8)]).await.unwrap(), 2);
    assert_eq!(redis.ask(&["HLEN", &format!("petrel:test:u:{}", user(7))]).unwrap(), ["1"]);
    assert_eq!(redis.ask(&["EXISTS", &format!("petrel:test:u:{}", user(8))]).unwrap(), ["0"]);
    // Every key of the directory ends by itself.
    for key in redis.ask(&["KEYS", "*"]).unwrap() {
        let left: i64 = redis.ask(&["PTTL", &key]).unwrap()[0].parse().unwrap();
        assert!(left > 0, "{key} lives for ever");
    }
}

#[tokio::test]
async fn an_older_generation_is_void_once_the_marker_is_raised() {
    let redis = PrivateRedis::start().unwrap();
    let one = directory(&redis, 1, LONG);
    let mut link = one.connect().await.unwrap();
    link.claim(Generation(1)).await.unwrap();
    link.write(Generation(1), Generation(1), &[on(7, 1), on(8, 1)]).await.unwrap();
    link.write(Generation(1), Generation(2), &[on(7, 1)]).await.unwrap();
    assert_eq!(link.look_up(user(8)).await.unwrap().len(), 1, "until all is written again");
    link.write(Generation(2), Generation(2), &[]).await.unwrap();
    assert_eq!(link.look_up(user(7)).await.unwrap().len(), 1);
    assert_eq!(link.look_up(user(8)).await.unwrap(), vec![]);
    redis.ask(&["FLUSHALL"]).unwrap();
    let lease = link.write(Generation(2), Generation(2), &[on(7, 1)]).await.unwrap();
    assert_eq!(lease, Lease::Lost);
}

#[tokio::test]
async fn what_cannot_be_used_is_named_without_its_password() {
    let redis = PrivateRedis::start_with(Some("right")).unwrap();
    let node = NodeId([1; 16]);
    let open = |url: &str| Directory::new(url, "test", node, LONG);
    let wrong = open(&format!("redis://:hunter2@127.0.0.1:{}", redis.port())).unwrap();
    let error = wrong.connect().await.unwrap_err();
    assert!(matches!(error, DirectoryError::Refused { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("redis.url") && !text.contains("hunter2"), "{text}");
    let none = open(&format!("redis://127.0.0.1:{}", redis.port())).unwrap();
    let mut link = none.connect().await.unwrap();
    let error = link.claim(Generation(1)).await.unwrap_err();
    assert!(matches!(error, DirectoryError::Refused { .. }), "{error:?}");
    // Nobody listens on port 1.
    let error = open("redis://:hunter2@127.0.0.1:1").unwrap().connect().await.unwrap_err();
    assert!(matches!(error, DirectoryError::Unreachable { .. }), "{error:?}");
    for url in ["http://h", "redis://h:port", ""] {
        assert!(matches!(open(url), Err(DirectoryError::Url(_))), "{url}");
    }
    let facts = open(&redis.url()).unwrap().connect().await.unwrap().facts().await.unwrap();
    assert!(!facts.version.is_empty() && facts.evicts_by.is_none(), "{facts:?}");
}
