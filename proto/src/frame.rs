//! Frames: a QUIC variable-length integer (RFC 9000 §16) with the length, then
//! one protobuf `Frame`. Sans-IO; the limit is checked before anything is stored.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::wire::{Frame, frame::What};

/// Why bytes are not a frame. After any of these the stream is of no further use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The length announced is over the limit.
    #[error("a frame of {len} bytes; the limit here is {max}")]
    TooLarge {
        /// The announced length.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// An empty frame says nothing and is not allowed.
    #[error("an empty frame")]
    Empty,
    /// Not a protobuf `Frame`.
    #[error("not a frame: {0}")]
    Malformed(String),
    /// A `Frame` of no kind that this version knows.
    #[error("a frame of unknown kind")]
    Unknown,
    /// The stream ended within a frame.
    #[error("the stream ended within a frame ({missing} bytes missing)")]
    Truncated {
        /// Bytes that were still to come, at the least.
        missing: u64,
    },
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameReader {
    buffered: BytesMut,
    max: usize,
}

impl FrameReader {
    /// A reader that refuses frames above `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { buffered: BytesMut::new(), max }
    }

    /// Changes the limit for the frames that follow.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Bytes held: at most one frame and its length, besides the chunk being read.
    pub fn buffered(&self) -> usize {
        self.buffered.len()
    }

    /// Bytes of the frame that is being collected, once its length is known.
    pub fn wanted(&self) -> Option<usize> {
        match self.length(&self.buffered) {
            Ok(Some((len, _))) => Some(len),
            _ => None,
        }
    }

    /// Takes the next whole frame's payload from `chunk` and what was held
    /// before; `None` once `chunk` is used up. A payload that lies within
    /// the chunk is not copied.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] or [`FrameError::Empty`] as soon as the length is known.
    pub fn next(&mut self, chunk: &mut Bytes) -> Result<Option<Bytes>, FrameError> {
        if self.buffered.is_empty() {
            if let Some((len, header)) = self.length(chunk)?
                && chunk.len() - header >= len
            {
                chunk.advance(header);
                return Ok(Some(chunk.split_to(len)));
            }
            self.reserve(chunk)?;
            self.buffered.extend_from_slice(chunk);
            chunk.clear();
            return Ok(None);
        }
        // Complete the length first, one byte at a time (it has at most eight).
        let (len, header) = loop {
            if let Some(found) = self.length(&self.buffered)? {
                break found;
            }
            if chunk.is_empty() {
                return Ok(None);
            }
            self.buffered.put_u8(chunk.get_u8());
        };
        let missing = (header + len).saturating_sub(self.buffered.len());
        // All at once: growing by doubling could take twice as much.
        self.buffered.reserve(missing);
        let take = missing.min(chunk.len());
        self.buffered.extend_from_slice(&chunk.split_to(take));
        if take < missing {
            return Ok(None);
        }
        let mut whole = std::mem::take(&mut self.buffered);
        whole.advance(header);
        Ok(Some(whole.freeze()))
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] if part of a frame is held.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buffered.is_empty() {
            return Ok(());
        }
        let missing = match self.length(&self.buffered)? {
            Some((len, header)) => (header + len - self.buffered.len()) as u64,
            None => 1,
        };
        Err(FrameError::Truncated { missing })
    }

    /// Room for exactly the frame that begins with this chunk, as far as its length is known.
    fn reserve(&mut self, chunk: &[u8]) -> Result<(), FrameError> {
        if let Some((len, header)) = self.length(chunk)? {
            self.buffered.reserve(header + len);
        }
        Ok(())
    }

    fn length(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        let Some((len, header)) = read_varint(bytes) else {
            return Ok(None);
        };
        match usize::try_from(len) {
            Ok(0) => Err(FrameError::Empty),
            Ok(size) if size <= self.max => Ok(Some((size, header))),
            _ => Err(FrameError::TooLarge { len, max: self.max }),
        }
    }
}

