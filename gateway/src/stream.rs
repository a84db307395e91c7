//! Reading streams: the first frame says what a stream is. Reading and writing
//! are apart: what is to be written goes to the session's queue.

mod pieces;
mod sending;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use petrel_core::error::Rejection;
use petrel_core::id::ConversationId;
use petrel_core::limits;
use petrel_proto::code::Code;
use petrel_proto::echo::Spliced;
use petrel_proto::frame::{self, FrameError, FrameReader};
use petrel_proto::wire::{self, Frame, frame::What};
use petrel_transport::{RecvStream, SendStream};

use crate::connection::{Context, Fuse};
use crate::conversation_table::Cell;
use crate::gateway::Gateway;
use crate::intake::Intake;
use crate::send_order::SendOrder;
use crate::session::Session;
use crate::{attach, clock, control, dispatch, metrics, receipts, translate};
pub(crate) use pieces::Cost;
use pieces::Pieces;

/// Bytes read from a stream at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Incomplete frames up to this size need no room of their own.
pub(crate) const SMALL_FRAME_BYTES: usize = 256;

/// What [`End::NoRoom`] is to the peer.
const NO_ROOM: &str = "too many large frames are incomplete";

/// Why reading a stream ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer finished its side.
    Finished,
    /// The peer reset it, or the connection is gone.
    Gone,
    /// What came is not a frame.
    Broken(FrameError),
    /// Too much is incomplete on the connection's streams together.
    NoRoom,
}

/// Reads frames from a stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: RecvStream,
    /// The stream's bytes, and copies of them that came in datagrams.
    spliced: Spliced,
    reader: FrameReader,
    chunk: Bytes,
    /// What came behind a hole.
    pieces: Pieces,
    /// What the streams of the connection may hold and do together.
    intake: Arc<Intake>,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // It is less than before, which is always allowed.
        self.intake.holds(self.pieces.cost(), Cost::default()).ok();
    }
}

impl Incoming {
    /// Reads frames of up to `max` bytes.
    pub(crate) fn new(stream: RecvStream, max: usize, intake: &Arc<Intake>) -> Self {
        Self {
            stream,
            spliced: Spliced::default(),
            reader: FrameReader::new(max),
            chunk: Bytes::new(),
            pieces: Pieces::default(),
            intake: Arc::clone(intake),
        }
    }

    /// Takes copies of the stream's bytes from the session's datagrams too, if it has the feature.
    fn take_copies(&mut self, session: &Session) {
        if let Some(inboxes) = session.echo_inboxes() {
            self.spliced.take_copies(self.stream.id(), inboxes);
        }
    }

    /// The next frame and what it is.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn next(&mut self) -> Result<(Frame, What), End> {
        let intake = Arc::clone(&self.intake);
        let mut room = None;
        loop {
            match self.reader.next(&mut self.chunk) {
                Ok(Some(payload)) => {
                    while let Some(wait) = intake.take_frame() {
                        // Boxed: it is rare, and what waits for a frame is kept small.
                        Box::pin(tokio::time::sleep(wait)).await;
                    }
                    if self.chunk.is_empty() {
                        // Even an empty rest would keep the whole datagram in memory.
                        self.chunk = Bytes::new();
                    }
                    return frame::decode(payload).map_err(End::Broken);
                }
                // The same: what is incomplete was copied.
                Ok(None) => self.chunk = Bytes::new(),
                Err(error) => return Err(End::Broken(error)),
            }
            if room.is_none() && self.reader.wanted().is_some_and(|bytes| bytes > SMALL_FRAME_BYTES)
            {
                // Waiting here could wait for ever: what is not read keeps the
                // rest of the other frames from coming.
                let wanted = self.reader.wanted().unwrap_or_default();
                room = Some(intake.room(wanted).ok_or(End::NoRoom)?);
            }
            match poll_fn(|cx| self.poll_bytes(cx)).await? {
                Some(bytes) => self.chunk = bytes,
                None => {
                    return Err(self.reader.finish().map_or_else(End::Broken, |()| End::Finished));
                }
            }
        }
    }

    /// The next bytes of the stream that were not read before; `None` at its end. The stream is read
    /// in the order in which its bytes come, and put in its own order here ([`pieces`]).
    fn poll_bytes(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<Option<Bytes>, End>> {
        if let Poll::Ready(bytes) = self.spliced.poll_copy(cx, metrics::echo_received) {
            return Poll::Ready(Ok(Some(bytes)));
        }
        loop {
            let cost = self.pieces.cost();
            let next = self.spliced.taken();
            let (offset, bytes) = match self.pieces.take(next) {
                Some(piece) => piece,
                None => {
                    let reading = pin!(self.stream.read_arrived(CHUNK_BYTES));
                    match ready!(reading.poll(cx)) {
                        Ok(Some(chunk)) => (chunk.offset, chunk.bytes),
                        Ok(None) => return Poll::Ready(Ok(None)),
                        Err(_) => return Poll::Ready(Err(End::Gone)),
                    }
                }
            };
            if offset > next {
                self.pieces.put(offset, &bytes);
            }
            if self.pieces.cost() != cost {
                self.intake.holds(cost, self.pieces.cost()).map_err(|()| End::Gone)?;
            }
            if offset <= next {
                let new = self.spliced.from_stream(offset, bytes);
                if !new.is_empty() {
                    return Poll::Ready(Ok(Some(new)));
                }
            }
        }
    }

    /// Allows frames of up to `max` bytes from now on.
    pub(crate) fn set_max(&mut self, max: usize) {
        self.reader.set_max(max);
    }

    /// Asks the peer to send nothing more.
    pub(crate) fn stop(&mut self, code: Code) {
        // An error means that the stream is over already.
        self.stream.stop(code.number()).ok();
    }
}

