//! TLS on TCP: chat is no other than on QUIC, and what a decent client never does is answered.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use petrel_client::{ClientOptions, Dialer, Event, Identity, TransportKind, Transports};
use petrel_core::limits;
use petrel_proto::code::Code;
use petrel_proto::frame::{FrameReader, bare, decode, encode};
use petrel_proto::version::{ALPN, FEATURE_ECHO};
use petrel_proto::wire::{self, Frame, frame::What};
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::{Gateway, PATIENCE, Person, Signal, Stage, eventually};
use petrel_tests::on_both_stores;
use petrel_tests::raw;
use petrel_transport::{Connection, ConnectionError, RecvStream, SendStream, Settings, tcp};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

on_both_stores!(
    chat_between_tcp_and_quic_is_no_other,
    a_graceful_stop_and_a_kill_lose_nothing_on_tcp,
    a_reader_that_does_not_read_on_tcp_holds_up_nobody_and_catches_up,
);

async fn person(stage: &Stage, gateway: &Gateway, name: &str) -> Result<Person> {
    let mut options = gateway.dialer_options()?;
    options.transports = Transports::Tcp;
    let dialer = Dialer::new(options)?;
    let identity = dialer.register(name, "test").await?;
    stage.device_with(ClientOptions::new(dialer, identity)).await
}

async fn chat_between_tcp_and_quic_is_no_other(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let alice = person(&stage, &gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    assert_eq!(alice.client.transport(), Some(TransportKind::Tcp));
    assert_eq!(bob.client.transport(), Some(TransportKind::Quic));
    let (to_bob, to_alice) = (alice.with(&bob), bob.with(&alice));
    for n in 0..100 {
        alice.say(&to_bob, format!("alice {n}")).await?;
        bob.say(&to_alice, format!("bob {n} {}", "x".repeat(n * 500))).await?;
    }
    for person in [&alice, &bob] {
        person.has(to_bob.id, 200).await?;
    }
    let open = || async {
        let open = gateway.metric("petrel_gateway_connections_tcp", "").await?;
        let accepted = gateway
            .metric("petrel_gateway_connections_accepted_total", "transport=\"tcp\"")
            .await?;
        // One for the registration too.
        Ok((open == 1.0 && accepted == 2.0).then_some(()))
    };
    eventually(PATIENCE, "one connection on TCP", open).await?;
    stage.judge(&gateway, &Expectations { acks_min: 200, ..Expectations::default() }).await?;
    Ok(())
}

async fn a_graceful_stop_and_a_kill_lose_nothing_on_tcp(stage: Stage) -> Result<()> {
    let mut gateway = stage.gateway(&[]).await?;
    let alice = person(&stage, &gateway, "alice").await?;
    let bob = person(&stage, &gateway, "bob").await?;
    let (to_bob, to_alice) = (alice.with(&bob), bob.with(&alice));
    for (round, signal) in [Signal::Terminate, Signal::Kill].into_iter().enumerate() {
        for n in 0..50 {
            alice.send(&to_bob, format!("alice {round} {n}"))?;
            bob.send(&to_alice, format!("bob {round} {n}"))?;
        }
        gateway.signal(signal)?;
        let status = gateway.wait(PATIENCE).await?;
        assert_eq!(status.code(), (signal == Signal::Terminate).then_some(0), "{status}");
        gateway.restart().await?;
        for person in [&alice, &bob] {
            let answers = (round + 1) * 50;
            person.until("all answers", |s| (s.acked.len() >= answers).then_some(())).await?;
            person.has(to_bob.id, 2 * answers).await?;
        }
    }
    let expectations = Expectations { acks_min: 200, resumes_min: 1, ..Expectations::default() };
    stage.judge(&gateway, &expectations).await?;
    Ok(())
}

/// A connection by hand.
struct Hand {
    connection: Connection,
}

/// A stream of it.
struct Stream {
    send: SendStream,
    recv: RecvStream,
    reader: FrameReader,
    chunk: Bytes,
}

impl Hand {
    #[allow(clippy::disallowed_methods, reason = "it ends with the connection")]
    async fn dial(gateway: &Gateway, window: u64) -> Result<Self> {
        let settings = Settings {
            receive_window: 4 * window,
            stream_receive_window: window,
            streams_max: 64,
            send_buffer: 1 << 20,
            datagram_max: 1_200,
            datagrams_in: 16_384,
            datagrams_out: 16_384,
            idle_timeout: Duration::from_secs(60),
            keep_alive: None,
            answer_within: None,
        };
        let tls = Arc::new(raw::tls(ALPN)?);
        let dialing = tcp::connect(gateway.quic, "localhost", tls, settings);
        let (connection, driver) = tokio::time::timeout(PATIENCE, dialing).await??;
        tokio::spawn(driver.run());
        Ok(Self { connection })
    }

    async fn open(&self) -> Result<Stream> {
        let opening = tokio::time::timeout(PATIENCE, self.connection.open_bi());
        let (send, recv) = opening.await.context("no stream credit")??;
        let reader = FrameReader::new(1 << 20);
        Ok(Stream { send, recv, reader, chunk: Bytes::new() })
    }

    async fn sign_in(&self, identity: &Identity) -> Result<(Stream, wire::Welcome)> {
        let mut request = self.open().await?;
        let login = What::Login(wire::Login {
            device: Bytes::copy_from_slice(&identity.device.0),
            device_secret: Bytes::copy_from_slice(identity.secret.expose()),
        });
        request.write(bare(login)).await?;
        let Some((_, What::Token(token))) = request.next().await? else { bail!("no token") };
        let mut control = self.open().await?;
        control.write(bare(What::Hello(raw::hello(&token.token)))).await?;
        match control.next().await? {
            Some((_, What::Welcome(welcome))) => Ok((control, welcome)),
            other => bail!("instead of Welcome: {other:?}"),
        }
    }

    async fn closed_with(&self) -> Result<Code> {
        match tokio::time::timeout(PATIENCE, self.connection.closed()).await? {
            ConnectionError::ApplicationClosed { code, .. } => raw::code(code),
            other => bail!("it ended with {other}"),
        }
    }
}

impl Stream {
    async fn write(&mut self, frame: Frame) -> Result<()> {
        Ok(tokio::time::timeout(PATIENCE, self.send.write_chunk(encode(&frame))).await??)
    }

    async fn next(&mut self) -> Result<Option<(Frame, What)>> {
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(payload) = self.reader.next(&mut self.chunk)? {
                    return Ok(Some(decode(payload)?));
                }
                match self.recv.read_chunk(64 * 1024).await? {
                    Some(chunk) => self.chunk = chunk.bytes,
                    None => return Ok(None),
                }
            }
        })
        .await?
    }
}

