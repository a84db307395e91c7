//! A dictionary of the operator's own: a body that came plain travels with it, and who lacks it
//! fetches it.

use anyhow::{Context as _, Result, ensure};
use petrel_client::{Client, ClientOptions, ConversationId, Identity, PageRequest};
use petrel_proto::code::Code;
use petrel_proto::compression::{DecodeError, OwnDictionary, decode, decode_with, training};
use petrel_proto::wire::{self, frame::What};
use petrel_tests::cluster::{Gateway, Stage};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawStream};

on_both_stores!(a_body_travels_with_the_operators_dictionary_and_who_lacks_it_fetches_it);

const ROOM: usize = 64 << 10;

/// Messages of a made-up service.
fn sample() -> Vec<String> {
    let things = ["shipment", "delivery", "parcel", "container", "pallet", "trolley"];
    let states = ["left the warehouse", "is delayed by customs", "arrived at the dock"];
    let asks = ["please confirm", "no action is needed", "call the driver", "thank you"];
    (0..4_000usize)
        .map(|n| {
            let mixed = n.wrapping_mul(2_654_435_761);
            let (a, b, c) = (things[mixed % 6], states[mixed / 6 % 3], asks[mixed / 18 % 4]);
            format!("{a} {} {b}, {c} ({n})", mixed % 99_991)
        })
        .collect()
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

/// The first message that is pushed: its encoding and its body.
async fn pushed(stream: &mut RawStream) -> Result<(u32, bytes::Bytes)> {
    loop {
        let next = stream.next().await?.context("the stream ended")?;
        if let (frame, What::Push(_)) = next {
            return Ok((frame.encoding, frame.body));
        }
    }
}

async fn fetched(raw: &Raw, version: u32) -> Result<OwnDictionary> {
    let answers = raw.ask(What::FetchDictionary(wire::FetchDictionary { version })).await?;
    let mut bytes = Vec::new();
    for (frame, what) in &answers {
        match what {
            What::Dictionary(_) => bytes.extend_from_slice(&frame.body),
            What::Done(_) => {}
            other => anyhow::bail!("instead of a dictionary: {other:?}"),
        }
    }
    Ok(OwnDictionary::new(&bytes)?)
}

async fn a_body_travels_with_the_operators_dictionary_and_who_lacks_it_fetches_it(
    stage: Stage,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("own.dict");
    std::fs::write(&file, training::train(&sample(), 16 << 10, 1 << 10, 100)?)?;
    let setting = format!("message.dictionary={}", file.display());
    let mut gateway = stage.gateway(&[&setting]).await?;
    let alice = gateway.dialer()?.register("alice", "test").await?;
    let bob = gateway.dialer()?.register("bob", "test").await?;

    // It is announced beside the shipped ones.
    let dialed = Raw::dial(&gateway, &raw::RawOptions::default()).await?;
    let token = dialed.log_in(&alice).await?;
    let mut control = dialed.open().await?;
    let hello = What::Hello(raw::hello(&token));
    control.write(petrel_proto::frame::bare(hello)).await?;
    let welcome = control.next().await?.context("no answer")?.1;
    let What::Welcome(welcome) = welcome else { anyhow::bail!("instead of Welcome: {welcome:?}") };
    ensure!(welcome.dictionaries == [1, 2, 3, 4, 100], "{:?}", welcome.dictionaries);

    let plain = "parcel 12345 left the warehouse, please confirm (at gate 3)".as_bytes();
    let (_alice, _c1, mut writing) = stream_of(&gateway, &alice, &bob).await?;
    writing.write(raw::send(1, raw::message_id(raw::now_ms()), plain)).await?;
    ensure!(writing.ack().await? == 1);

    // Bob lacks it: he is told which one, fetches it, and reads.
    let (reader, _c2, mut reading) = stream_of(&gateway, &bob, &alice).await?;
    let (encoding, body) = pushed(&mut reading).await?;
    ensure!(encoding == 116 && body.len() < plain.len(), "{encoding}, {} bytes", body.len());
    ensure!(decode(encoding, &body, ROOM) == Err(DecodeError::UnknownDictionary { version: 100 }));
    let own = fetched(&reader, 100).await?;
    ensure!(own.bytes() == std::fs::read(&file)?);
    ensure!(decode_with(encoding, &body, ROOM, &[own])? == plain);

    // Who has it may write with it; one that the gateway lacks is refused.
    let (encoding, body) = own.encode(plain);
    let mut with_it = raw::send(2, raw::message_id(raw::now_ms()), &body);
    with_it.encoding = encoding;
    writing.write(with_it).await?;
    ensure!(writing.ack().await? == 2);
    ensure!(pushed(&mut reading).await? == (encoding, body.clone()));
    let mut unknown = raw::send(3, raw::message_id(raw::now_ms()), &body);
    unknown.encoding = encoding + 1;
    writing.write(unknown).await?;
    let refused = writing.refusal().await?;
    ensure!(refused.code == Code::BadBody && refused.text.contains("101"), "{refused:?}");

    // Another takes its place; it is still served, for what is stored.
    let next = dir.path().join("next.dict");
    std::fs::write(&next, training::train(&sample(), 8 << 10, 0, 101)?)?;
    ensure!(gateway.terminate().await?.success());
    gateway.set(&format!("message.dictionary={}", next.display()));
    gateway.set(&format!("message.dictionaries_kept=[\"{}\"]", file.display()));
    gateway.restart().await?;
    let (reader, _c3, mut reading) = stream_of(&gateway, &bob, &alice).await?;
    let (encoding, body) = pushed(&mut reading).await?;
    ensure!(decode_with(encoding, &body, ROOM, &[fetched(&reader, 100).await?])? == plain);
    ensure!(fetched(&reader, 101).await?.version() == 101);

    // The client library does the same by itself.
    let (client, events) =
        Client::start(ClientOptions::new(gateway.dialer()?, bob.clone())).await?;
    drop(events);
    let conversation = ConversationId::of_pair(alice.user, bob.user);
    let request = PageRequest { conversation, from: 1, to: 0, limit: 10, newest: false };
    let page = client.history(request).await?;
    let bodies: Vec<_> = page.entries.iter().map(|entry| entry.body.clone()).collect();
    ensure!(bodies.iter().all(|body| body.as_deref() == Ok(plain)), "{bodies:?}");
    ensure!(bodies.len() == 2, "{} entries", bodies.len());
    client.close().await;
    Ok(())
}
