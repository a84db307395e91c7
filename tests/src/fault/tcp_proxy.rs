//! Between a gateway and PostgreSQL: passes bytes on, and loses the answer to a commit.
//!
//! It reads just enough of the protocol (version 3, without TLS) to know which connection
//! appends, where an append begins, and when its answer is complete: only then is it certain
//! that what the gateway never hears of is committed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Messages of one frontend or backend, at the most.
const FRAME_BYTES_MAX: usize = 128 << 20;
/// What a connection sends of its own before frames have a type.
const STARTUP: Option<u8> = None;

/// A proxy on a free port of the loopback. It ends when it is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    server: AtomicU16,
    /// What a prepared statement contains that appends.
    appends: &'static [u8],
    /// Answers still to be lost.
    to_eat: AtomicU64,
    /// Answers that were lost.
    eaten: watch::Sender<u64>,
    /// Answers that would have been lost, but were refusals.
    refusals: AtomicU64,
    cut: Notify,
}

/// One connection.
#[derive(Debug, Default)]
struct Link {
    appends: AtomicBool,
    eats: AtomicBool,
}

impl TcpProxy {
    /// To a server on the loopback; `appends` marks the statement whose answers can be lost.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(server: u16, appends: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let server = AtomicU16::new(server);
        let shared = Arc::new(Shared { server, appends: appends.as_bytes(), ..Shared::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { port, shared, _tasks: tasks })
    }

    /// The next append is carried out, and its connection ends before the answer.
    pub fn lose_next_answer(&self) {
        self.shared.to_eat.fetch_add(1, Ordering::SeqCst);
    }

    /// So many answers were lost; changes as they are.
    #[must_use]
    pub fn lost(&self) -> watch::Receiver<u64> {
        self.shared.eaten.subscribe()
    }

    /// Appends that were to lose their answer, and were not carried out.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.shared.refusals.load(Ordering::SeqCst)
    }

    /// New connections go to another server on the loopback; those there are end.
    pub fn turn_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
        self.cut();
    }

    /// Ends all present connections at once.
    pub fn cut(&self) {
        self.shared.cut.notify_waiters();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                links.spawn(pass(client, Arc::clone(&shared)));
            }
            Some(_) = links.join_next() => {}
        }
    }
}

/// One connection, until either end is gone; both ends go together.
async fn pass(client: TcpStream, shared: Arc<Shared>) {
    let at = SocketAddr::from(([127, 0, 0, 1], shared.server.load(Ordering::SeqCst)));
    let Ok(server) = TcpStream::connect(at).await else { return };
    for end in [&client, &server] {
        end.set_nodelay(true).ok();
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let link = Link::default();
    tokio::select! {
        _ = requests(from_client, to_server, &link, &shared) => {}
        _ = answers(from_server, to_client, &link, &shared) => {}
        () = shared.cut.notified() => {}
    }
}

async fn requests(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    link: &Link,
    shared: &Shared,
) -> io::Result<()> {
    let mut frames = Frames::new(from, true);
    while let Some((kind, frame)) = frames.next().await? {
        match kind {
            Some(b'P') => {
                let found = frame.windows(shared.appends.len()).any(|part| part == shared.appends);
                link.appends.fetch_or(found, Ordering::SeqCst);
            }
            Some(b'B') if link.appends.load(Ordering::SeqCst) => {
                let take = |left: u64| left.checked_sub(1);
                if shared.to_eat.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                    link.eats.store(true, Ordering::SeqCst);
                }
            }
            _ => {}
        }
        to.write_all(&frame).await?;
    }
    Ok(())
}

async fn answers(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    link: &Link,
    shared: &Shared,
) -> io::Result<()> {
    let mut frames = Frames::new(from, false);
    let mut refused = false;
    while let Some((kind, frame)) = frames.next().await? {
        if !link.eats.load(Ordering::SeqCst) {
            to.write_all(&frame).await?;
            continue;
        }
        refused |= kind == Some(b'E');
        // Ready for the next query: the transaction of the one call has ended.
        if kind == Some(b'Z') {
            if refused {
                shared.refusals.fetch_add(1, Ordering::SeqCst);
            } else {
                shared.eaten.send_modify(|eaten| *eaten += 1);
            }
            break;
        }
    }
    Ok(())
}

/// Whole messages of the protocol.
struct Frames<R> {
    from: R,
    buffer: BytesMut,
    /// The first message of a client has no type.
    starting: bool,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    fn new(from: R, starting: bool) -> Self {
        Self { from, buffer: BytesMut::new(), starting }
    }

    /// The next one with its type, or `None` at the end.
    async fn next(&mut self) -> io::Result<Option<(Option<u8>, Bytes)>> {
        loop {
            if let Some(length) = self.length()? {
                let frame = self.buffer.split_to(length).freeze();
                let kind = if self.starting { STARTUP } else { frame.first().copied() };
                self.starting = false;
                return Ok(Some((kind, frame)));
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The length of the first message in the buffer, once it is complete.
    fn length(&self) -> io::Result<Option<usize>> {
        let kind = usize::from(!self.starting);
        let Some(mut length) = self.buffer.get(kind..kind + 4) else { return Ok(None) };
        let length = kind + usize::try_from(length.get_u32()).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other("a message is too long"));
        }
        Ok((self.buffer.len() >= length).then_some(length))
    }
}
