//! Streams that the server opens, hints when it may not, one stream that replaces another.

use anyhow::{Result, bail};
use petrel_client::{ClientOptions, Dialer};
use petrel_proto::wire::frame::What;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::Stage;
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw};

on_both_stores!(
    without_credit_for_a_stream_a_hint_comes_and_attaching_gives_the_rest,
    the_newest_attach_takes_over_and_the_older_stream_ends_with_superseded,
);

async fn without_credit_for_a_stream_a_hint_comes_and_attaching_gives_the_rest(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let identity = gateway.dialer()?.register("bob", "test").await?;
    let mut options = gateway.dialer_options()?;
    options.transport.server_streams_max = 1;
    let bob = stage.device_with(ClientOptions::new(Dialer::new(options)?, identity)).await?;
    let mut senders = Vec::new();
    for n in 0..4 {
        let sender = stage.person(&gateway, &format!("sender{n}")).await?;
        sender.say(&sender.with(&bob), format!("from {n}")).await?;
        senders.push(sender);
    }
    let pairs: Vec<_> = senders.iter().map(|sender| bob.with(sender)).collect();
    bob.until("one stream and hints for the rest", |s| {
        let known = |id| s.count(id) > 0 || s.hints.iter().any(|(c, _)| *c == id);
        pairs.iter().all(|pair| known(pair.id)).then_some(())
    })
    .await?;
    assert!(bob.seen(|s| !s.hints.is_empty()), "no hint came");
    assert!(bob.seen(|s| pairs.iter().any(|p| s.count(p.id) > 0)), "no stream was opened");
    for pair in &pairs {
        bob.attach(pair, None)?;
        bob.has(pair.id, 1).await?;
    }
    stage.judge(&gateway, &Expectations { acks_min: 4, ..Expectations::default() }).await?;
    Ok(())
}

async fn the_newest_attach_takes_over_and_the_older_stream_ends_with_superseded(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = gateway.dialer()?.register("bob", "test").await?;
    let pair = alice.with_user(bob.user);
    let (raw, _control) = Raw::sign_in(&gateway, &bob).await?;

    // The server opens a stream, whose pushes start after what its Attach names.
    alice.say(&pair, "one").await?;
    let mut opened = raw.accept().await?;
    let Some((_, What::Attach(attach))) = opened.next().await? else { bail!("no Attach") };
    assert_eq!((attach.cursor.unwrap_or_default().seq, attach.head), (0, 1));
    let Some((frame, What::Push(_))) = opened.next().await? else { bail!("no Push") };
    assert_eq!(frame.seq, 1);

    let (mut stream, answer) = raw.attach(raw::attach(bob.user, alice.user())).await?;
    assert_eq!(answer.head, 1);
    let mut superseded = false;
    while let Some((_, what)) = opened.next().await? {
        superseded |= matches!(what, What::Superseded(_));
    }
    assert!(superseded, "the older stream ends with Superseded");
    let Some((frame, What::Push(_))) = stream.next().await? else { bail!("no Push") };
    assert_eq!(frame.seq, 1);
    // Sends go on the newest; what is sent on the older one still has no place.
    stream.write(raw::send(1, raw::message_id(raw::now_ms()), b"two")).await?;
    assert_eq!(stream.ack().await?, 2);
    // Once the client has finished its side the server finishes its own; what comes then
    // opens another stream.
    stream.send.finish()?;
    while stream.next().await?.is_some() {}
    alice.say(&pair, "three").await?;
    let mut opened = raw.accept().await?;
    let Some((_, What::Attach(attach))) = opened.next().await? else { bail!("no Attach") };
    assert_eq!(attach.cursor.unwrap_or_default().seq, 2);
    let Some((frame, What::Push(_))) = opened.next().await? else { bail!("no Push") };
    assert_eq!(frame.seq, 3);
    let answers = raw.ask(What::FindUsers(petrel_proto::wire::FindUsers::default())).await?;
    assert!(matches!(answers[..], [(_, What::Done(_))]), "{answers:?}");
    Ok(())
}