/// Decodes a payload into a frame and what it is.
///
/// # Errors
/// [`FrameError::Malformed`] or [`FrameError::Unknown`].
pub fn decode(payload: Bytes) -> Result<(Frame, What), FrameError> {
    let mut frame =
        Frame::decode(payload).map_err(|error| FrameError::Malformed(error.to_string()))?;
    let what = frame.what.take().ok_or(FrameError::Unknown)?;
    Ok((frame, what))
}

/// Encodes a frame with its length before it.
pub fn encode(frame: &Frame) -> Bytes {
    encode_message(frame)
}

/// The same for a message of another kind.
pub fn encode_message(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(len + 8);
    write_varint(&mut out, len as u64);
    message.encode_raw(&mut out);
    out.freeze()
}

/// A frame that has no header fields.
pub fn bare(what: What) -> Frame {
    Frame { what: Some(what), ..Frame::default() }
}

/// Reads a varint (RFC 9000 §16): its value and how many bytes it has.
/// `None` if more bytes are needed.
pub fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1usize << (first >> 6);
    let rest = bytes.get(1..len)?;
    let value =
        rest.iter().fold(u64::from(first & 0x3f), |value, byte| (value << 8) | u64::from(*byte));
    Some((value, len))
}

/// Writes a varint (RFC 9000 §16) in as few bytes as hold it.
///
/// # Panics
/// Never for lengths of frames; a value of 2^62 or more has no varint and is written as 2^62 - 1.
pub fn write_varint(out: &mut BytesMut, value: u64) {
    let value = value.min((1 << 62) - 1);
    let bytes = value.to_be_bytes();
    match value {
        0..=0x3f => out.put_u8(bytes[7]),
        0x40..=0x3fff => {
            out.put_u8(bytes[6] | 0x40);
            out.put_u8(bytes[7]);
        }
        0x4000..=0x3fff_ffff => {
            out.put_u8(bytes[4] | 0x80);
            out.put_slice(&bytes[5..]);
        }
        _ => {
            out.put_u8(bytes[0] | 0xc0);
            out.put_slice(&bytes[1..]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn varints_are_those_of_rfc_9000_appendix_a() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d][..], 494_878_333),
            (&[0x7b, 0xbd][..], 15_293),
            (&[0x25][..], 37),
        ] {
            assert_eq!(read_varint(bytes), Some((value, bytes.len())));
            let mut out = BytesMut::new();
            write_varint(&mut out, value);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn the_limit_is_exact_and_known_before_the_payload() {
        for (len, fits) in [(99u64, true), (100, true), (101, false)] {
            let mut bytes = BytesMut::new();
            write_varint(&mut bytes, len);
            let mut reader = FrameReader::new(100);
            let got = reader.next(&mut bytes.freeze());
            assert_eq!(got.is_ok(), fits, "{len}");
        }
    }

    #[test]
    fn an_empty_frame_and_a_cut_one_are_errors() {
        let mut reader = FrameReader::new(100);
        assert_eq!(reader.next(&mut Bytes::from_static(&[0])), Err(FrameError::Empty));
        let mut reader = FrameReader::new(100);
        assert_eq!(reader.next(&mut Bytes::from_static(&[3, 1])), Ok(None));
        assert_eq!(reader.finish(), Err(FrameError::Truncated { missing: 2 }));
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_frames_are_the_same(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..8),
            cuts in prop::collection::vec(1usize..50, 1..200),
        ) {
            let mut stream = BytesMut::new();
            for p in &payloads {
                write_varint(&mut stream, p.len() as u64);
                stream.put_slice(p);
            }
            let mut stream = stream.freeze();
            let mut reader = FrameReader::new(300);
            let mut got = Vec::new();
            let mut cuts = cuts.into_iter().cycle();
            while !stream.is_empty() {
                let mut chunk = stream.split_to(cuts.next().unwrap().min(stream.len()));
                while let Some(frame) = reader.next(&mut chunk).unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, payloads);
            prop_assert!(reader.finish().is_ok());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::new(64);
            let mut chunk = Bytes::from(bytes);
            while let Ok(Some(payload)) = reader.next(&mut chunk) {
                drop(decode(payload));
            }
        }
    }
}
