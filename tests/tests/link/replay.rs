//! A first flight that comes again, behind TLS and as packets: it changes nothing.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use petrel_client::{ClientOptions, Dialer, Event, Server, UserId};
use petrel_proto::frame::{FrameReader, bare, encode};
use petrel_proto::wire::{self, frame::What};
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{Gateway, PATIENCE, Person, Stage, eventually};
use petrel_tests::raw::{Raw, RawStream, Returning, attach, hello};
use petrel_tests::tap::Tap;

use crate::recorder::Recorder;

/// GOING_AWAY: a client that is told so comes back soon.
const GOING_AWAY: u32 = 80;
/// Of early flights whose handshake never ends, not to wait for long.
const HANDSHAKES: &str = "gateway.handshake_timeout=1s";

/// Whole frames in these bytes.
fn frames(bytes: &[u8]) -> usize {
    let mut reader = FrameReader::new(1 << 20);
    let mut rest = Bytes::copy_from_slice(bytes);
    std::iter::from_fn(|| reader.next(&mut rest).ok().flatten()).count()
}

/// Says a flight with the first packets of a connection whose handshake never ends.
async fn inject(returning: &Returning, flight: &[Vec<u8>]) -> Result<(Raw, Vec<RawStream>)> {
    let (raw, _never) = returning.come_back_deaf()?;
    let mut streams = Vec::new();
    for said in flight {
        let mut stream = raw.open().await?;
        stream.write_bytes(said).await?;
        streams.push(stream);
    }
    Ok((raw, streams))
}

async fn metric_is(gateway: &Gateway, name: &str, labels: &str, wanted: f64) -> Result<()> {
    eventually(PATIENCE, &format!("{name} {labels} at {wanted}"), || async {
        Ok((gateway.metric(name, labels).await? >= wanted).then_some(()))
    })
    .await?;
    assert_eq!(gateway.metric(name, labels).await?, wanted);
    Ok(())
}

async fn executed(gateway: &Gateway, wanted: f64) -> Result<()> {
    metric_is(gateway, "petrel_gateway_early_frames_total", "result=\"executed\"", wanted).await
}

async fn handshakes_given_up(gateway: &Gateway, wanted: f64) -> Result<()> {
    let labels = "reason=\"handshake_timeout\"";
    metric_is(gateway, "petrel_gateway_connections_refused_total", labels, wanted).await
}

/// What somebody was told of somebody's presence, in order.
fn told(person: &Person, of: UserId) -> Vec<bool> {
    person.seen(|seen| {
        let told = seen.others.iter().filter_map(|event| match event {
            Event::Presence { user, online, .. } if *user == of => Some(*online),
            _ => None,
        });
        told.collect()
    })
}

async fn is_told(person: &Person, of: UserId, online: bool) -> Result<()> {
    let what = format!("online {online} of {of}");
    person
        .until(&what, |seen| {
            let is_it = |event: &Event| {
                matches!(event, Event::Presence { user, online: now, .. } if *user == of && *now == online)
            };
            seen.others.iter().any(is_it).then_some(())
        })
        .await
}

/// How far the gateway says that somebody got in a pair's conversation.
async fn receipt_of(gateway: &Gateway, reader: &Person, of: UserId) -> Result<(u64, u64)> {
    let (raw, _control) = Raw::sign_in(gateway, &reader.identity).await?;
    let (_stream, answer) = raw.attach(attach(reader.user(), of)).await?;
    // Of the peer, who need not be named.
    let found = answer.receipts.iter().find(|r| r.user.is_empty() || *r.user == of.0);
    Ok(found.map_or((0, 0), |receipt| (receipt.delivered, receipt.read)))
}

