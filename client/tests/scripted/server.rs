//! A server that does what a test tells it, frame by frame.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use petrel_client::{
    Client, ClientOptions, ConversationId, DeviceId, Dialer, DialerOptions, Event, Events,
    Identity, Secret, Server, Trust, UserId,
};
use petrel_proto::frame::{self, FrameReader, bare};
use petrel_proto::wire::{self, Frame, frame::What};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};

pub const ALICE: UserId = UserId([0xa1; 16]);
pub const BOB: UserId = UserId([0xb0; 16]);

/// Runs a test's story; one that hangs fails.
pub async fn within<T>(story: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), story).await.expect("the story came to an end")
}

pub struct TestServer {
    endpoint: quinn::Endpoint,
    certified: Arc<CertifiedKey>,
    fingerprint: [u8; 32],
    pub address: SocketAddr,
    signatures: Arc<AtomicUsize>,
}

impl TestServer {
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// One that takes early data.
    pub fn start_early() -> Self {
        Self::start_with(true)
    }

    fn start_with(early_data: bool) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let signing_key = provider.key_provider.load_private_key(der).unwrap();
        let signatures = Arc::new(AtomicUsize::new(0));
        let certified = Arc::new(CertifiedKey::new(
            vec![certificate.der().clone()],
            Arc::new(CountingKey { key: signing_key, signatures: Arc::clone(&signatures) }),
        ));
        let config = server_config(&certified, early_data);
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self {
            address: endpoint.local_addr().unwrap(),
            fingerprint: Sha256::digest(certificate.der()).into(),
            endpoint,
            certified,
            signatures,
        }
    }

    /// Forgets all TLS sessions, as a server that is started again does.
    pub fn forget(&self) {
        self.endpoint.set_server_config(Some(server_config(&self.certified, true)));
    }

    /// The next connection before its handshake is done.
    pub async fn accept_early(&self) -> quinn::Connection {
        let connecting = self.endpoint.accept().await.unwrap().accept().unwrap();
        connecting.into_0rtt().ok().unwrap().0
    }

    /// Full handshakes so far: one that resumes a TLS session signs nothing.
    pub fn full_handshakes(&self) -> usize {
        self.signatures.load(Ordering::Relaxed)
    }

    pub fn dialer(&self) -> Dialer {
        self.dialer_with(|_| ())
    }

    pub fn dialer_with(&self, change: impl FnOnce(&mut DialerOptions)) -> Dialer {
        let mut options = DialerOptions::new(
            Server::Addresses(vec![self.address]),
            "localhost",
            Trust::Fingerprint(self.fingerprint),
        );
        change(&mut options);
        Dialer::new(options).unwrap()
    }

    pub fn options(&self) -> ClientOptions {
        let identity = Identity {
            user: ALICE,
            user_name: "alice".to_owned(),
            device: DeviceId([0xd1; 16]),
            secret: Secret::new([7; 32]),
        };
        let mut options = ClientOptions::new(self.dialer(), identity);
        options.receipts_delay = Duration::from_millis(20);
        options.backoff_min = Duration::from_millis(10);
        options
    }

    pub async fn accept(&self) -> quinn::Connection {
        self.endpoint.accept().await.unwrap().await.unwrap()
    }

    /// Lets a handshake go as it will.
    pub async fn try_accept(&self) {
        drop(self.endpoint.accept().await.unwrap().await);
    }

    /// Accepts a connection and signs it in as Alice.
    pub async fn sign_in(&self) -> Link {
        self.sign_in_with(welcome()).await
    }

    /// The same with a Welcome of one's own.
    pub async fn sign_in_with(&self, welcome: What) -> Link {
        let connection = self.accept().await;
        let mut first = Stream::accept(&connection).await;
        let (_, mut what) = first.next().await;
        if let What::Login(login) = &what {
            assert_eq!(login.device_secret, Bytes::from_static(&[7; 32]));
            first.say(token("token-1")).await;
            first.finish();
            first = Stream::accept(&connection).await;
            what = first.next().await.1;
        }
        let What::Hello(hello) = what else {
            panic!("not a Hello: {what:?}");
        };
        first.say(welcome).await;
        Link { connection, control: first, hello }
    }
}

