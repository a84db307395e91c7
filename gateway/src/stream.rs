//! Reading streams: the first frame says what a stream is. Reading and writing
//! are apart: what is to be written goes to the session's queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use petrel_core::entry::{EntryKind, Family};
use petrel_core::error::Rejection;
use petrel_core::id::{ClientMessageId, ContentDigest, ConversationId};
use petrel_core::limits;
use petrel_core::store::{Append, Receipt};
use petrel_proto::code::Code;
use petrel_proto::frame::{self, FrameError, FrameReader};
use petrel_proto::wire::{self, Frame, frame::What};
use petrel_storage::writer::Pending;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::Semaphore;

use crate::connection::Context;
use crate::conversation_table::Cell;
use crate::fanout::{Origin, Tag};
use crate::gateway::Gateway;
use crate::send_order::{SendOrder, Turn};
use crate::session::Session;
use crate::{attach, body, clock, control, dispatch, metrics, translate};

/// Bytes read from a stream at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Incomplete frames up to this size need no room of their own.
const SMALL_FRAME_BYTES: usize = 1024;

/// Why reading a stream ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer finished its side.
    Finished,
    /// The peer reset it, or the connection is gone.
    Gone,
    /// What came is not a frame.
    Broken(FrameError),
    /// Too much is incomplete on the session's streams together.
    NoRoom,
}

/// Reads frames from a stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: RecvStream,
    reader: FrameReader,
    chunk: Bytes,
    /// Room for frames above [`SMALL_FRAME_BYTES`] while they are incomplete.
    room: Option<Arc<Semaphore>>,
}

impl Incoming {
    /// Reads frames of up to `max` bytes.
    pub(crate) fn new(stream: RecvStream, max: usize) -> Self {
        Self { stream, reader: FrameReader::new(max), chunk: Bytes::new(), room: None }
    }

    /// Shares the room for large incomplete frames with the session's other streams, so that
    /// their number does not multiply what a peer can make us hold.
    fn share_room(&mut self, session: &Session) {
        self.room = Some(Arc::clone(session.large_frames()));
    }

