//! The echo: while packets are being lost, what is written to a stream in small pieces goes once more,
//! in a datagram (RFC 9221) of a later packet. A message whose packet is lost then comes some
//! milliseconds late instead of after a retransmission, which takes more than a round trip.
//!
//! A copy names its stream and the offset of its bytes there, so it is nothing but the stream's own
//! bytes on another way: the receiver goes on from whichever comes first ([`Splice`]) and meets
//! every byte once and in order, whatever the bytes mean. The stream stays the truth.
//!
//! And while nothing at all is heard of what was sent, it goes again and again: QUIC's own probes come
//! later each time, and a silence is most often a burst that is about to end.
//!
//! Sans-IO: the callers tell the time and do the sending. What became of packets is known by
//! [`Flights`]; how much loss makes copies worthwhile is judged by [`Loss`]; what is due when, by [`EchoQueue`].

mod flights;
mod inbox;
mod loss;
mod queue;
mod sender;
#[cfg(feature = "quinn")]
mod witness;

use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::frame::read_varint;

pub use flights::Flights;
pub use inbox::{Delivered, Heard, Inboxes, Spliced};
pub use loss::{Counts, Loss};
pub use queue::{Due, EchoQueue, Offered};
pub use sender::{EchoSender, Path};
#[cfg(feature = "quinn")]
pub use witness::{WitnessConfig, flights};

/// Bytes of one write that are echoed, at the most: what is larger spans several packets, and what
/// follows a lost one of them in the same round trip shows the loss.
pub const COPY_BYTES_MAX: usize = 1_000;

/// How a frame of receipts alone begins, after its length: field 14, a message.
const RECEIPTS: u8 = (14 << 3) | 2;

/// Whether what is written to a stream, whole frames, is worth a copy. Receipts are not: nobody waits for
/// them, and the next ones say the same and more.
fn is_worth_a_copy(mut frames: &[u8]) -> bool {
    while let Some((length, header)) = read_varint(frames) {
        if frames.get(header) != Some(&RECEIPTS) {
            return true;
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        frames = frames.get(header.saturating_add(length)..).unwrap_or_default();
    }
    !frames.is_empty()
}

/// How long acknowledgements may wait for others to go with them, as both sides ask of each other (the
/// extension for acknowledgement frequency): a fifth of QUIC's default. What is lost is known so much
/// earlier; and an answer that needs a commit still takes them with it.
pub const ACK_DELAY_MAX: Duration = Duration::from_millis(5);

/// How far a receiver has come on one stream, of which it gets the bytes in order from the stream itself
/// and, now and then, ahead of it from copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Splice {
    taken: u64,
}

/// What a copy was good for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Copied {
    /// These bytes are next.
    News(Bytes),
    /// The stream was faster.
    Late,
    /// Something before it is missing. The stream will bring both.
    Early,
}

impl Splice {
    /// What is new of a chunk that the stream brings, from `offset` on; perhaps nothing.
    pub fn from_stream(&mut self, offset: u64, mut chunk: Bytes) -> Bytes {
        let end = offset + chunk.len() as u64;
        let known = usize::try_from(self.taken.saturating_sub(offset)).unwrap_or(usize::MAX);
        chunk.advance(known.min(chunk.len()));
        self.taken = self.taken.max(end);
        chunk
    }

    /// Up to which offset it has come.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// What is new of a copy.
    pub fn from_copy(&mut self, offset: u64, mut data: Bytes) -> Copied {
        let Some(end) = offset.checked_add(data.len() as u64) else { return Copied::Early };
        if offset > self.taken {
            return Copied::Early;
        }
        if end <= self.taken {
            return Copied::Late;
        }
        // In range: it is less than the copy's length.
        data.advance(usize::try_from(self.taken - offset).unwrap_or(usize::MAX));
        self.taken = end;
        Copied::News(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use crate::wire::{self, frame::What};
    use proptest::prelude::*;

    #[test]
    fn bytes_come_once_whichever_way_is_faster() {
        let mut splice = Splice::default();
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(splice.from_stream(0, bytes("ab")), "ab");
        assert_eq!(splice.from_copy(2, bytes("cd")), Copied::News(bytes("cd")));
        assert_eq!(splice.from_copy(2, bytes("cd")), Copied::Late);
        assert_eq!(splice.from_copy(6, bytes("gh")), Copied::Early);
        assert_eq!(splice.from_stream(2, bytes("cdef")), "ef");
        assert_eq!(splice.from_copy(4, bytes("efg")), Copied::News(bytes("g")));
        assert_eq!(splice.from_stream(6, bytes("g")), "");
        assert_eq!(splice.from_copy(u64::MAX, bytes("xy")), Copied::Early);
    }

    #[test]
    fn receipts_alone_are_not_worth_a_copy() {
        let members = vec![wire::MemberReceipt { delivered: 300, read: 7, ..Default::default() }];
        let receipts = frame::encode(&frame::bare(What::Receipts(wire::Receipts {
            members,
            ..Default::default()
        })));
        let ack = frame::encode(&frame::bare(What::Ack(wire::Ack {})));
        let joined = |parts: &[&Bytes]| parts.iter().flat_map(|part| part.to_vec()).collect();
        let of = |bytes: Vec<u8>| is_worth_a_copy(&bytes);
        assert!(!of(joined(&[&receipts])) && !of(joined(&[&receipts, &receipts])));
        assert!(of(joined(&[&ack])) && of(joined(&[&receipts, &ack])));
    }

    proptest! {
        #[test]
        fn whatever_comes_when_the_bytes_are_those_of_the_stream(
            length in 1usize..400,
            steps in prop::collection::vec((any::<bool>(), 0usize..400, 1usize..60), 0..60),
        ) {
            let whole: Bytes = (0..=u8::MAX).cycle().take(length).collect();
            let mut splice = Splice::default();
            let mut out = Vec::new();
            let mut from_stream = 0;
            let mut take = |splice: &mut Splice, from: &mut usize, copy: Option<(usize, usize)>| {
                match copy {
                    Some((at, size)) => {
                        let part = whole.slice(at.min(length)..(at + size).min(length));
                        if let Copied::News(new) = splice.from_copy(at.min(length) as u64, part) {
                            out.extend_from_slice(&new);
                        }
                    }
                    None => {
                        let part = whole.slice(*from..(*from + 30).min(length));
                        out.extend_from_slice(&splice.from_stream(*from as u64, part.clone()));
                        *from += part.len();
                    }
                }
            };
            for (is_copy, at, size) in steps {
                take(&mut splice, &mut from_stream, is_copy.then_some((at, size)));
            }
            while from_stream < length {
                take(&mut splice, &mut from_stream, None);
            }
            prop_assert_eq!(out, whole);
        }
    }
}
