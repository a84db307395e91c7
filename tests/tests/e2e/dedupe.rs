//! A message is stored once, whatever way it comes again; what cannot be told apart is refused.

use anyhow::Result;
use bytes::Bytes;
use petrel_client::{ConversationId, Identity};
use petrel_core::limits::{DEDUPE_HORIZON_MS, ID_AHEAD_MAX_MS};
use petrel_proto::code::Code;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, frame::What};
use petrel_tests::cluster::{Gateway, Stage};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawStream};

on_both_stores!(
    the_same_id_over_another_connection_has_the_same_place,
    ids_too_old_or_from_the_future_are_refused_exactly_at_the_limits,
    what_was_refused_for_good_is_not_stored_by_an_older_copy_that_comes_late,
    an_unknown_conversation_and_a_strangers_one_have_the_same_answer,
);

async fn pair(gateway: &Gateway) -> Result<(Identity, Identity)> {
    let dialer = gateway.dialer()?;
    Ok((dialer.register("alice", "test").await?, dialer.register("bob", "test").await?))
}

async fn stream_of(
    gateway: &Gateway,
    me: &Identity,
    peer: &Identity,
) -> Result<(Raw, RawStream, RawStream)> {
    let (raw, control) = Raw::sign_in(gateway, me).await?;
    let (stream, _) = raw.attach(raw::attach(me.user, peer.user)).await?;
    Ok((raw, control, stream))
}

async fn the_same_id_over_another_connection_has_the_same_place(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let (alice, bob) = pair(&gateway).await?;
    let (_one, _c1, mut first) = stream_of(&gateway, &alice, &bob).await?;
    let id = raw::message_id(raw::now_ms());
    first.write(raw::send(1, raw::message_id(raw::now_ms()), b"before")).await?;
    first.write(raw::send(2, id, b"the message")).await?;
    assert_eq!((first.ack().await?, first.ack().await?), (1, 2));

    let other = match &gateway.storage_url {
        Some(_) => Some(gateway.beside(&[]).await?),
        None => None,
    };
    for gateway in [Some(&gateway), other.as_ref()].into_iter().flatten() {
        let (_raw, _control, mut stream) = stream_of(gateway, &alice, &bob).await?;
        let mut again = raw::send(1, id, b"the message");
        again.what = Some(What::Send(wire::Send { again: true, ..wire::Send::default() }));
        stream.write(again).await?;
        assert_eq!(stream.ack().await?, 2);
        // Also when it does not say that it comes again.
        stream.write(raw::send(2, id, b"the message")).await?;
        assert_eq!(stream.ack().await?, 2);
        stream.write(raw::send(3, id, b"another message")).await?;
        let refused = stream.refusal().await?;
        assert_eq!((refused.code, refused.number), (Code::IdConflict, 3));
        let mut custom = raw::send(4, id, b"the message");
        custom.entry_kind = 2;
        stream.write(custom).await?;
        assert_eq!(stream.refusal().await?.code, Code::IdConflict);
    }
    // Nothing of all that took a place.
    first.write(raw::send(3, raw::message_id(raw::now_ms()), b"after")).await?;
    assert_eq!(first.ack().await?, 3);
    Ok(())
}

async fn what_was_refused_for_good_is_not_stored_by_an_older_copy_that_comes_late(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let (alice, bob) = pair(&gateway).await?;
    let (_old, _c1, mut older) = stream_of(&gateway, &alice, &bob).await?;
    let (new, _c2, mut newer) = stream_of(&gateway, &alice, &bob).await?;
    let (blocker, _c3) = Raw::sign_in(&gateway, &bob).await?;
    let block = |blocks| {
        let user = Bytes::copy_from_slice(&alice.user.0);
        blocker.ask(raw::block(user, blocks))
    };
    let id = raw::message_id(raw::now_ms());
    let mut again = raw::send(1, id, b"once");
    again.what = Some(What::Send(wire::Send { again: true, ..wire::Send::default() }));

    block(true).await?;
    newer.write(again.clone()).await?;
    assert_eq!(newer.refusal().await?.code, Code::Blocked);
    block(false).await?;
    // The copy that was on its way for long comes now; the same answer as before, also for another try.
    older.write(raw::send(1, id, b"once")).await?;
    assert_eq!(older.refusal().await?.code, Code::Blocked);
    again.number = 2;
    newer.write(again).await?;
    assert_eq!(newer.refusal().await?.code, Code::Blocked);
    // Any other message is welcome again.
    older.write(raw::send(2, raw::message_id(raw::now_ms()), b"another")).await?;
    assert_eq!(older.ack().await?, 1);
    drop(new);
    Ok(())
}