/// The frames that a client's TLS brought are said twice behind another's, on connections whose handshakes
/// never end: the first time they are carried out before any handshake, the second time all
/// stays as it is.
#[tokio::test]
async fn a_first_flight_said_twice_behind_tls_is_carried_out_once() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[HANDSHAKES]).await?;
    let tap = Tap::start(&gateway)?;
    let bob = stage.person(&gateway, "bob").await?;
    let identity = gateway.dialer()?.register("alice", "test").await?;
    let dialer = Dialer::new(tap.dialer_options.clone())?;
    let mut options = ClientOptions::new(dialer, identity.clone());
    // What she has read is told with her next Hello, Attach or message, and not before.
    options.receipts_delay = Duration::from_secs(3_600);
    let (alice, passed) = tokio::join!(stage.device_with(options), tap.pass(&gateway));
    let (alice, passed) = (alice?, passed?);
    let pair = alice.with(&bob);
    alice.attach(&pair, None)?;
    bob.say(&bob.with(&alice), "hello").await?;
    alice.has(pair.id, 1).await?;
    alice.client.read_up_to(pair.id, 1);

    // Her connection breaks; the gateway's end of it does not, and is her older session.
    passed.cut(GOING_AWAY);
    let id = alice.send(&pair, "from the train")?;
    let is_whole = |stream: usize, said: &[u8]| frames(said) > stream;
    let flight = tap.first_flight(2, is_whole).await?;
    bob.client.watch_presence(&[alice.user()])?;
    is_told(&bob, alice.user(), true).await?;
    let returning = Returning::to(gateway.quic)?;
    returning.visit(&identity, 2).await?;

    let first = inject(&returning, &flight.said).await?;
    bob.has(pair.id, 2).await?;
    let accepted = gateway.metric("petrel_gateway_early_data_total", "result=\"accepted\"").await?;
    assert_eq!(accepted, 1.0, "the first time it is early data, and is read");
    // Hello, Attach, Send; nobody has heard anything of the session that said them.
    executed(&gateway, 3.0).await?;
    handshakes_given_up(&gateway, 1.0).await?;
    drop(first);
    assert_eq!(receipt_of(&gateway, &bob, alice.user()).await?, (0, 0));
    let list = wire::ListConversations::default();
    let listed = passed.upstream.ask(What::ListConversations(list)).await?;
    assert!(
        listed.iter().any(|(_, what)| matches!(what, What::Done(_))),
        "her older session ended"
    );

    passed.upstream.connection.close(0u32.into(), b"");
    is_told(&bob, alice.user(), false).await?;
    let before = told(&bob, alice.user());
    let second = inject(&returning, &flight.said).await?;
    executed(&gateway, 6.0).await?;
    handshakes_given_up(&gateway, 2.0).await?;
    drop(second);
    // Whoever comes after is told of; so would she have been.
    let carol = stage.person(&gateway, "carol").await?;
    bob.client.watch_presence(&[alice.user(), carol.user()])?;
    is_told(&bob, carol.user(), true).await?;
    // Naming her anew says once more that she is not there.
    let after = told(&bob, alice.user());
    assert!(after.starts_with(&before) && !after[before.len()..].contains(&true), "{after:?}");
    assert_eq!(bob.seen(|seen| seen.seqs(pair.id)), [1, 2]);
    assert_eq!(receipt_of(&gateway, &bob, alice.user()).await?, (0, 0));

    // Her own try finds it stored, where it was stored the first time.
    let passing = tap.pass(&gateway);
    flight.client.close(GOING_AWAY.into(), b"");
    let passed = passing.await?;
    assert_eq!(alice.placed(id).await?, 2);
    assert!(alice.client.stats().early_accepted > 0, "it was no early data");
    stage.judge(&gateway, &Expectations::default()).await?;
    drop(passed);
    Ok(())
}