async fn a_reader_that_does_not_read_on_tcp_holds_up_nobody_and_catches_up(
    stage: Stage,
) -> Result<()> {
    const MESSAGES: u64 = 1_000;
    let gateway = stage.gateway(&["gateway.send_queue=64KiB"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let carol = person(&stage, &gateway, "carol").await?;
    let slow = gateway.dialer()?.register("slow", "test").await?;
    let hand = Hand::dial(&gateway, 4_096).await?;
    let (_control, welcome) = hand.sign_in(&slow).await?;
    assert!(!welcome.features.iter().any(|feature| feature == FEATURE_ECHO));
    let mut stream = hand.open().await?;
    stream.write(bare(What::Attach(raw::attach(slow.user, alice.user())))).await?;
    assert!(matches!(stream.next().await?, Some((_, What::Attach(_)))));
    let (to_slow, to_carol) = (alice.with_user(slow.user), alice.with(&carol));
    let text = "x".repeat(300);
    for n in 0..MESSAGES {
        let id = alice.send(&to_slow, format!("{n} {text}"))?;
        if n % 100 == 99 {
            alice.placed(id).await?;
            alice.say(&to_carol, format!("meanwhile {n}")).await?;
        }
    }
    carol.has(to_carol.id, 10).await?;
    let behind = gateway.metric("petrel_gateway_send_queue_overflows_total", "").await?;
    assert!(behind > 0.0, "the reader that does not read never fell behind");
    let mut next = 1;
    while next <= MESSAGES {
        match stream.next().await? {
            Some((frame, What::Push(_))) => {
                assert_eq!(frame.seq, next, "each once, in order");
                next += 1;
            }
            Some((_, What::Receipts(_))) => {}
            other => bail!("instead of a push of {next}: {other:?}"),
        }
    }
    stage.judge(&gateway, &Expectations { acks_min: MESSAGES, ..Expectations::default() }).await?;
    Ok(())
}

#[tokio::test]
async fn frames_too_large_and_streams_too_many_are_refused_one_by_one() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let alice = gateway.dialer()?.register("alice", "test").await?;
    let hand = Hand::dial(&gateway, 65_536).await?;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(hand.open().await?);
    }
    let more = tokio::time::timeout(Duration::from_millis(300), hand.connection.open_bi()).await;
    assert!(more.is_err(), "more than {} streams before sign-in", open.len());
    open.truncate(8);
    let mut large = hand.open().await?;
    let mut frame = bytes::BytesMut::new();
    petrel_proto::frame::write_varint(&mut frame, limits::FRAME_BYTES_MAX as u64 + 1);
    large.send.write_chunk(frame.freeze()).await?;
    match large.next().await? {
        Some((_, What::Refusal(said))) => assert_eq!(raw::code(said.code.into())?, Code::TooLarge),
        other => bail!("instead of a refusal: {other:?}"),
    }
    assert!(large.next().await?.is_none());
    assert_eq!(large.send.stopped().await?, Some(Code::TooLarge.number().into()));
    hand.sign_in(&alice).await?;
    Ok(())
}