async fn ids_too_old_or_from_the_future_are_refused_exactly_at_the_limits(
    stage: Stage,
) -> Result<()> {
    const MARGIN_MS: u64 = 20_000;
    let gateway = stage.gateway(&[]).await?;
    let (alice, bob) = pair(&gateway).await?;
    let (_raw, _control, mut stream) = stream_of(&gateway, &alice, &bob).await?;
    let now = raw::now_ms();
    let cases = [
        (now - DEDUPE_HORIZON_MS - MARGIN_MS, Some(Code::TooOld)),
        (now - DEDUPE_HORIZON_MS + MARGIN_MS, None),
        (now + ID_AHEAD_MAX_MS - MARGIN_MS, None),
        (now + ID_AHEAD_MAX_MS + MARGIN_MS, Some(Code::FromTheFuture)),
    ];
    for (number, (time_ms, expected)) in (1..).zip(cases) {
        stream.write(raw::send(number, raw::message_id(time_ms), b"x")).await?;
        match (stream.answer().await?, expected) {
            (Ok(_), None) => {}
            (Err(refused), Some(code)) => {
                assert_eq!((refused.code, refused.number), (code, number));
                if code == Code::FromTheFuture {
                    assert!(refused.server_time_ms.abs_diff(now) < 10_000, "{refused:?}");
                }
            }
            (answer, expected) => panic!("number {number}: {answer:?}, not {expected:?}"),
        }
    }
    // An id that is no UUIDv7 has no time.
    for id in [[0xff; 16], [0; 16]] {
        let (_raw, _control, mut stream) = stream_of(&gateway, &alice, &bob).await?;
        stream.write(raw::send(1, id, b"x")).await?;
        let refused = stream.refusal().await?;
        assert_eq!(refused.code, Code::Invalid, "{refused:?}");
        assert!(refused.text.contains("id"), "{refused:?}");
    }
    Ok(())
}

async fn an_unknown_conversation_and_a_strangers_one_have_the_same_answer(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let (alice, bob) = pair(&gateway).await?;
    let eve = gateway.dialer()?.register("eve", "test").await?;
    let (_raw, _control, mut stream) = stream_of(&gateway, &alice, &bob).await?;
    stream.write(raw::send(1, raw::message_id(raw::now_ms()), b"secret")).await?;
    stream.ack().await?;

    let (raw, _control) = Raw::sign_in(&gateway, &eve).await?;
    let theirs = Bytes::copy_from_slice(&ConversationId::of_pair(alice.user, bob.user).0);
    let unknown = Bytes::from_static(&[9; 16]);
    let mut answers = Vec::new();
    for conversation in [theirs, unknown] {
        let mut stream = raw.open().await?;
        let attach = wire::Attach { conversation: conversation.clone(), ..wire::Attach::default() };
        stream.write(bare(What::Attach(attach))).await?;
        let refused = stream.refusal().await?;
        assert_eq!(refused.code, Code::NotFound);
        let history = wire::ReadHistory { conversation, from: 1, ..wire::ReadHistory::default() };
        answers.push((refused, raw.ask(What::ReadHistory(history)).await?));
    }
    assert_eq!(answers[0], answers[1], "nobody learns which");
    Ok(())
}
