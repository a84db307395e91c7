//! Sessions that lose their connections all at once, without a word, and come back.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use petrel_client::{Identity, UserId};
use petrel_proto::version::ALPN;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Connection, Endpoint, UdpPoller};
use rand::Rng;

use super::people::{self, concurrently};
use super::visit::{Found, Line, Pair};
use crate::body::Bodies;
use crate::dial::{self, Connector, Control, Target};
use crate::latency::Series;
use crate::progress::Progress;

/// Users who stay, and write to those who are away.
pub(super) const SPEAKERS: usize = 100;
/// Connections on one socket.
const CONNECTIONS_PER_SOCKET: usize = 1_000;
/// Sign-ins under way at once, the first time.
const SIGN_INS: usize = 32;
/// Speakers who speak at once.
const SPEAKING: usize = 16;
/// How long one try to come back may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries: a random time up to this, doubled with each.
const BACKOFF: Duration = Duration::from_millis(250);
/// How often somebody tries to come back.
const TRIES_MAX: u32 = 20;

/// A socket that can be cut off: nothing leaves or comes in any more, and nobody is told.
struct Cut {
    inner: Arc<dyn AsyncUdpSocket>,
    is_cut: Arc<AtomicBool>,
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cut").finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Cut {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.is_cut.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = self.inner.poll_recv(cx, buffers, meta);
            if received.is_pending() || !self.is_cut.load(Ordering::Relaxed) {
                return received;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A session with its one conversation.
struct Session {
    token: String,
    pair: Pair,
    config: quinn::ClientConfig,
    online: Option<(Connection, Control, Line)>,
}

/// Somebody who stays online and writes to some of the others.
struct Speaker {
    connection: Connection,
    _control: Control,
    /// Which sessions he writes to, and the conversation as he sees it.
    peers: Vec<(usize, Pair)>,
}

/// All who take part.
pub(super) struct Crowd {
    target: Target,
    sessions: Vec<Session>,
    speakers: Vec<Speaker>,
    is_cut: Arc<AtomicBool>,
    texts: Arc<Bodies>,
    missed: usize,
    /// The place of each session's last message.
    heads: Vec<u64>,
}

/// How the storm went.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) took: Duration,
    pub(super) missed: u64,
    pub(super) tries_again: u64,
    pub(super) found: Found,
    pub(super) lost: u64,
    pub(super) errors: Vec<String>,
}

impl Crowd {
    /// Signs everyone in; each session has read its one conversation.
    pub(super) async fn gather(
        target: Target,
        identities: Vec<Identity>,
        texts: Arc<Bodies>,
        missed: usize,
        progress: Progress,
    ) -> anyhow::Result<Self> {
        let (speaking, others) = identities.split_at(SPEAKERS);
        let connector = Connector::new(&target, SPEAKERS, true)?;
        let tokens = people::tokens(&connector, &identities, &progress).await?;
        let (speaker_tokens, tokens) = tokens.split_at(SPEAKERS);
        let names: Vec<UserId> = others.iter().map(|identity| identity.user).collect();
        let speakers = concurrently(
            SIGN_INS,
            speaking.iter().zip(speaker_tokens).enumerate(),
            |(number, (identity, token))| {
                let (connector, token) = (connector.clone(), token.clone());
                let peers = (number..names.len()).step_by(SPEAKERS);
                let peers = peers.map(|other| (other, Pair::new(identity.user, names[other])));
                let peers: Vec<_> = peers.collect();
                async move {
                    let connection = connector.connect(number).await?;
                    let control = dial::hello(&connection, token).await?;
                    Ok(Speaker { connection, _control: control, peers })
                }
            },
        )
        .await?;
        let sessions = others.iter().zip(tokens).enumerate().map(|(number, (identity, token))| {
            let speaker = speaking[number % SPEAKERS].user;
            // Each has a store of tickets of its own, as devices do.
            let config = dial::client_config(&target, ALPN, true)?;
            let pair = Pair::new(identity.user, speaker);
            Ok(Session { token: token.clone(), pair, config, online: None })
        });
        let sessions = sessions.collect::<anyhow::Result<Vec<Session>>>()?;
        let heads = vec![0; sessions.len()];
        let is_cut = Arc::default();
        let mut crowd = Self { target, sessions, speakers, is_cut, texts, missed, heads };
        crowd.speak(1, &progress).await?;
        crowd.come(&progress).await?;
        Ok(crowd)
    }

    /// Each speaker says so many messages to each of his peers.
    async fn speak(&mut self, messages: usize, progress: &Progress) -> anyhow::Result<()> {
        progress.steps("saying messages", self.sessions.len());
        let speakers = self.speakers.iter().map(|s| (s.connection.clone(), s.peers.clone()));
        let heads = concurrently(SPEAKING, speakers, |(connection, peers)| {
            let (texts, progress) = (Arc::clone(&self.texts), progress.clone());
            async move {
                let mut heads = Vec::with_capacity(peers.len());
                for (session, pair) in peers {
                    let said: Vec<Bytes> = (0..messages)
                        .map(|n| texts.get((session + n) % texts.count()).text.clone())
                        .collect();
                    heads.push((session, pair.say(&connection, &said).await?));
                    progress.step();
                }
                Ok(heads)
            }
        })
        .await?;
        for (session, head) in heads.into_iter().flatten() {
            self.heads[session] = head;
        }
        Ok(())
    }

