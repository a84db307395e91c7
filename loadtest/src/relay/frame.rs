//! The relay's frames: a varint length, a tag, a lane, a number, filling, a body.

use bytes::{BufMut, Bytes, BytesMut};
use petrel_proto::frame::write_varint;

/// Bytes before the filling: tag, lane, number.
pub const HEADER: usize = 1 + 4 + 8;
/// What a Send of Petrel has beside its body: number, id, kind, encoding, body's
/// header, `what`. The tests compare it with the real frame.
pub const SEND_OVERHEAD: usize = 33;
/// What a Push has beside its body: also seq, time, count, but no number.
pub const PUSH_OVERHEAD: usize = 39;
/// An Ack: number, seq, time, count, `what`.
pub const ACK_LEN: usize = 20;
/// Bytes of a frame, at the most.
pub const FRAME_BYTES_MAX: usize = 67_584;

/// First on a stream: which lane it sends on, and so which conversation it is of.
pub const JOIN: u8 = 1;
/// To be passed on.
pub const SEND: u8 = 2;
/// Passed on.
pub const PUSH: u8 = 3;
/// Answers a SEND.
pub const ACK: u8 = 4;

const FILLING: [u8; PUSH_OVERHEAD] = [0x5a; PUSH_OVERHEAD];

/// One frame as it was read.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it is.
    pub tag: u8,
    /// Which lane's message it is about.
    pub lane: u32,
    /// The message's number on its lane, from 1.
    pub number: u64,
    /// What comes after the header, filling included.
    pub rest: Bytes,
}

/// Reads a payload; `None` if it is too short.
pub fn read(payload: &Bytes) -> Option<Frame> {
    let tag = *payload.first()?;
    let lane = u32::from_be_bytes(payload.get(1..5)?.try_into().ok()?);
    let number = u64::from_be_bytes(payload.get(5..HEADER)?.try_into().ok()?);
    Some(Frame { tag, lane, number, rest: payload.slice(HEADER..) })
}

/// Appends a frame: header, filling up to `overhead`, body.
pub fn write(out: &mut BytesMut, tag: u8, lane: u32, number: u64, overhead: usize, body: &[u8]) {
    write_varint(out, (overhead + body.len()) as u64);
    out.put_u8(tag);
    out.put_u32(lane);
    out.put_u64(number);
    out.put_slice(&FILLING[..overhead - HEADER]);
    out.put_slice(body);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use petrel_proto::wire::{self, frame::What};
    use prost::Message;

    #[test]
    fn frames_are_as_long_as_those_of_petrel() {
        let id = vec![7u8; 16];
        let body = vec![1u8; 150];
        let send = wire::Frame {
            number: 200,
            id: id.into(),
            entry_kind: 1,
            encoding: 17,
            body: body.clone().into(),
            what: Some(What::Send(wire::Send { again: false, seen: 300, ..wire::Send::default() })),
            ..wire::Frame::default()
        };
        let push = wire::Frame {
            number: 0,
            seq: 300,
            time_ms: 1_760_000_000_000,
            count: 300,
            what: Some(What::Push(wire::Push::default())),
            ..send.clone()
        };
        let ack = wire::Frame {
            number: 200,
            seq: 300,
            time_ms: 1_760_000_000_000,
            count: 300,
            what: Some(What::Ack(wire::Ack {})),
            ..wire::Frame::default()
        };
        for (frame, ours) in
            [(send, SEND_OVERHEAD + body.len()), (push, PUSH_OVERHEAD + body.len()), (ack, ACK_LEN)]
        {
            let theirs = frame.encoded_len();
            assert!(theirs.abs_diff(ours) <= 3, "{theirs} {ours}");
        }
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let mut out = BytesMut::new();
        write(&mut out, SEND, 9, 77, SEND_OVERHEAD, b"body");
        let (len, header) = petrel_proto::frame::read_varint(&out).unwrap();
        let payload = out.freeze().slice(header..);
        assert_eq!(payload.len() as u64, len);
        let frame = read(&payload).unwrap();
        assert_eq!((frame.tag, frame.lane, frame.number), (SEND, 9, 77));
        assert_eq!(&frame.rest[SEND_OVERHEAD - HEADER..], b"body");
        assert!(read(&Bytes::from_static(b"short")).is_none());
    }
}