/// The packets themselves, from another socket: their TLS session was used, so that nothing of what
/// they carry is read.
#[tokio::test]
async fn a_first_flight_sent_twice_as_packets_is_read_once() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[HANDSHAKES]).await?;
    let recorder = Recorder::start(gateway.quic).await?;
    let bob = stage.person(&gateway, "bob").await?;
    let identity = gateway.dialer()?.register("alice", "test").await?;
    let mut dialer = gateway.dialer_options()?;
    dialer.server = Server::Addresses(vec![recorder.address]);
    dialer.transport.keep_alive = Some(Duration::from_millis(200));
    dialer.transport.idle_timeout = Duration::from_secs(1);
    let options = ClientOptions::new(Dialer::new(dialer)?, identity);
    let alice = stage.device_with(options).await?;
    let pair = alice.with(&bob);
    alice.say(&pair, "before").await?;
    recorder.go_dark();
    let id = alice.send(&pair, "from the train")?;
    alice.until("being offline", |seen| (!seen.offline.is_empty()).then_some(())).await?;
    recorder.light_up();
    assert_eq!(alice.placed(id).await?, 2);
    alice.online().await?;
    assert_eq!(alice.client.stats().early_accepted, 1);
    let flight = recorder.first_flight();
    assert!(!flight.is_empty());
    alice.leave().await;

    let frames = "petrel_gateway_early_frames_total";
    let before = gateway.metric(frames, "").await?;
    let socket = tokio::net::UdpSocket::bind(("127.0.0.1", 0)).await?;
    let rejected = "result=\"rejected\"";
    // Until the gateway has forgotten the connection, its packets are duplicates to it.
    eventually(PATIENCE, "the second flight", || async {
        for packet in &flight {
            socket.send_to(packet, gateway.quic).await?;
        }
        let rejected = gateway.metric("petrel_gateway_early_data_total", rejected).await?;
        Ok((rejected > 0.0).then_some(()))
    })
    .await
    .context("its TLS session was taken again")?;
    // Its handshake comes to no end, as whoever sends it has not the client's keys.
    eventually(PATIENCE, "the end of its handshake", || async {
        // By an error or by its time, as the packets come to be read.
        let labels = "reason=\"handshake";
        let ended = gateway.metric("petrel_gateway_connections_refused_total", labels).await?;
        Ok((ended > 0.0).then_some(()))
    })
    .await?;
    assert_eq!(gateway.metric(frames, "").await?, before);
    bob.has(pair.id, 2).await?;
    assert_eq!(bob.seen(|seen| seen.seqs(pair.id)), [1, 2]);
    stage.judge(&gateway, &Expectations::default()).await?;
    Ok(())
}

/// Whatever else comes with a first flight waits for the end of the handshake, and goes with the
/// connection if there is none.
#[tokio::test]
async fn nothing_but_hello_attach_and_send_is_carried_out_before_the_handshake_is_done()
-> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[HANDSHAKES]).await?;
    let identity = gateway.dialer()?.register("alice", "test").await?;
    let returning = Returning::to(gateway.quic)?;
    let token = returning.visit(&identity, 2).await?;
    let register = || {
        What::Register(wire::Register {
            user_name: "mallory".to_owned(),
            device_label: "test".to_owned(),
            password: String::new(),
        })
    };
    let flight = [
        encode(&bare(What::Hello(hello(&token)))).to_vec(),
        encode(&bare(What::ListConversations(wire::ListConversations::default()))).to_vec(),
        encode(&bare(register())).to_vec(),
    ];
    let never = inject(&returning, &flight).await?;
    metric_is(&gateway, "petrel_gateway_early_frames_total", "result=\"waited\"", 2.0).await?;
    handshakes_given_up(&gateway, 1.0).await?;
    executed(&gateway, 1.0).await?;
    drop(never);
    assert_eq!(gateway.metric("petrel_gateway_sign_ins_total", "result=\"ok\"").await?, 0.0);

    // With an end of the handshake the same is answered.
    let (raw, accepted) = returning.come_back()?;
    let mut streams = Vec::new();
    for said in &flight {
        let mut stream = raw.open().await?;
        stream.write_bytes(said).await?;
        streams.push(stream);
    }
    assert!(accepted.await, "the early data was not taken");
    let mut answers = Vec::new();
    for stream in &mut streams {
        let (_, what) = stream.next().await?.context("no answer")?;
        answers.push(what);
    }
    assert!(matches!(answers[0], What::Welcome(_)), "{answers:?}");
    assert!(matches!(answers[1], What::Done(_)), "{answers:?}");
    // The name was free: nobody had registered it before.
    assert!(matches!(answers[2], What::Registered(_)), "{answers:?}");
    Ok(())
}
