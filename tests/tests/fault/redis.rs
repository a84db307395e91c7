//! Redis is flushed, stopped in its tracks, killed, started empty: chat does not notice, and the
//! mirror is whole again.

use anyhow::{Context as _, Result, ensure};
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, frame::What as Said};
use petrel_storage::redis::testing::PrivateRedis;
use petrel_tests::checker::Expectations;
use petrel_tests::checker::event::{FaultKind, What};
use petrel_tests::cluster::{Gateway, PATIENCE, Person, Stage, eventually};
use petrel_tests::raw::Raw;

const BOUND: &str = "redis.lease=2s";

/// How many gateways say that this user is signed in: entries whose marker lives.
fn places(redis: &PrivateRedis, person: &Person) -> Result<usize> {
    let entries =
        redis.ask(&["HGETALL", &format!("petrel:petrel:u:{}", hex(person))]).unwrap_or_default();
    let mut live = 0;
    for pair in entries.chunks_exact(2) {
        let lowest = redis.ask(&["GET", &format!("petrel:petrel:n:{}", pair[0])])?;
        let generation = pair[1].split(' ').next().context("no generation")?;
        let lowest: Option<u64> = lowest.first().and_then(|l| l.parse().ok());
        live += usize::from(lowest.is_some_and(|l| generation.parse().is_ok_and(|g: u64| g >= l)));
    }
    Ok(live)
}

fn hex(person: &Person) -> String {
    person.user().to_string().replace('-', "")
}

async fn mirrored(redis: &PrivateRedis, person: &Person, wanted: usize) -> Result<()> {
    let what = format!("the mirror names {wanted} places of {}", hex(person));
    let look = || async { Ok((places(redis, person)? == wanted).then_some(())) };
    eventually(PATIENCE, &what, look).await
}