#[tokio::test]
async fn silence_and_what_is_no_protocol_end_the_connection() -> Result<()> {
    let stage = Stage::sqlite()?;
    let times = ["gateway.handshake_timeout=500ms", "gateway.sign_in_timeout=500ms"];
    let gateway = stage.gateway(&times).await?;
    // Nothing at all, half a handshake, no TLS.
    for said in [&b""[..], &[0x16, 3, 1, 2, 0, 1, 0], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut socket = TcpStream::connect(gateway.quic).await?;
        socket.write_all(said).await?;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await?;
        assert!(ended.is_ok_and(|bytes| bytes < 16), "{answer:?}");
    }
    let refused = |reason: &'static str, least: f64| {
        let gateway = &gateway;
        let labels = format!("transport=\"tcp\",reason=\"{reason}\"");
        async move {
            let look = || async {
                let name = "petrel_gateway_connections_refused_total";
                Ok((gateway.metric(name, &labels).await? >= least).then_some(()))
            };
            eventually(PATIENCE, reason, look).await
        }
    };
    refused("handshake_timeout", 2.0).await?;
    refused("handshake", 1.0).await?;
    // Another protocol, and none.
    for alpn in [&b"other/1"[..], b""] {
        let connector = TlsConnector::from(Arc::new(raw::tls(alpn)?));
        let socket = TcpStream::connect(gateway.quic).await?;
        let name = ServerName::try_from("localhost")?;
        let Ok(mut stream) = connector.connect(name, socket).await else { continue };
        let mut answer = Vec::new();
        // The server's first record may have come with the handshake.
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == ErrorKind::UnexpectedEof));
    }
    refused("handshake", 3.0).await?;
    // The right one, and then nothing.
    let hand = Hand::dial(&gateway, 65_536).await?;
    assert_eq!(hand.closed_with().await?, Code::SignInTimeout);
    // The right one, and then what is no record.
    let connector = TlsConnector::from(Arc::new(raw::tls(ALPN)?));
    let socket = TcpStream::connect(gateway.quic).await?;
    let mut stream = connector.connect(ServerName::try_from("localhost")?, socket).await?;
    stream.write_all(&[0xff; 64]).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
    // CONNECTION_CLOSE of the transport, FRAME_ENCODING_ERROR.
    assert!(answer.windows(2).any(|two| two == [0x1c, 0x07]), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn without_tcp_nobody_is_there() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&["gateway.listen_tcp=off"]).await?;
    let refused = TcpStream::connect(gateway.quic).await;
    assert!(refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
    let alice = stage.person(&gateway, "alice").await?;
    assert_eq!(alice.client.transport(), Some(TransportKind::Quic));
    Ok(())
}

#[tokio::test]
async fn who_types_on_tcp_is_told() -> Result<()> {
    let stage = Stage::sqlite()?;
    let gateway = stage.gateway(&[]).await?;
    let alice = person(&stage, &gateway, "alice").await?;
    let identity = gateway.dialer()?.register("bob", "test").await?;
    let mut options = gateway.dialer_options()?;
    options.transports = Transports::Tcp;
    let options = ClientOptions::new(Dialer::new(options)?, identity.clone());
    let (bob, mut events) = petrel_client::Client::start(options).await?;
    // What is said before he is there, nothing but his list would tell him of.
    while !matches!(events.next().await.context("the client is gone")?, Event::Online { .. }) {}
    let to_bob = alice.with_user(identity.user);
    alice.say(&to_bob, "look").await?;
    let typed = async {
        loop {
            alice.client.typing(to_bob.id, true);
            let next = tokio::time::timeout(Duration::from_secs(4), events.next()).await;
            if let Ok(Some(Event::Typing { user, typing: true, .. })) = next {
                assert_eq!(user, alice.user());
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, typed).await?;
    bob.close().await;
    Ok(())
}
