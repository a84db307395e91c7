//! Many hostile clients at once, on a thread of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use petrel_client::{Identity, UserId};
use quinn_proto::StreamId;

use super::attack::Filling;
use super::bare::{Bare, BareOptions};

/// Parts of a round, in which everybody has one turn: turns are spread, and not a storm ten times a
/// second. In each part a half-handshake is begun too.
const PARTS: usize = 10;
/// How long one takes.
const PART: Duration = Duration::from_millis(10);
/// Who was closed comes again after so many rounds.
const ROUNDS_AWAY: u32 = 50;
/// Streams that an opener opens and resets a turn, at the most.
const OPENED_A_ROUND: usize = 64;
/// Streams that a slow sender has open.
const SLOW_STREAMS: usize = 20;
/// Bytes that a deaf reader lets the server send before it has read anything.
const DEAF_WINDOW: u32 = 16 * 1024;
/// What each of those who do not read is sent: more than windows and queue hold.
const FED_MESSAGES: u64 = 6;
const FED_BYTES: usize = 60_000;
/// How the fillers fill.
const FILLING: Filling = Filling { large_frames: 8, fragmented: 40, holes: 2 };

/// What the crowd did so far.
#[derive(Debug, Default)]
pub struct CrowdCounts {
    /// Connections that it holds.
    pub connections: AtomicU64,
    /// Handshakes begun and left.
    pub half_handshakes: AtomicU64,
    /// Streams opened and reset.
    pub streams_reset: AtomicU64,
    /// Connections that the server ended.
    pub closed: AtomicU64,
}

/// The crowd. It goes when this is dropped.
#[derive(Debug)]
pub struct Crowd {
    counts: Arc<CrowdCounts>,
    stopping: Arc<AtomicBool>,
    ready: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

/// How many there are.
const KINDS: usize = 4;

/// What one of them does.
enum Member {
    /// Fills receive windows with holes, and buffers with frames that never end.
    Filler { _silent: Bare },
    /// Attaches a conversation and never reads.
    Deaf(Bare),
    /// A byte now and then on many streams.
    Slow(Bare, Vec<StreamId>),
    /// Opens streams and resets them, as fast as it is allowed.
    Opener(Option<Bare>, u32),
}

impl Crowd {
    /// Lets one of the given people after the other loose on a server: fillers, deaf ones, slow ones and
    /// openers in turn, and beside them `half_handshakes` a second from many addresses. Everybody is
    /// attached to the conversation with `peer`, who may write to them.
    pub fn let_loose(
        server: SocketAddr,
        people: Vec<Identity>,
        peer: UserId,
        half_handshakes: bool,
    ) -> Self {
        let (counts, stopping, ready) =
            (Arc::<CrowdCounts>::default(), Arc::<AtomicBool>::default(), Arc::default());
        let shared = (Arc::clone(&counts), Arc::clone(&stopping), Arc::clone(&ready));
        let thread =
            std::thread::spawn(move || run(server, &people, peer, half_handshakes, shared));
        Self { counts, stopping, ready, thread: Some(thread) }
    }

    /// What it did so far.
    pub fn counts(&self) -> &CrowdCounts {
        &self.counts
    }

