//! Two gateways on one PostgreSQL: what one has stored the other one gives to whoever attaches
//! or reads history there, and to those who are there already.

use anyhow::{Result, bail, ensure};
use petrel_core::entry::Cursor;
use petrel_core::id::Seq;
use petrel_proto::wire::{self, frame::What};
use petrel_tests::cluster::{Gateway, Stage};
use petrel_tests::raw::{self, Raw, RawStream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attach_and_history_give_what_another_gateway_has_stored() -> Result<()> {
    let stage = Stage::postgres().await?;
    let one = stage.gateway(&[]).await?;
    let two = one.beside(&[]).await?;
    let alice = stage.person(&one, "alice").await?;
    let bob = one.dialer()?.register("bob", "test").await?;
    let pair = alice.with_user(bob.user);
    let attach = raw::attach(bob.user, alice.user());

    // The second gateway knows the conversation from before.
    let (early, _control) = Raw::sign_in(&two, &bob).await?;
    let (mut waiting, answer) = early.attach(attach.clone()).await?;
    assert_eq!((answer.head, answer.count), (0, 0));
    for n in 1..=5 {
        assert_eq!(alice.say(&pair, format!("message {n}")).await?, n);
    }
    let (later, _control) = Raw::sign_in(&two, &bob).await?;
    let (mut stream, answer) = later.attach(attach.clone()).await?;
    assert_eq!((answer.head, answer.count), (5, 5));
    // Who attaches gets it, and so does the stream that was there before.
    pushes(&mut stream, 1..=5).await?;
    pushes(&mut waiting, 1..=5).await?;

    for n in 6..=8 {
        assert_eq!(alice.say(&pair, format!("message {n}")).await?, n);
    }
    let history = |from| {
        later.ask(What::ReadHistory(wire::ReadHistory {
            conversation: attach.conversation.clone(),
            from,
            ..wire::ReadHistory::default()
        }))
    };
    let page = history(6).await?;
    let seqs: Vec<u64> = page.iter().map(|(frame, _)| frame.seq).collect();
    assert_eq!(seqs, [6, 7, 8, 0]);
    let Some((_, What::Done(done))) = page.last() else { bail!("{page:?}") };
    assert_eq!(done.head, 8);
    for stream in [&mut stream, &mut waiting] {
        pushes(stream, 6..=8).await?;
    }

    // Who was at the other gateway meanwhile is ahead of this one's memory: nothing comes twice.
    for n in 9..=10 {
        alice.say(&pair, format!("message {n}")).await?;
    }
    let cursor = read_all(&one, &bob, attach.clone(), 10).await?;
    let resumed = wire::Attach { cursor: Some(cursor), ..attach.clone() };
    let (mut stream, answer) = later.attach(resumed).await?;
    assert_eq!((answer.cursor.unwrap_or_default().seq, answer.head), (10, 10));
    stream.write(raw::send(1, raw::message_id(raw::now_ms()), b"an answer")).await?;
    let Some((frame, What::Ack(_))) = stream.next().await? else { bail!("no Ack") };
    assert_eq!(frame.seq, 11);
    pushes(&mut waiting, 9..=11).await.map(drop)
}

async fn pushes(
    stream: &mut RawStream,
    seqs: std::ops::RangeInclusive<u64>,
) -> Result<Vec<Cursor>> {
    let mut cursors = Vec::new();
    for seq in seqs {
        let (frame, what) = match stream.next().await? {
            Some((frame, what @ What::Push(_))) => (frame, what),
            other => bail!("instead of {seq}: {other:?}"),
        };
        ensure!(frame.seq == seq, "{} instead of {seq}: {what:?}", frame.seq);
        let id: [u8; 16] = frame.id[..].try_into()?;
        let tail = Cursor::tail_of(petrel_core::id::ClientMessageId(id), frame.time_ms);
        cursors.push(Cursor { seq: Seq(seq), tail });
    }
    Ok(cursors)
}

/// Reads a conversation up to its head, and gives the cursor there.
async fn read_all(
    gateway: &Gateway,
    me: &petrel_client::Identity,
    attach: wire::Attach,
    head: u64,
) -> Result<wire::Cursor> {
    let (raw, _control) = Raw::sign_in(gateway, me).await?;
    let (mut stream, _) = raw.attach(attach).await?;
    let cursors = pushes(&mut stream, 1..=head).await?;
    let last = cursors.last().copied().unwrap_or_default();
    Ok(wire::Cursor { seq: last.seq.0, tail: last.tail.to_vec().into() })
}