fn server_config(certified: &Arc<CertifiedKey>, early_data: bool) -> quinn::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(certified))));
    tls.alpn_protocols = vec![petrel_proto::version::ALPN.to_vec()];
    tls.max_early_data_size = if early_data { u32::MAX } else { 0 };
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    quinn::ServerConfig::with_crypto(Arc::new(crypto))
}

/// A key that counts what it signs.
#[derive(Debug)]
struct CountingKey {
    key: Arc<dyn SigningKey>,
    signatures: Arc<AtomicUsize>,
}

impl SigningKey for CountingKey {
    fn choose_scheme(&self, offered: &[rustls::SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        Some(Box::new(CountingSigner { signer, signatures: Arc::clone(&self.signatures) }))
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[derive(Debug)]
struct CountingSigner {
    signer: Box<dyn Signer>,
    signatures: Arc<AtomicUsize>,
}

impl Signer for CountingSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signatures.fetch_add(1, Ordering::Relaxed);
        self.signer.sign(message)
    }

    fn scheme(&self) -> rustls::SignatureScheme {
        self.signer.scheme()
    }
}

pub fn token(text: &str) -> What {
    What::Token(wire::Token { token: text.to_owned(), expires_ms: now_ms() + 3_600_000 })
}

pub fn welcome() -> What {
    welcome_of(64, &[])
}

/// A Welcome that allows so many conversation streams.
pub fn welcome_with(streams_max: u32) -> What {
    welcome_of(streams_max, &[])
}

/// A Welcome of a server with these features.
pub fn welcome_offering(features: &[&str]) -> What {
    welcome_of(64, features)
}

fn welcome_of(streams_max: u32, features: &[&str]) -> What {
    What::Welcome(wire::Welcome {
        server_time_ms: now_ms(),
        session: Bytes::from_static(&[5; 16]),
        user: Bytes::copy_from_slice(&ALICE.0),
        dictionaries: vec![1],
        body_bytes_max: 65_536,
        streams_max,
        features: features.iter().map(|&feature| feature.to_owned()).collect(),
        ..wire::Welcome::default()
    })
}

pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A connection that is signed in.
pub struct Link {
    pub connection: quinn::Connection,
    pub control: Stream,
    pub hello: wire::Hello,
}

impl Link {
    /// The next stream that the client opens.
    pub async fn stream(&self) -> Stream {
        Stream::accept(&self.connection).await
    }

    /// The next stream of the client's, which has to begin with an Attach.
    pub async fn attached(&self) -> (Stream, wire::Attach) {
        let mut stream = self.stream().await;
        match stream.next().await.1 {
            What::Attach(attach) => (stream, attach),
            other => panic!("not an Attach: {other:?}"),
        }
    }

    pub fn close(&self, code: u32) {
        self.connection.close(code.into(), b"");
    }
}

pub struct Stream {
    pub send: quinn::SendStream,
    recv: quinn::RecvStream,
    reader: FrameReader,
    chunk: Bytes,
}

impl Stream {
    pub async fn accept(connection: &quinn::Connection) -> Self {
        let (send, recv) = connection.accept_bi().await.unwrap();
        Self::new(send, recv)
    }

    pub async fn open(connection: &quinn::Connection) -> Self {
        let (send, recv) = connection.open_bi().await.unwrap();
        Self::new(send, recv)
    }

    fn new(send: quinn::SendStream, recv: quinn::RecvStream) -> Self {
        Self { send, recv, reader: FrameReader::new(67_584), chunk: Bytes::new() }
    }

    pub async fn next(&mut self) -> (Frame, What) {
        self.try_next().await.expect("a frame, not the end")
    }