    /// Whether all are there; an error ends it before.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
            || self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    /// Ends it.
    ///
    /// # Errors
    /// It could not do what it meant to.
    pub fn end(mut self) -> Result<()> {
        self.stopping.store(true, Ordering::Relaxed);
        match self.thread.take().map(std::thread::JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(anyhow!("the crowd panicked")),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

type Shared = (Arc<CrowdCounts>, Arc<AtomicBool>, Arc<AtomicBool>);

fn run(
    server: SocketAddr,
    people: &[Identity],
    peer: UserId,
    half_handshakes: bool,
    (counts, stopping, ready): Shared,
) -> Result<()> {
    let mut members = Vec::with_capacity(people.len());
    for (n, person) in people.iter().enumerate() {
        if stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        members.push(Member::come(n, server, person, peer)?);
        counts.connections.fetch_add(1, Ordering::Relaxed);
    }
    ready.store(true, Ordering::Release);
    let mut turn = 0u32;
    while !stopping.load(Ordering::Relaxed) {
        let began = Instant::now();
        turn = turn.wrapping_add(1);
        // Of each kind some, as kinds alternate.
        let everybody = members.iter_mut().zip(people).enumerate();
        let part = everybody.filter(|(n, _)| (n / KINDS + turn as usize).is_multiple_of(PARTS));
        for (_, (member, person)) in part {
            member.take_turn(server, person, &counts)?;
        }
        if half_handshakes {
            half_a_handshake(server, turn)?;
            counts.half_handshakes.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(PART.saturating_sub(began.elapsed()));
    }
    Ok(())
}

/// A first flight whose answer nobody hears, from one of many loopback addresses.
fn half_a_handshake(server: SocketAddr, number: u32) -> Result<()> {
    let [_, b, c, d] = number.to_be_bytes();
    let local: IpAddr = if server.ip().is_loopback() && server.is_ipv4() {
        Ipv4Addr::new(127, b.wrapping_add(1), c, d.max(1)).into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    Bare::begin(server, &BareOptions { local, ..BareOptions::default() })?.send()?;
    Ok(())
}

/// Somebody's other device writes to a conversation, so that the first one is sent it.
fn feed(server: SocketAddr, person: &Identity, peer: UserId) -> Result<()> {
    let mut other = Bare::sign_in(server, person, &BareOptions::default())?;
    let stream = other.attach(person.user, peer)?;
    other.say(stream, FED_MESSAGES, FED_BYTES)?;
    other.close();
    Ok(())
}

impl Member {
    fn come(n: usize, server: SocketAddr, person: &Identity, peer: UserId) -> Result<Self> {
        let deaf = BareOptions { window: DEAF_WINDOW, ..BareOptions::default() };
        let options = if n % KINDS == 1 { deaf } else { BareOptions::default() };
        let mut bare = Bare::sign_in(server, person, &options)?;
        bare.attach(person.user, peer)?;
        Ok(match n % KINDS {
            0 => {
                FILLING.fill(&mut bare)?;
                feed(server, person, peer)?;
                Self::Filler { _silent: bare }
            }
            1 => {
                feed(server, person, peer)?;
                Self::Deaf(bare)
            }
            2 => {
                let streams = (0..SLOW_STREAMS).map(|_| bare.open()).collect::<Result<_>>()?;
                Self::Slow(bare, streams)
            }
            _ => Self::Opener(Some(bare), 0),
        })
    }

    fn take_turn(
        &mut self,
        server: SocketAddr,
        person: &Identity,
        counts: &CrowdCounts,
    ) -> Result<()> {
        match self {
            Self::Filler { .. } => {}
            Self::Deaf(bare) => {
                // It acknowledges what its window lets in, and reads nothing of it.
                bare.send()?;
                bare.hear(Duration::ZERO)?;
            }
            Self::Slow(bare, streams) => {
                if let Some(stream) = streams.pop() {
                    // The beginning of a frame of 63 bytes, then one byte after the other.
                    bare.write(stream, &[0x3f]);
                    streams.insert(0, stream);
                }
                bare.send()?;
                bare.hear(Duration::ZERO)?;
            }
            Self::Opener(bare, away) => match bare {
                Some(open) => {
                    let mut opened = 0;
                    while opened < OPENED_A_ROUND
                        && let Some(stream) = open.try_open()
                    {
                        open.write(stream, &[0x3f]);
                        open.send()?;
                        open.reset(stream);
                        opened += 1;
                    }
                    open.send()?;
                    open.hear(Duration::ZERO)?;
                    counts.streams_reset.fetch_add(opened as u64, Ordering::Relaxed);
                    if open.ended().is_some() {
                        counts.closed.fetch_add(1, Ordering::Relaxed);
                        (*bare, *away) = (None, ROUNDS_AWAY);
                    }
                }
                None if *away > 0 => *away -= 1,
                None => *bare = Bare::sign_in(server, person, &BareOptions::default()).ok(),
            },
        }
        Ok(())
    }
}