    /// Everybody signs in for the first time, over sockets that will be cut off.
    async fn come(&mut self, progress: &Progress) -> anyhow::Result<()> {
        progress.steps("signing in", self.sessions.len());
        let per_socket = if self.target.apart { 1 } else { CONNECTIONS_PER_SOCKET };
        let endpoints = (0..self.sessions.len().div_ceil(per_socket))
            .map(|_| endpoint(&self.target, &self.is_cut))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let coming = std::mem::take(&mut self.sessions).into_iter().enumerate();
        let heads = self.heads.clone();
        let target = self.target.clone();
        self.sessions = concurrently(SIGN_INS, coming, |(number, mut session)| {
            let endpoint = endpoints[number % endpoints.len()].clone();
            let (target, progress, head) = (target.clone(), progress.clone(), heads[number]);
            async move {
                session.resume(&endpoint, &target, head).await?;
                progress.step();
                Ok(session)
            }
        })
        .await?;
        Ok(())
    }

    /// All connections are gone, and the speakers say what will have been missed.
    pub(super) async fn lose(&mut self, progress: &Progress) -> anyhow::Result<()> {
        self.is_cut.store(true, Ordering::Relaxed);
        for session in &mut self.sessions {
            // The socket is cut off, so that the server does not hear of it.
            session.online = None;
        }
        self.speak(self.missed, progress).await
    }

    /// All come back, so many at once.
    pub(super) async fn storm(
        &mut self,
        at_once: usize,
        connect: Arc<Series>,
        resume: Arc<Series>,
    ) -> anyhow::Result<Outcome> {
        let endpoints = dial::endpoints(&self.target, self.sessions.len())?;
        let target = self.target.clone();
        let heads = self.heads.clone();
        let tries_again = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let coming = std::mem::take(&mut self.sessions).into_iter().enumerate();
        let back = concurrently(at_once, coming, |(number, session)| {
            let endpoint = endpoints[number % endpoints.len()].clone();
            let (target, head) = (target.clone(), heads[number]);
            let (connect, resume) = (Arc::clone(&connect), Arc::clone(&resume));
            let tries_again = Arc::clone(&tries_again);
            async move {
                let mut session = session;
                let found = session.come_back(&endpoint, &target, head, &tries_again).await;
                if let Ok((_, signed_in)) = &found {
                    let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
                    connect.record(ns(*signed_in));
                    resume.record(ns(started.elapsed()));
                }
                Ok((session, found.map(|(found, _)| found)))
            }
        })
        .await?;
        let mut outcome = Outcome { took: started.elapsed(), ..Outcome::default() };
        outcome.tries_again = tries_again.load(Ordering::Relaxed);
        for (session, found) in back {
            match found {
                Ok(found) => {
                    outcome.missed += found.entries;
                    outcome.found.duplicated += found.duplicated;
                    outcome.found.gaps += found.gaps;
                    outcome.lost += (self.missed as u64).saturating_sub(found.entries);
                }
                Err(error) => {
                    outcome.lost += self.missed as u64;
                    outcome.errors.push(format!("{error:#}"));
                }
            }
            self.sessions.push(session);
        }
        Ok(outcome)
    }

    /// How many sessions take part.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }
}

impl Session {
    /// Signs in and reads the conversation up to its head; also how long signing in took. The
    /// Attach leaves with the Hello.
    async fn resume(
        &mut self,
        endpoint: &Endpoint,
        target: &Target,
        head: u64,
    ) -> anyhow::Result<(Found, Duration)> {
        let began = Instant::now();
        let connecting =
            endpoint.connect_with(self.config.clone(), target.address, &target.server_name)?;
        let connection = connecting.await?;
        let hello = dial::hello(&connection, self.token.clone());
        let (control, line) = tokio::join!(hello, self.pair.attach(&connection));
        let (control, mut line) = (control?, line?);
        let signed_in = began.elapsed();
        let found = self.pair.read_to(&mut line, head).await?;
        self.online = Some((connection, control, line));
        Ok((found, signed_in))
    }

    /// Tries until it works, as a client does.
    async fn come_back(
        &mut self,
        endpoint: &Endpoint,
        target: &Target,
        head: u64,
        tries_again: &AtomicU64,
    ) -> anyhow::Result<(Found, Duration)> {
        let mut tried = 0;
        loop {
            let trying = tokio::time::timeout(TRY_TIMEOUT, self.resume(endpoint, target, head));
            let error = match trying.await.context("not back in time").flatten() {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            tried += 1;
            if tried >= TRIES_MAX {
                return Err(error);
            }
            tries_again.fetch_add(1, Ordering::Relaxed);
            let most = BACKOFF * 2u32.pow(tried.min(4));
            let wait = most.mul_f64(rand::rng().random());
            tokio::time::sleep(wait).await;
        }
    }
}

/// A socket that is cut off together with the others.
fn endpoint(target: &Target, is_cut: &Arc<AtomicBool>) -> anyhow::Result<Endpoint> {
    let socket = std::net::UdpSocket::bind(target.local())?;
    let runtime: Arc<dyn quinn::Runtime> = Arc::new(quinn::TokioRuntime);
    let inner = runtime.wrap_udp_socket(dial::with_buffers(socket)?)?;
    let cut = Arc::new(Cut { inner, is_cut: Arc::clone(is_cut) });
    let config = petrel_client::endpoint_config();
    Ok(Endpoint::new_with_abstract_socket(config, None, cut, runtime)?)
}