    /// The next frame; `None` when the client has finished its side.
    pub async fn try_next(&mut self) -> Option<(Frame, What)> {
        loop {
            if let Some(payload) = self.reader.next(&mut self.chunk).unwrap() {
                return Some(frame::decode(payload).unwrap());
            }
            self.chunk = self.recv.read_chunk(65_536, true).await.unwrap()?.bytes;
        }
    }

    /// The next Send, receipts passed over.
    pub async fn next_send(&mut self) -> (Frame, wire::Send) {
        loop {
            match self.next().await {
                (frame, What::Send(send)) => return (frame, send),
                (_, What::Receipts(_)) => {}
                (_, other) => panic!("not a Send: {other:?}"),
            }
        }
    }

    pub async fn say(&mut self, what: What) {
        self.write(bare(what)).await;
    }

    pub async fn write(&mut self, frame: Frame) {
        self.send.write_all(&frame::encode(&frame)).await.unwrap();
    }

    pub fn finish(&mut self) {
        self.send.finish().unwrap();
    }

    /// The server's Attach: pushes start after `after`.
    pub async fn attach(&mut self, conversation: ConversationId, after: u64, head: u64) {
        self.say(What::Attach(wire::Attach {
            conversation: Bytes::copy_from_slice(&conversation.0),
            cursor: Some(wire::Cursor { seq: after, tail: Bytes::new() }),
            head,
            count: head,
            ..wire::Attach::default()
        }))
        .await;
    }

    /// The conversation's first entry comes here, and is told.
    pub async fn first_entry(&mut self, conversation: ConversationId, events: &mut Events) {
        self.attach(conversation, 0, 1).await;
        self.push(1).await;
        assert_eq!(entries(events, 1).await, [1]);
    }

    pub async fn push(&mut self, seq: u64) {
        self.write(push(seq)).await;
    }

    pub async fn ack(&mut self, number: u64, seq: u64) {
        self.write(Frame {
            number,
            seq,
            time_ms: 1_000 + seq,
            count: seq,
            what: Some(What::Ack(wire::Ack {})),
            ..Frame::default()
        })
        .await;
    }

    pub async fn refuse(&mut self, number: u64, code: u32, retry_after_ms: u32) {
        self.write(Frame {
            number,
            what: Some(What::Refusal(wire::Refusal {
                code,
                text: "as the test says".to_owned(),
                retry_after_ms,
                server_time_ms: 0,
            })),
            ..Frame::default()
        })
        .await;
    }
}

/// Entry `seq` of Bob's, whose text is its place.
pub fn push(seq: u64) -> Frame {
    let mut id = [0xee; 16];
    id[8..].copy_from_slice(&seq.to_be_bytes());
    Frame {
        id: Bytes::copy_from_slice(&id),
        seq,
        sender: Bytes::copy_from_slice(&BOB.0),
        time_ms: 1_000 + seq,
        count: seq,
        entry_kind: 1,
        body: Bytes::from(seq.to_string()),
        what: Some(What::Push(wire::Push::default())),
        ..Frame::default()
    }
}

/// A client that is signed in, with the server's side of its connection.
pub async fn online(server: &TestServer, options: ClientOptions) -> (Client, Events, Link) {
    let (client, mut events) = Client::start(options).await.unwrap();
    let link = server.sign_in().await;
    client.online().await.unwrap();
    assert!(matches!(events.next().await, Some(Event::Online { .. })));
    (client, events, link)
}

/// The next event that is neither Attached nor about the connection.
pub async fn next(events: &mut Events) -> Event {
    loop {
        match events.next().await.expect("an event, not the end") {
            Event::Attached { .. } | Event::Online { .. } | Event::Offline { .. } => {}
            other => return other,
        }
    }
}

/// The seqs of the next `n` events, which have to be entries.
pub async fn entries(events: &mut Events, n: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < n {
        match next(events).await {
            Event::Entry(entry) => seqs.push(entry.seq),
            other => panic!("not an entry: {other:?} after {seqs:?}"),
        }
    }
    seqs
}