/// The code that answers bytes which are no frame.
pub(crate) fn broken_code(error: &FrameError) -> Code {
    match error {
        FrameError::TooLarge { .. } => Code::TooLarge,
        FrameError::Empty | FrameError::Malformed(_) | FrameError::Truncated { .. } => {
            Code::Malformed
        }
        FrameError::Unknown => Code::Unexpected,
    }
}

/// Writes a last frame and finishes.
pub(crate) async fn answer(mut send: SendStream, frame: Bytes) {
    // The peer may be gone; then nobody waits for the answer.
    if send.write_chunk(frame).await.is_ok() {
        send.finish().ok();
    }
}

/// Refuses a stream: a last frame, and no more reading.
pub(crate) async fn refuse(send: SendStream, incoming: &mut Incoming, code: Code, text: String) {
    metrics::refused(code);
    incoming.stop(code);
    answer(send, translate::refusal_of(code, text)).await;
}

/// A part of a stream's life, and what follows it. Streams live long, and one future for a whole
/// life is as large as its largest part; so each part is freed when the next begins.
pub(crate) struct Phase(BoxFuture<'static, Option<Phase>>);

impl Phase {
    /// A part that another may follow.
    pub(crate) fn then(part: impl Future<Output = Option<Self>> + Send + 'static) -> Option<Self> {
        Some(Self(Box::pin(part)))
    }

    /// The last part.
    pub(crate) fn last(part: impl Future<Output = ()> + Send + 'static) -> Option<Self> {
        // Not a block, which would hold the part twice.
        Self::then(part.map(|()| None))
    }

    /// Refuses a stream as its last part.
    fn refuse(send: SendStream, mut incoming: Incoming, code: Code, text: String) -> Option<Self> {
        Self::last(async move { refuse(send, &mut incoming, code, text).await })
    }
}

/// Serves a stream that the client opened.
pub(crate) fn accepted(
    context: Arc<Context>,
    send: SendStream,
    recv: RecvStream,
) -> impl Future<Output = ()> + Send {
    let fuse = Fuse::of(&context.connection);
    let mut next = Phase::then(begin(context, send, recv));
    async move {
        let _fuse = fuse;
        while let Some(phase) = next.take() {
            next = phase.0.await;
        }
    }
}

/// Reads the first frame; what it asks for comes next.
async fn begin(context: Arc<Context>, send: SendStream, recv: RecvStream) -> Option<Phase> {
    let intake = Arc::clone(&context.intake);
    let mut incoming = Incoming::new(recv, limits::UNAUTHENTICATED_FRAME_BYTES_MAX, &intake);
    let first = tokio::time::timeout(FIRST_FRAME_TIMEOUT, incoming.next()).await;
    if let Ok(Ok((_, what))) = &first
        && !context.may_begin(what).await
    {
        return None;
    }
    match first {
        Ok(Ok((_, What::Hello(hello)))) => {
            Phase::then(control::begin(context, send, incoming, hello))
        }
        Ok(Ok((_, What::Attach(attach)))) => Phase::then(attached(context, send, incoming, attach)),
        Ok(Ok((frame, what))) => {
            let asked = dispatch::Asked { id: frame.id, what };
            Phase::last(dispatch::serve(context, send, incoming, asked))
        }
        Ok(Err(End::Broken(error))) => {
            Phase::refuse(send, incoming, broken_code(&error), error.to_string())
        }
        Ok(Err(End::NoRoom)) => Phase::refuse(send, incoming, Code::Overloaded, NO_ROOM.to_owned()),
        Ok(Err(End::Finished | End::Gone)) => {
            intake.stream_was_silent();
            None
        }
        Err(_) => {
            let text = "no frame came in time".to_owned();
            Phase::refuse(send, incoming, Code::SignInTimeout, text)
        }
    }
}

/// From the opening of a stream to its first whole frame.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Attaches a conversation stream that the client opened; what it says is read next.
async fn attached(
    context: Arc<Context>,
    send: SendStream,
    mut incoming: Incoming,
    attach: wire::Attach,
) -> Option<Phase> {
    let session = context.signed_in().await.map(Arc::clone)?;
    let gateway = &context.gateway;
    let found = match attach::Request::read(&attach, session.user()) {
        Ok(request) => {
            attach::find(gateway, session.user(), &request).await.map(|cell| (request, cell))
        }
        Err(rejection) => Err(rejection),
    };
    let result = match found {
        Ok((request, cell)) => {
            let attached = attach::attach(gateway, &session, &cell, request, send).await;
            attached.map(|generation| (cell, generation))
        }
        Err(rejection) => Err((send, rejection)),
    };
    match result {
        Ok((cell, generation)) => {
            let reader = Reader::new(gateway, session, cell, generation);
            // The context is kept for as long: it counts the streams that are read.
            Phase::last(reader.read(incoming).map(move |()| drop(context)))
        }
        Err((send, rejection)) => {
            let code = translate::code(&rejection);
            metrics::refused(code);
            incoming.stop(code);
            answer(send, translate::refusal(&rejection, 0)).await;
            None
        }
    }
}

/// Serves the reading side of a conversation stream that the server opened.
pub(crate) fn spawn_opened(
    gateway: &Arc<Gateway>,
    session: &Arc<Session>,
    conversation: ConversationId,
    generation: u64,
    recv: RecvStream,
) {
    let (gateway, session) = (Arc::clone(gateway), Arc::clone(session));
    let tasks = gateway.tasks.clone();
    tasks.spawn(async move {
        let _fuse = Fuse::of(session.connection());
        if let Ok(Some(cell)) = Box::pin(gateway.conversation(conversation)).await {
            let incoming = Incoming::new(recv, limits::FRAME_BYTES_MAX, session.intake());
            Reader::new(&gateway, session, cell, generation).read(incoming).await;
        }
    });
}

/// The reading side of one conversation stream.
struct Reader {
    gateway: Arc<Gateway>,
    session: Arc<Session>,
    cell: Arc<Cell>,
    generation: u64,
    order: Arc<SendOrder>,
}

impl Reader {
    fn new(
        gateway: &Arc<Gateway>,
        session: Arc<Session>,
        cell: Arc<Cell>,
        generation: u64,
    ) -> Self {
        let order = Arc::new(SendOrder::default());
        Self { gateway: Arc::clone(gateway), session, cell, generation, order }
    }

    /// Reads what a client says on a conversation's stream, until it finishes its side.
    fn read(self, mut incoming: Incoming) -> impl Future<Output = ()> + Send {
        incoming.set_max(limits::FRAME_BYTES_MAX);
        incoming.take_copies(&self.session);
        // A block, as a function's future would hold what it is given twice.
        async move {
            loop {
                // Boxed: between two messages the stream is not to keep room for one.
                let sending = match incoming.next().await {
                    Ok((frame, What::Send(send))) => Some(Box::pin(self.send(frame, send))),
                    Ok((_, What::Receipts(receipts))) => {
                        if let Err(rejection) = self.receipts(receipts) {
                            self.refuse(0, &rejection);
                        }
                        None
                    }
                    Ok((_, what)) => {
                        let text = format!("{} has no place here", dispatch::name_of(&what));
                        return self.refuse_stream(&mut incoming, Code::Unexpected, text);
                    }
                    Err(End::Broken(error)) => {
                        let (code, text) = (broken_code(&error), error.to_string());
                        return self.refuse_stream(&mut incoming, code, text);
                    }
                    Err(End::NoRoom) => {
                        let text = NO_ROOM.to_owned();
                        return self.refuse_stream(&mut incoming, Code::Overloaded, text);
                    }
                    Err(End::Finished) => {
                        return self.session.queue().finish(self.cell.id(), self.generation);
                    }
                    Err(End::Gone) => return,
                };
                if let Some(sending) = sending {
                    sending.await;
                }
                self.session.queue().touch(self.cell.id(), self.generation, clock::coarse_s());
            }
        }
    }

    /// Ends the stream with a refusal.
    fn refuse_stream(&self, incoming: &mut Incoming, code: Code, text: String) {
        metrics::refused(code);
        let refusal = translate::refusal_of(code, text);
        self.session.queue().put_last(self.cell.id(), self.generation, refusal);
        incoming.stop(code);
    }

    fn receipts(&self, said: wire::Receipts) -> Result<(), Rejection> {
        let invalid = |field, problem| Err(Rejection::Invalid { field, problem });
        if said.along.len() > limits::RECEIPTS_ALONG_MAX {
            let problem = format!("{}; at most {}", said.along.len(), limits::RECEIPTS_ALONG_MAX);
            return invalid("along", problem);
        }
        match said.members.as_slice() {
            [own] => {
                let receipt = translate::receipt(own.delivered, own.read)?;
                self.session.raise(&self.gateway, &self.cell, receipt);
            }
            [] if !said.along.is_empty() => {}
            _ => return invalid("members", "exactly one: your own receipt".to_owned()),
        }
        receipts::raise_cached(&self.gateway, &self.session, said.along);
        Ok(())
    }

    fn refuse(&self, number: u64, rejection: &Rejection) {
        metrics::refused(translate::code(rejection));
        let frame = translate::refusal(rejection, number);
        self.session.queue().put_beside(self.cell.id(), self.generation, frame);
    }
}
