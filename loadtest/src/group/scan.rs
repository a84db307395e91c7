//! A frame of Petrel read in place: just the fields that a judge of deliveries needs, without
//! decoding, copying or allocating anything.

/// `what` of a frame, by its field number in proto/schema/frame.proto.
pub mod what {
    /// An answer to a send.
    pub const ACK: u32 = 11;
    /// An entry.
    pub const PUSH: u32 = 12;
    /// A message that is not stored yet.
    pub const PREVIEW: u32 = 13;
    /// Others' receipts.
    pub const RECEIPTS: u32 = 14;
    /// A no.
    pub const REFUSAL: u32 = 15;
    /// The first frame of a stream.
    pub const ATTACH: u32 = 16;
    /// Entries that are not pushed.
    pub const GAP: u32 = 18;
}

/// The parts of a frame. What is absent is zero or empty.
#[derive(Clone, Copy, Default, Debug)]
pub struct Scanned<'a> {
    /// The send's number (Ack, Refusal).
    pub number: u64,
    /// The entry's id.
    pub id: &'a [u8],
    /// Its place.
    pub seq: u64,
    /// How the body is encoded.
    pub encoding: u64,
    /// The body as it travels.
    pub body: &'a [u8],
    /// What the frame is, of [`what`].
    pub what: u32,
}

/// Reads a payload; `None` if it is no protobuf message.
pub fn scan(payload: &[u8]) -> Option<Scanned<'_>> {
    let mut found = Scanned::default();
    let mut rest = payload;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let field = u32::try_from(key >> 3).ok()?;
        match key & 7 {
            0 => {
                let value = varint(&mut rest)?;
                match field {
                    1 => found.number = value,
                    3 => found.seq = value,
                    8 => found.encoding = value,
                    _ => {}
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let len = usize::try_from(varint(&mut rest)?).ok()?;
                let (value, after) = rest.split_at_checked(len)?;
                rest = after;
                match field {
                    2 => found.id = value,
                    9 => found.body = value,
                    10..=19 | 22 | 32.. => found.what = field,
                    _ => {}
                }
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(found)
}

/// A protobuf varint (not QUIC's).
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use petrel_proto::wire::{self, frame::What};
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_frame_is_read_as_the_decoder_reads_it() {
        let frame = wire::Frame {
            number: 300,
            id: vec![7; 16].into(),
            seq: 1 << 40,
            sender: vec![9; 16].into(),
            time_ms: 1_760_000_000_000,
            count: 12,
            entry_kind: 1,
            encoding: 17,
            body: vec![1; 200].into(),
            mentions: vec![vec![3; 16].into()],
            what: Some(What::Push(wire::Push::default())),
            ..wire::Frame::default()
        };
        let bytes = frame.encode_to_vec();
        let found = scan(&bytes).unwrap();
        assert_eq!((found.number, found.seq, found.encoding), (300, 1 << 40, 17));
        assert_eq!((found.id, found.body), (&[7; 16][..], &[1; 200][..]));
        assert_eq!(found.what, what::PUSH);
        for (made, field) in [
            (What::Ack(wire::Ack {}), what::ACK),
            (What::Preview(wire::Preview {}), what::PREVIEW),
            (What::Receipts(wire::Receipts::default()), what::RECEIPTS),
            (What::Refusal(wire::Refusal::default()), what::REFUSAL),
            (What::Attach(wire::Attach::default()), what::ATTACH),
            (What::Gap(wire::Gap::default()), what::GAP),
        ] {
            let bytes = petrel_proto::frame::bare(made).encode_to_vec();
            assert_eq!(scan(&bytes).unwrap().what, field);
        }
    }

    #[test]
    fn what_is_cut_off_is_no_frame() {
        let frame = wire::Frame { seq: 70_000, body: vec![1; 90].into(), ..wire::Frame::default() };
        let bytes = frame.encode_to_vec();
        // A cut between two fields leaves a whole message, as protobuf has it.
        for (cut, whole) in [(1, false), (3, false), (4, true), (5, false), (50, false)] {
            assert_eq!(scan(&bytes[..cut]).is_some(), whole, "{cut}");
        }
        assert!(scan(&[0x0f, 1]).is_none() && scan(&[0xff; 11]).is_none());
    }
}
