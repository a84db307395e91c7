//! With bounds of 1 to 4, each overflow answer shows itself.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use petrel_client::Identity;
use petrel_proto::code::Code;
use petrel_proto::wire::{self, frame::What};
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawOptions, RawStream};

on_both_stores!(
    each_bound_of_the_channel_has_its_answer_while_the_store_stands_still,
    a_request_too_many_at_once_is_refused_while_the_store_stands_still,
    a_session_over_its_rate_is_told_when_to_come_again,
    a_connection_too_many_is_refused_and_has_its_turn_later,
    a_user_has_so_many_sessions,
);

struct Sender {
    raw: Raw,
    _control: RawStream,
    stream: RawStream,
}

async fn people(gateway: &Gateway, count: usize) -> Result<Vec<Identity>> {
    let mut people = Vec::new();
    for n in 0..count {
        people.push(gateway.dialer()?.register(&format!("user{n}"), "test").await?);
    }
    Ok(people)
}

async fn sender(gateway: &Gateway, me: &Identity, peer: &Identity) -> Result<Sender> {
    let (raw, control) = Raw::sign_in(gateway, me).await?;
    let (mut stream, _) = raw.attach(raw::attach(me.user, peer.user)).await?;
    stream.write(raw::send(1, raw::message_id(raw::now_ms()), b"first")).await?;
    stream.ack().await?;
    Ok(Sender { raw, _control: control, stream })
}

impl Sender {
    async fn send(&mut self, number: u64) -> Result<()> {
        self.stream.write(raw::send(number, raw::message_id(raw::now_ms()), b"more")).await
    }
}

async fn in_channel(gateway: &Gateway, units: f64) -> Result<()> {
    let look = || async {
        Ok((gateway.metric("petrel_storage_channel_units", "").await? >= units).then_some(()))
    };
    eventually(PATIENCE, "a message in the channel", look).await
}

/// Overloaded by this bound, counted as such; after it Predecessor, until it comes again.
async fn overloaded(
    gateway: &Gateway,
    sender: &mut Sender,
    number: u64,
    text: &str,
    label: &str,
) -> Result<()> {
    sender.send(number).await?;
    let refused = sender.stream.refusal().await?;
    assert_eq!((refused.code, refused.number), (Code::Overloaded, number), "{refused:?}");
    assert!(refused.text.contains(text), "{refused:?}");
    sender.send(number + 1).await?;
    let refused = sender.stream.refusal().await?;
    assert_eq!((refused.code, refused.number), (Code::Predecessor, number + 1), "{refused:?}");
    let labels = format!("what=\"{label}\"");
    assert_eq!(gateway.metric("petrel_storage_channel_overflows_total", &labels).await?, 1.0);
    Ok(())
}

async fn each_bound_of_the_channel_has_its_answer_while_the_store_stands_still(
    mut stage: Stage,
) -> Result<()> {
    for (units, full) in [(4, "session"), (4, "conversation"), (1, "channel"), (2, "channel")] {
        let capacity = format!("storage.channel_messages={units}");
        let gateway = stage.gateway(&[&capacity, "storage.channel_wait=50ms"]).await?;
        let people = people(&gateway, 6).await?;
        let mut one = sender(&gateway, &people[0], &people[1]).await?;
        let mut same = sender(&gateway, &people[1], &people[0]).await?;
        let mut others = Vec::new();
        for n in [2, 4] {
            others.push(sender(&gateway, &people[n], &people[n + 1]).await?);
        }
        let stall = stage.stall(&gateway)?;
        one.send(2).await?;
        in_channel(&gateway, 1.0).await?;
        let unacked = match full {
            "session" => {
                // Another conversation of the same session.
                let attach = raw::attach(people[0].user, people[1].user);
                let (stream, _) = one.raw.attach(attach).await?;
                one.stream = stream;
                overloaded(&gateway, &mut one, 1, "session", full).await?;
                &mut one
            }
            "conversation" => {
                overloaded(&gateway, &mut same, 2, "conversation", full).await?;
                &mut same
            }
            _ => {
                let last = units - 1;
                for other in &mut others[..last] {
                    other.send(2).await?;
                }
                in_channel(&gateway, units as f64).await?;
                overloaded(&gateway, &mut others[last], 2, "the channel", full).await?;
                &mut others[last]
            }
        };
        // Once the store is back, the refused one finds its place.
        stage.go_on(stall)?;
        let number = if full == "session" { 1 } else { 2 };
        loop {
            unacked.send(number).await?;
            match unacked.stream.answer().await? {
                Ok(ack) if ack.number == number => break,
                Ok(_) => {}
                Err(refused) if refused.code == Code::Overloaded => {}
                Err(refused) => bail!("{refused:?}"),
            }
        }
    }
    Ok(())
}

async fn a_request_too_many_at_once_is_refused_while_the_store_stands_still(
    mut stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let people = people(&gateway, 2).await?;
    let (raw, _control) = Raw::sign_in(&gateway, &people[0]).await?;
    let stall = stage.stall(&gateway)?;
    let mut waiting = Vec::new();
    for n in 1..=9 {
        let mut stream = raw.open().await?;
        let user = people[1].user.0.to_vec().into();
        let request = raw::block(user, true);
        stream.write(petrel_proto::frame::bare(request)).await?;
        stream.send.finish()?;
        waiting.push((n, stream));
    }
    let mut refused = 0;
    let answers = async {
        let (mut done, mut left) = (0, waiting);
        // Which of them is the ninth is for the network to say.
        let racing = left.iter_mut().map(|(_, stream)| Box::pin(stream.refusal()));
        let (first, _, _) = select_all(racing.collect()).await;
        assert_eq!(first?.code, Code::TooManyStreams);
        refused += 1;
        stage.go_on(stall)?;
        for (_, stream) in &mut left {
            while let Some((_, what)) = stream.next().await? {
                done += u32::from(matches!(what, What::Contact(_)));
            }
        }
        anyhow::Ok(done)
    };
    assert_eq!((answers.await?, refused), (8, 1));
    Ok(())
}