    /// The next frame and what it is.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn next(&mut self) -> Result<(Frame, What), End> {
        let mut room = None;
        loop {
            match self.reader.next(&mut self.chunk) {
                Ok(Some(payload)) => {
                    if self.chunk.is_empty() {
                        // Even an empty rest would keep the whole datagram in memory.
                        self.chunk = Bytes::new();
                    }
                    return frame::decode(payload).map_err(End::Broken);
                }
                Ok(None) => {}
                Err(error) => return Err(End::Broken(error)),
            }
            if room.is_none()
                && let Some(shared) = &self.room
                && self.reader.wanted().is_some_and(|bytes| bytes > SMALL_FRAME_BYTES)
            {
                let units = self.reader.wanted().unwrap_or_default().div_ceil(1024);
                let units = u32::try_from(units).unwrap_or(u32::MAX);
                // Waiting here could wait for ever: what is not read keeps the
                // rest of the other frames from coming.
                room = Some(shared.try_acquire_many(units).map_err(|_| End::NoRoom)?);
            }
            match self.stream.read_chunk(CHUNK_BYTES, true).await {
                Ok(Some(chunk)) => self.chunk = chunk.bytes,
                Ok(None) => {
                    return Err(self.reader.finish().map_or_else(End::Broken, |()| End::Finished));
                }
                Err(_) => return Err(End::Gone),
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
        self.stream.stop(VarInt::from_u32(code.number())).ok();
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

/// Serves a stream that the client opened.
pub(crate) async fn accepted(context: Arc<Context>, send: SendStream, recv: RecvStream) {
    let mut incoming = Incoming::new(recv, limits::UNAUTHENTICATED_FRAME_BYTES_MAX);
    let first = match tokio::time::timeout(FIRST_FRAME_TIMEOUT, incoming.next()).await {
        Ok(Ok(first)) => first,
        Ok(Err(End::Broken(error))) => {
            let code = broken_code(&error);
            return refuse(send, &mut incoming, code, error.to_string()).await;
        }
        Ok(Err(End::Finished | End::Gone | End::NoRoom)) => return,
        Err(_) => {
            let text = "no frame came in time".to_owned();
            return refuse(send, &mut incoming, Code::SignInTimeout, text).await;
        }
    };
    match first.1 {
        What::Hello(hello) => Box::pin(control::run(context, send, incoming, hello)).await,
        What::Attach(attach) => Box::pin(attached(context, send, incoming, attach)).await,
        request => Box::pin(dispatch::serve(context, send, incoming, request)).await,
    }
}

/// From the opening of a stream to its first whole frame.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a conversation stream that the client opened.
async fn attached(
    context: Arc<Context>,
    send: SendStream,
    mut incoming: Incoming,
    attach: wire::Attach,
) {
    let Some(session) = context.signed_in().await.map(Arc::clone) else { return };
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
            read_conversation(gateway, &session, cell, generation, incoming).await;
        }
        Err((send, rejection)) => {
            let code = translate::code(&rejection);
            metrics::refused(code);
            incoming.stop(code);
            answer(send, translate::refusal(&rejection, 0)).await;
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
        if let Ok(Some(cell)) = gateway.conversation(conversation).await {
            let incoming = Incoming::new(recv, limits::FRAME_BYTES_MAX);
            read_conversation(&gateway, &session, cell, generation, incoming).await;
        }
    });
}

/// Reads what a client says on a conversation's stream, until it finishes its side.
async fn read_conversation(
    gateway: &Arc<Gateway>,
    session: &Arc<Session>,
    cell: Arc<Cell>,
    generation: u64,
    mut incoming: Incoming,
) {
    incoming.set_max(limits::FRAME_BYTES_MAX);
    incoming.share_room(session);
    let reader = Reader {
        gateway: Arc::clone(gateway),
        session: Arc::clone(session),
        cell,
        generation,
        order: Arc::new(SendOrder::default()),
    };
    let refuse = |code: Code, text: String| {
        metrics::refused(code);
        let queue = reader.session.queue();
        queue.put_beside(reader.cell.id(), generation, translate::refusal_of(code, text));
    };
    let refuse_stream = |mut incoming: Incoming, code: Code, text: String| {
        metrics::refused(code);
        let queue = reader.session.queue();
        queue.put_last(reader.cell.id(), generation, translate::refusal_of(code, text));
        incoming.stop(code);
    };
    loop {
        match incoming.next().await {
            Ok((frame, What::Send(send))) => reader.send(frame, &send).await,
            Ok((_, What::Receipts(receipts))) => {
                if let Err(rejection) = reader.receipts(&receipts) {
                    refuse(translate::code(&rejection), rejection.to_string());
                }
            }
            Ok((_, what)) => {
                let text = format!("{} has no place here", dispatch::name_of(&what));
                return refuse_stream(incoming, Code::Unexpected, text);
            }
            Err(End::Broken(error)) => {
                return refuse_stream(incoming, broken_code(&error), error.to_string());
            }
            Err(End::NoRoom) => {
                let text = "too many large frames are incomplete".to_owned();
                return refuse_stream(incoming, Code::Overloaded, text);
            }
            Err(End::Finished) => {
                return reader.session.queue().finish(reader.cell.id(), generation);
            }
            Err(End::Gone) => return,
        }
        reader.session.queue().touch(reader.cell.id(), generation, clock::coarse_s());
    }
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
    /// Takes a Send; whatever is wrong with it is answered on its stream.
    async fn send(&self, frame: Frame, send: &wire::Send) {
        let number = frame.number;
        match self.order.turn(number) {
            Turn::Next => {}
            Turn::Before => return,
            Turn::After { expected } => {
                return self.refuse(number, &Rejection::Predecessor { expected });
            }
        }
        let began = Instant::now();
        if let Err(rejection) = self.take(frame, send, began).await {
            // A final refusal uses the number up; after a retryable one it is still expected.
            if !translate::code(&rejection).is_retryable()
                && let Ok(admission) = self.order.admit(number)
            {
                admission.use_up();
            }
            self.refuse(number, &rejection);
        }
    }

    async fn take(&self, frame: Frame, send: &wire::Send, began: Instant) -> Result<(), Rejection> {
        let now_ms = clock::unix_ms();
        if now_ms >= self.session.token_expires_ms() {
            return Err(Rejection::Reauthenticate);
        }
        self.session
            .take_send(self.gateway.rates.sends)
            .map_err(|retry_after_ms| Rejection::RateLimited { retry_after_ms })?;
        let id = translate::id("id", &frame.id, ClientMessageId::from_slice)?;
        let kind = EntryKind::from_number(frame.entry_kind)
            .filter(|kind| kind.family() == Family::Message)
            .ok_or_else(|| Rejection::Invalid {
                field: "entry_kind",
                problem: format!("{}; a message has 1 to 7", frame.entry_kind),
            })?;
        let digest = ContentDigest::of(kind, frame.encoding, &frame.body);
        let checked = body::check(frame.encoding, frame.body)?;
        if send.seen > 0 {
            let read = translate::seq("seen", send.seen)?;
            let receipt = Receipt { delivered: read, read };
            self.gateway.receipts.raise(&self.cell, self.session.user(), receipt);
        }
        let append = Append {
            conversation: self.cell.id(),
            admitted_by: None,
            sender: self.session.user(),
            id,
            kind,
            encoding: checked.encoding,
            body: checked.body,
            digest,
            target: None,
            revision: None,
            mentions: Vec::new(),
        };
        self.submit(append, frame.number, send.again, now_ms, began).await
    }

    async fn submit(
        &self,
        mut append: Append,
        number: u64,
        again: bool,
        now_ms: u64,
        began: Instant,
    ) -> Result<(), Rejection> {
        let (sender, id, digest) = (append.sender, append.id, append.digest);
        // Refuse before waiting for room what is refused anyway.
        let judge =
            || self.cell.with(|c| c.admit(sender, id, now_ms)).unwrap_or(Err(Rejection::NotFound));
        match judge() {
            Err(refusal) if !again => return Err(refusal),
            // Before a resend is refused for good, the rights are read anew.
            Err(_) if !self.gateway.reload(&self.cell).await => return Err(Rejection::Unavailable),
            _ => {}
        }
        let budget = &self.gateway.budget;
        let (session, conversation) = (self.session.share(), self.cell.share());
        let permit = budget.permit(session, conversation, append.body.len()).await?;
        metrics::get().decode_to_permit.record(began.elapsed());
        let Ok(admission) = self.order.admit(number) else {
            return Ok(());
        };
        let origin = Origin {
            session: Arc::clone(&self.session),
            generation: self.generation,
            number,
            order: Arc::clone(&self.order),
            began,
        };
        let mut locked = self.cell.lock();
        let Some(state) = locked.as_mut() else { return Err(Rejection::NotFound) };
        if state.join(sender, id, digest, &origin)? == petrel_core::conversation::Join::Joined {
            admission.use_up();
            metrics::get().joined.increment(1);
            return Ok(());
        }
        let tag = Tag { cell: Arc::clone(&self.cell) };
        let pending = match state.admit(sender, id, now_ms) {
            Ok(rights) => {
                append.admitted_by = Some(rights);
                Pending::new(append, tag, permit)
            }
            Err(refusal) if again => Pending::look_up(append, refusal, tag, permit),
            Err(refusal) => return Err(refusal),
        };
        state.begin(sender, id, digest, origin);
        if let Err(refused) = self.gateway.writers().submit(pending) {
            state.end(sender, id);
            return Err(refused.outcome.err().unwrap_or(Rejection::GoingAway));
        }
        admission.use_up();
        Ok(())
    }

    fn receipts(&self, receipts: &wire::Receipts) -> Result<(), Rejection> {
        let [own] = receipts.members.as_slice() else {
            return Err(Rejection::Invalid {
                field: "members",
                problem: "exactly one: your own receipt".to_owned(),
            });
        };
        let receipt = translate::receipt(own.delivered, own.read)?;
        self.gateway.receipts.raise(&self.cell, self.session.user(), receipt);
        Ok(())
    }

    fn refuse(&self, number: u64, rejection: &Rejection) {
        metrics::refused(translate::code(rejection));
        let frame = translate::refusal(rejection, number);
        self.session.queue().put_beside(self.cell.id(), self.generation, frame);
    }
}
