//! Tokens are short-lived: asked for again in time, refused afterwards.

use anyhow::{Result, bail};
use petrel_client::Code;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, frame::What};
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{LOOK_AGAIN, Stage};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw};

on_both_stores!(
    a_client_stays_signed_in_over_many_tokens_and_its_sends_go_on,
    an_expired_token_stops_sends_and_pushes_until_it_is_refreshed,
);

async fn a_client_stays_signed_in_over_many_tokens_and_its_sends_go_on(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["auth.token_life=3s"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(8);
    let mut sent = 0;
    while tokio::time::Instant::now() < end {
        alice.say(&pair, format!("message {sent}")).await?;
        sent += 1;
        bob.has(pair.id, sent).await?;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    for person in [&alice, &bob] {
        assert_eq!(person.seen(|s| (s.sign_ins, s.offline.len())), (1, 0));
    }
    assert!(gateway.metric("petrel_gateway_request_seconds_count", "Login").await? >= 6.0);
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

async fn an_expired_token_stops_sends_and_pushes_until_it_is_refreshed(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["auth.token_life=2s"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = gateway.dialer()?.register("bob", "test").await?;
    let (raw, mut control) = Raw::sign_in(&gateway, &bob).await?;
    let (mut stream, _) = raw.attach(raw::attach(bob.user, alice.user())).await?;
    let Some((_, What::RefreshDue(_))) = control.next().await? else { bail!("no RefreshDue") };

    let mut number = 1;
    let refused = loop {
        let id = raw::message_id(raw::now_ms());
        stream.write(raw::send(number, id, b"mine")).await?;
        match stream.answer().await? {
            Ok(_) => number += 1,
            Err(refused) => break refused,
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    assert_eq!((refused.code, refused.number), (Code::Reauthenticate, number));
    // Until it comes again, what follows it is refused as well.
    let id = raw::message_id(raw::now_ms());
    stream.write(raw::send(number + 1, id, b"too early")).await?;
    assert_eq!(stream.refusal().await?.code, Code::Predecessor);
    // A request is refused too.
    let answers = raw.ask(What::FindUsers(wire::FindUsers::default())).await?;
    let [(_, What::Refusal(said))] = &answers[..] else { bail!("{answers:?}") };
    assert_eq!(said.code, Code::Reauthenticate.number());

    let token = raw.log_in(&bob).await?;
    control.write(bare(What::Refresh(wire::Refresh { token }))).await?;
    loop {
        match control.next().await? {
            Some((_, What::Token(token))) => break assert!(token.expires_ms > raw::now_ms()),
            Some((_, What::RefreshDue(_))) => {}
            other => bail!("instead of a Token: {other:?}"),
        }
    }
    stream.write(raw::send(number, id, b"at last")).await?;
    assert_eq!(stream.ack().await?, number);
    let seq = alice.say(&alice.with_user(bob.user), "hello").await?;
    loop {
        match stream.next().await? {
            Some((frame, What::Push(_))) if frame.seq == seq => break,
            Some(_) => {}
            None => bail!("the stream ended"),
        }
    }
    Ok(())
}
