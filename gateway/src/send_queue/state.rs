//! The queue's state, behind its lock.

use std::time::Instant;

use bytes::Bytes;
use petrel_core::id::{ConversationId, Seq};
use petrel_proto::code::Code;
use petrel_transport::SendStream;
use rustc_hash::FxHashMap;

use super::hold::Hold;

/// Bytes of one frame's bookkeeping, counted with its own.
pub(super) const FRAME_OVERHEAD: usize = 64;

/// Whose turn it is to feed a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Committed entries are put in as they come.
    Live,
    /// Entries were left out; nobody reads them from the store yet.
    Behind,
    /// Somebody reads from the store what is missing.
    CatchingUp,
}

/// What waits for one conversation's stream.
#[derive(Debug)]
pub(super) struct Slot {
    /// Tells this stream from those of the same conversation before it.
    pub(super) generation: u64,
    /// A stream that the client opened, until the writer takes it.
    pub(super) stream: Option<SendStream>,
    pub(super) mode: Mode,
    pub(super) next: Seq,
    pub(super) frames: Vec<Bytes>,
    /// Of `frames`, and of what the writer took and has not written.
    pub(super) bytes: usize,
    pub(super) dirty: bool,
    pub(super) finish: bool,
    pub(super) used_s: u32,
    /// Others' receipts were left out in the background.
    pub(super) owes_receipts: bool,
}

/// All slots, the control stream's frames, and what they take together.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) slots: FxHashMap<ConversationId, Slot>,
    pub(super) dirty: Vec<ConversationId>,
    pub(super) control: Vec<Bytes>,
    pub(super) bytes: usize,
    pub(super) generations: u64,
    pub(super) suspended: bool,
    pub(super) hold: Hold,
    /// Nothing is read from the store for slots that are behind: the session's handshake is not done.
    pub(super) unproven: bool,
    pub(super) ended: Option<Code>,
    /// When the first of what waits to be taken was put in.
    pub(super) waiting_since: Option<Instant>,
    /// When an entry was last put in.
    pub(super) delivered_s: Option<u32>,
}

impl State {
    /// Makes a slot whose first frames are `first`; gives back its generation.
    pub(super) fn add_slot(
        &mut self,
        conversation: ConversationId,
        stream: Option<SendStream>,
        next: Seq,
        mode: Mode,
        first: Vec<Bytes>,
        used_s: u32,
    ) -> u64 {
        self.generations += 1;
        let generation = self.generations;
        self.slots.insert(
            conversation,
            Slot {
                generation,
                stream,
                mode,
                next,
                frames: Vec::new(),
                bytes: 0,
                dirty: false,
                finish: false,
                used_s,
                owes_receipts: false,
            },
        );
        for frame in first {
            self.put(conversation, frame);
        }
        self.mark(conversation);
        generation
    }

    /// Puts a frame in that is to be written now.
    pub(super) fn put(&mut self, conversation: ConversationId, frame: Bytes) {
        self.put_quietly(conversation, frame);
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// Whether entries are put into the conversation's slot as they come.
    pub(super) fn is_live(&self, conversation: ConversationId) -> bool {
        self.slots.get(&conversation).is_some_and(|slot| slot.mode == Mode::Live)
    }

    /// Puts a frame in; whatever is put in calls a finishing off.
    pub(super) fn put_quietly(&mut self, conversation: ConversationId, frame: Bytes) {
        if let Some(slot) = self.slots.get_mut(&conversation) {
            let bytes = frame.len() + FRAME_OVERHEAD;
            slot.bytes += bytes;
            slot.finish = false;
            self.bytes += bytes;
            slot.frames.push(frame);
            self.mark(conversation);
        }
    }

    /// Lets the writer look at a slot.
    pub(super) fn mark(&mut self, conversation: ConversationId) {
        if let Some(slot) = self.slots.get_mut(&conversation)
            && !slot.dirty
        {
            slot.dirty = true;
            self.dirty.push(conversation);
        }
    }
}