async fn chats(gateway: &Gateway, one: &Person, other: &Person, what: &str) -> Result<()> {
    for n in 0..20 {
        one.say(&one.with(other), format!("{what} {n}")).await?;
    }
    ensure!(gateway.readyz().await?.0 == 200, "{what}: not ready");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_goes_on_whatever_redis_does_and_the_mirror_is_mended() -> Result<()> {
    let stage = Stage::sqlite()?;
    let mut redis = tokio::task::spawn_blocking(PrivateRedis::start).await??;
    let url = format!("redis.url={}", redis.url());
    let gateway = stage.gateway(&[&url, BOUND]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    mirrored(&redis, &alice, 1).await?;
    mirrored(&redis, &bob, 1).await?;
    let carol = stage.person(&gateway, "carol").await?;
    mirrored(&redis, &carol, 1).await?;
    let user = hex(&carol);
    carol.leave().await;
    let gone = || async {
        let key = format!("petrel:petrel:u:{user}");
        Ok((redis.ask(&["EXISTS", &key])? == ["0"]).then_some(()))
    };
    eventually(PATIENCE, "carol leaves the mirror", gone).await?;

    redis.ask(&["FLUSHALL"])?;
    chats(&gateway, &alice, &bob, "flushed").await?;
    mirrored(&redis, &alice, 1).await?;
    mirrored(&redis, &bob, 1).await?;
    let rebuilt = gateway.metric("petrel_gateway_mirror_rebuilds_total", "reason=\"lost\"").await?;
    ensure!(rebuilt >= 1.0, "no loss was noticed");

    stage.record(What::Fault { kind: FaultKind::Pause, detail: "Redis, SIGSTOP".to_owned() });
    redis.pause()?;
    let down = || async {
        Ok((gateway.metric("petrel_gateway_mirror_up", "").await? == 0.0).then_some(()))
    };
    eventually(PATIENCE, "the mirror notices the pause", down).await?;
    let dave = stage.person(&gateway, "dave").await?;
    chats(&gateway, &alice, &dave, "paused").await?;
    ensure!(gateway.metric("petrel_gateway_mirror_lag_seconds", "").await? > 0.0);
    ensure!(gateway.metric("petrel_gateway_mirror_errors_total", "").await? > 0.0);
    redis.unpause()?;
    stage.record(What::Heal);
    mirrored(&redis, &dave, 1).await?;
    mirrored(&redis, &bob, 1).await?;

    redis.stop()?;
    eventually(PATIENCE, "the mirror notices the end", down).await?;
    chats(&gateway, &dave, &bob, "stopped").await?;
    redis.start_again()?;
    for person in [&alice, &bob, &dave] {
        mirrored(&redis, person, 1).await?;
    }
    let caught_up = || async {
        Ok((gateway.metric("petrel_gateway_mirror_lag_seconds", "").await? == 0.0).then_some(()))
    };
    eventually(PATIENCE, "no change waits any more", caught_up).await?;
    let expected = Expectations { acks_min: 60, delivers_min: 120, ..Expectations::default() };
    stage.judge(&gateway, &expected).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_or_dies_leaves_the_mirror() -> Result<()> {
    let stage = Stage::sqlite()?;
    let redis = tokio::task::spawn_blocking(PrivateRedis::start).await??;
    let url = format!("redis.url={}", redis.url());
    let mut gateway = stage.gateway(&[&url, BOUND]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    mirrored(&redis, &alice, 1).await?;
    // Killed, it says nothing; its lease ends. Only then does the client come back.
    gateway.signal(petrel_tests::cluster::Signal::Kill)?;
    gateway.wait(PATIENCE).await?;
    mirrored(&redis, &alice, 0).await?;
    gateway.restart().await?;
    mirrored(&redis, &alice, 1).await?;
    gateway.signal(petrel_tests::cluster::Signal::Terminate)?;
    gateway.wait(PATIENCE).await?;
    ensure!(redis.ask(&["KEYS", "petrel:petrel:n:*"])?.iter().all(String::is_empty));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_or_with_a_wrong_password_a_gateway_serves_and_says_so() -> Result<()> {
    let stage = Stage::sqlite()?;
    let redis = tokio::task::spawn_blocking(|| PrivateRedis::start_with(Some("right"))).await??;
    for (url, kind) in [
        (format!("redis://:wrong@127.0.0.1:{}", redis.port()), "kind=\"refused\""),
        ("redis://127.0.0.1:1".to_owned(), "kind=\"unreachable\""),
    ] {
        let gateway = stage.gateway(&[&format!("redis.url={url}")]).await?;
        let told = || async {
            let errors = gateway.metric("petrel_gateway_mirror_errors_total", kind).await?;
            Ok((errors > 0.0).then_some(()))
        };
        eventually(PATIENCE, kind, told).await?;
        let name = kind.split('"').nth(1).context("no name")?;
        let (one, other) = (format!("{name}-1"), format!("{name}-2"));
        let one = stage.person(&gateway, &one).await?;
        let other = stage.person(&gateway, &other).await?;
        chats(&gateway, &one, &other, name).await?;
    }
    Ok(())
}

/// Whether he looks: what others may be told of him.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_the_background_is_mirrored_as_signed_in_and_not_attentive() -> Result<()> {
    let stage = Stage::sqlite()?;
    let redis = tokio::task::spawn_blocking(PrivateRedis::start).await??;
    let gateway = stage.gateway(&[&format!("redis.url={}", redis.url())]).await?;
    let identity = gateway.dialer()?.register("alice", "test").await?;
    let (_alice, mut control) = Raw::sign_in(&gateway, &identity).await?;
    let key = format!("petrel:petrel:u:{}", identity.user.to_string().replace('-', ""));
    for (background, wanted) in [(false, "1 1"), (true, "1 0"), (false, "1 1")] {
        control.write(bare(Said::Attention(wire::Attention { background }))).await?;
        let look = || async {
            let entries = redis.ask(&["HVALS", &key])?;
            let is_so = |entry: &String| entry.split_once(' ').is_some_and(|(_, it)| it == wanted);
            Ok((entries.len() == 1 && entries.iter().all(is_so)).then_some(()))
        };
        eventually(PATIENCE, &format!("the mirror says {wanted}"), look).await?;
    }
    Ok(())
}
