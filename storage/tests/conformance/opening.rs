//! What can be opened, by whom, and what a server's troubles mean to a store.

use std::time::{Duration, Instant};

use petrel_core::store::StoreError;
use petrel_storage::testing::{PrivatePostgres, Stop};
use petrel_storage::{OpenError, StoreOptions};
use sqlx::{Connection as _, PgConnection};

use crate::support::{World, message};

fn assert_transient(error: &StoreError) {
    assert!(matches!(error, StoreError::Transient(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_opened_by_two_at_once_and_its_writers_survive_what_happens_to_it() {
    let mut server = PrivatePostgres::start().unwrap();
    let url = server.create_database("petrel").unwrap();
    let (mut world, other) = tokio::join!(
        World::open("postgres", &url),
        petrel_storage::open(&url, StoreOptions::default())
    );
    drop(other.unwrap());
    an_error_refuses_the_whole_batch_and_leaves_no_hole(&server, &url, &mut world).await;
    a_restart_costs_one_error(&mut server, &mut world).await;
    a_server_that_answers_nothing_costs_our_deadline(&server, &mut world).await;
    a_server_that_became_read_only_is_left_until_it_is_not(&server, &mut world).await;
    drop(world);
    a_role_that_can_make_no_tables_can_run_on_tables_that_are_ready(&server).await;
}

async fn an_error_refuses_the_whole_batch_and_leaves_no_hole(
    server: &PrivatePostgres,
    url: &str,
    world: &mut World,
) {
    let (a, _, c) = world.pair().await;
    let batch = [message(c, a, 1, 1, "good"), message(c, a, 1, 2, "evil")];
    // What the database refuses because of the data is permanent.
    let refuse = "ALTER TABLE entry ADD CONSTRAINT no_evil CHECK (body <> 'evil')";
    server.sql("petrel", refuse).unwrap();
    let error = world.append(&batch).await.unwrap_err();
    assert!(matches!(error, StoreError::Permanent(_)), "{error}");
    assert!(error.to_string().contains("23514"), "{error}");
    assert!(world.all(c).await.is_empty());
    assert_eq!(world.answers(&batch[..1]).await, "n1");
    let allow = "ALTER TABLE entry DROP CONSTRAINT no_evil";
    server.sql("petrel", allow).unwrap();
    // A lock that somebody keeps is not.
    let mut holder = PgConnection::connect(url).await.unwrap();
    let mut lock = holder.begin().await.unwrap();
    sqlx::query("SELECT FROM conversation WHERE id = $1 FOR UPDATE")
        .bind(sqlx::types::Uuid::from(c))
        .execute(&mut *lock)
        .await
        .unwrap();
    let error = world.append(&batch).await.unwrap_err();
    assert_transient(&error);
    assert!(error.to_string().contains("55P03"), "{error}");
    lock.rollback().await.unwrap();
    assert_eq!(world.answers(&batch).await, "d1 n2");
    world.check(c).await;
}

async fn a_restart_costs_one_error(server: &mut PrivatePostgres, world: &mut World) {
    let (a, _, c) = world.pair().await;
    assert_eq!(world.answers(&[message(c, a, 1, 1, "x")]).await, "n1");
    for (id, how) in [(2, Stop::Fast), (3, Stop::Immediate)] {
        server.restart(how).unwrap();
        // The connection is gone: that is told once, then a new one is made.
        let batch = [message(c, a, 1, id, "y")];
        assert_transient(&world.append(&batch).await.unwrap_err());
        assert_eq!(world.answers(&batch).await, format!("n{id}"));
        world.check(c).await;
    }
}

/// Nothing is lost or stored twice by it.
async fn a_server_that_answers_nothing_costs_our_deadline(
    server: &PrivatePostgres,
    world: &mut World,
) {
    let (a, _, c) = world.pair().await;
    let batch = [message(c, a, 1, 1, "x")];
    server.pause().unwrap();
    let begun = Instant::now();
    assert_transient(&world.append(&batch).await.unwrap_err());
    assert!(world.store.durability().await.is_err());
    let bound = StoreOptions::default().deadline * 3;
    assert!(begun.elapsed() < bound, "{:?}", begun.elapsed());
    server.unpause().unwrap();
    let answer = world.answers(&batch).await;
    assert!(answer == "n1" || answer == "d1", "{answer}");
    world.check(c).await;
}

/// After a failover the old server goes on answering, pings included.
async fn a_server_that_became_read_only_is_left_until_it_is_not(
    server: &PrivatePostgres,
    world: &mut World,
) {
    let (a, b, c) = world.pair().await;
    let reload = |change: &str| {
        server.sql("postgres", change).unwrap();
        server.sql("postgres", "SELECT pg_reload_conf()").unwrap();
        Instant::now() + Duration::from_secs(30)
    };
    let deadline = reload("ALTER SYSTEM SET default_transaction_read_only = on");
    let mut refused = 0;
    while refused < 2 {
        // Until the reload has reached our session, it still takes them.
        match world.append(&[message(c, a, 1, 1, "x")]).await {
            Err(error) => {
                assert_transient(&error);
                refused += 1;
            }
            Ok(_) => assert!(Instant::now() < deadline, "still written to"),
        }
    }
    assert!(world.store.durability().await.is_err());
    assert_transient(&world.store.set_block(a, b, true).await.unwrap_err());
    let deadline = reload("ALTER SYSTEM RESET default_transaction_read_only");
    while world.append(&[message(c, a, 1, 1, "x")]).await.is_err() {
        assert!(Instant::now() < deadline, "not written to again");
    }
    assert!(world.store.set_block(a, b, true).await.unwrap());
    assert!(world.store.durability().await.unwrap().durable);
    world.check(c).await;
}

async fn a_role_that_can_make_no_tables_can_run_on_tables_that_are_ready(server: &PrivatePostgres) {
    let url = &server.create_database("other").unwrap();
    drop(petrel_storage::open(url, StoreOptions::default()).await.unwrap());
    let grant = "CREATE ROLE gateway LOGIN; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO gateway";
    server.sql("other", grant).unwrap();
    let restricted = url.replace("petrel@", "gateway:secret@");
    let world = World::open("postgres", &restricted).await;
    let told = format!("{:?} {:?}", world.store, world.appender);
    assert!(!told.contains("secret"), "{told}");
    assert!(server.sql("other", "SET ROLE gateway; CREATE TABLE t ()").is_err());
    let mut other = World::open("postgres", &restricted).await;
    let (a, _, c) = world.pair().await;
    assert_eq!(other.answers(&[message(c, a, 1, 1, "x")]).await, "n1");
    // With a migration of a later version it is refused, and told so.
    server
        .sql("other", "INSERT INTO _sqlx_migrations VALUES (99, 'later', now(), true, '', 0)")
        .unwrap();
    match petrel_storage::open(url, StoreOptions::default()).await {
        Err(error @ OpenError::Migrate { .. }) => assert!(error.to_string().contains("newer")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_why() {
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name).display().to_string();
    let open = |url: String| async move {
        match petrel_storage::open(&url, StoreOptions::default()).await {
            Ok(store) => panic!("{store:?} was opened"),
            Err(error) => error,
        }
    };
    let error = open("mysql://x".to_owned()).await;
    assert!(error.to_string().contains("sqlite:PATH"), "{error}");
    assert!(matches!(open("sqlite:".to_owned()).await, OpenError::UrlInvalid { .. }));

    // One gateway a database.
    let url = format!("sqlite:{}", at("deep/er/petrel.db"));
    let store = petrel_storage::open(&url, StoreOptions::default()).await.unwrap();
    let error = open(url.clone()).await;
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("petrel.db.lock"), "{error}");
    let appender = store.appender();
    drop(store);
    assert!(matches!(open(url.clone()).await, OpenError::InUse { .. }));
    drop(appender);
    drop(petrel_storage::open(&url, StoreOptions::default()).await.unwrap());
    for (path, mode) in [("deep", 0o700), ("deep/er/petrel.db", 0o600)] {
        use std::os::unix::fs::PermissionsExt as _;
        let found = std::fs::metadata(at(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }

    // A directory, and a file that is something else.
    std::fs::create_dir(at("directory")).unwrap();
    let error = open(format!("sqlite:{}", at("directory"))).await;
    assert!(error.to_string().contains("directory"), "{error}");
    std::fs::write(at("text"), "this is no database, but long enough to have a header".repeat(20))
        .unwrap();
    let error = open(format!("sqlite:{}", at("text"))).await;
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
    std::fs::write(at("file"), "").unwrap();
    let error = open(format!("sqlite:{}", at("file/petrel.db"))).await;
    assert!(matches!(error, OpenError::File { .. }), "{error}");

    // Nobody listens; and the message has no password.
    let error = open("postgres://petrel:secret@127.0.0.1:1/nothing".to_owned()).await;
    assert!(matches!(error, OpenError::Connect { .. }), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}