/// The first of these that is ready.
async fn select_all<F: Future + Unpin>(mut futures: Vec<F>) -> (F::Output, usize, Vec<F>) {
    let (output, at) = std::future::poll_fn(|cx| {
        for (at, future) in futures.iter_mut().enumerate() {
            if let std::task::Poll::Ready(output) = std::pin::Pin::new(future).poll(cx) {
                return std::task::Poll::Ready((output, at));
            }
        }
        std::task::Poll::Pending
    })
    .await;
    (output, at, futures)
}

async fn a_session_over_its_rate_is_told_when_to_come_again(stage: Stage) -> Result<()> {
    let settings = [
        "message.sends_per_s=1",
        "message.sends_burst=2",
        "message.requests_per_s=1",
        "message.requests_burst=1",
        "auth.registrations_per_s=1",
        "auth.registrations_burst=4",
    ];
    let gateway = stage.gateway(&settings).await?;
    let people = people(&gateway, 2).await?;
    let mut sender = sender(&gateway, &people[0], &people[1]).await?;
    sender.send(2).await?;
    sender.send(3).await?;
    // The refusal may overtake the Ack of the one before.
    let answers = [sender.stream.answer().await?, sender.stream.answer().await?];
    let refused = answers.into_iter().find_map(Result::err).context("no refusal")?;
    assert_eq!((refused.code, refused.number), (Code::RateLimited, 3), "{refused:?}");
    assert!((1..=1_000).contains(&refused.retry_after_ms), "{refused:?}");
    tokio::time::sleep(Duration::from_millis(u64::from(refused.retry_after_ms) + 5)).await;
    sender.send(3).await?;
    assert_eq!(sender.stream.ack().await?, 3);

    let find = || sender.raw.ask(What::FindUsers(wire::FindUsers::default()));
    find().await?;
    let answers = find().await?;
    let [(_, What::Refusal(said))] = &answers[..] else { bail!("{answers:?}") };
    assert_eq!(said.code, Code::RateLimited.number());
    assert!(said.retry_after_ms > 0);
    let mut limited = false;
    for n in 0..5 {
        let made = gateway.dialer()?.register(&format!("more{n}"), "test").await;
        limited |= made.is_err_and(|e| e.code() == Some(Code::RateLimited));
    }
    assert!(limited, "registrations have a rate");
    Ok(())
}

async fn a_connection_too_many_is_refused_and_has_its_turn_later(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["gateway.connections_max=2"]).await?;
    let people = people(&gateway, 1).await?;
    let turned_away =
        || gateway.metric("petrel_gateway_connections_refused_total", "reason=\"full\"");
    let options = RawOptions::default();
    // The connections that people were registered on may take a moment to be gone.
    let dial = || async { Ok(Raw::dial(&gateway, &options).await.ok()) };
    let first = eventually(PATIENCE, "a place", dial).await?;
    let second = eventually(PATIENCE, "another place", dial).await?;
    let before = turned_away().await?;
    // The answer of a full gateway is QUIC's CONNECTION_REFUSED, before any cryptography.
    let Err(refused) = Raw::dial(&gateway, &options).await else {
        bail!("a third connection came about")
    };
    let Some(quinn::ConnectionError::ConnectionClosed(close)) = refused.downcast_ref() else {
        bail!("{refused:?}")
    };
    assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
    assert_eq!(turned_away().await?, before + 1.0);
    // The client library comes again, and has its turn when there is a place.
    let arriving = stage.device(&gateway, &people[0]);
    let leaving = async {
        let refused = || async { Ok((turned_away().await? >= before + 2.0).then_some(())) };
        eventually(PATIENCE, "the client's first try", refused).await?;
        first.connection.close(0u32.into(), b"");
        anyhow::Ok(())
    };
    let (client, left) = tokio::join!(arriving, leaving);
    left?;
    client?.leave().await;
    drop(second);
    Ok(())
}

async fn a_user_has_so_many_sessions(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let people = people(&gateway, 1).await?;
    let mut sessions = Vec::new();
    for _ in 0..petrel_core::limits::SESSIONS_PER_USER_MAX {
        sessions.push(Raw::sign_in(&gateway, &people[0]).await?);
    }
    let raw = Raw::dial(&gateway, &RawOptions::default()).await?;
    let token = raw.log_in(&people[0]).await?;
    let mut control = raw.open().await?;
    control.write(petrel_proto::frame::bare(What::Hello(raw::hello(&token)))).await?;
    assert_eq!(control.refusal().await?.code, Code::Overloaded);
    // Once one has ended, the same connection may try again.
    sessions.remove(0).0.connection.close(0u32.into(), b"");
    let again = || async {
        let mut control = raw.open().await?;
        control.write(petrel_proto::frame::bare(What::Hello(raw::hello(&token)))).await?;
        Ok(matches!(control.next().await?, Some((_, What::Welcome(_)))).then_some(()))
    };
    eventually(PATIENCE, "a free place", again).await?;
    Ok(())
}
