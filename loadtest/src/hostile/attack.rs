//! What fills a connection's bounds from outside.

use anyhow::Result;
use quinn_proto::StreamId;

use super::bare::Bare;

/// Bytes of a frame that is begun and never ended: the most that a stream's first frame may have, nearly.
pub const LARGE_FRAME_BYTES: u16 = 16_000;
/// Fragments of one stream, each a byte, with a byte missing before it.
const FRAGMENTS: usize = 3;
/// What fills up the packet that such a byte comes in.
const PADDING_BYTES: usize = 1_000;

/// How one connection is filled.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    /// Streams with the beginning of a large frame.
    pub large_frames: usize,
    /// Streams of which single bytes come.
    pub fragmented: usize,
    /// Streams of which all comes but the first byte, as much as credit allows.
    pub holes: usize,
}

impl Filling {
    /// Fills it, and falls silent. How many bytes of streams with a hole credit allowed.
    ///
    /// Once the first packet is lost on purpose nothing is heard any more: an acknowledgement of what came
    /// after it would have it sent again.
    ///
    /// # Errors
    /// The connection ends, or there is no credit for streams.
    pub fn fill(self, bare: &mut Bare) -> Result<usize> {
        for _ in 0..self.large_frames {
            let stream = bare.open()?;
            // A length of two bytes (RFC 9000 §16).
            let mut begun = (0x4000 | LARGE_FRAME_BYTES).to_be_bytes().to_vec();
            begun.resize(usize::from(LARGE_FRAME_BYTES) - 100, 0x20);
            bare.write_all(stream, &begun)?;
        }
        let fragmented = open(bare, self.fragmented)?;
        let holes = open(bare, self.holes)?;
        for _ in 0..FRAGMENTS {
            for stream in &fragmented {
                bare.write(*stream, &[0]);
                bare.lose();
                bare.pad(PADDING_BYTES);
                bare.write(*stream, &[0]);
                bare.send()?;
            }
        }
        let mut allowed = 0;
        for stream in &holes {
            bare.write(*stream, &[0]);
            bare.lose();
            loop {
                let bytes = bare.write(*stream, &[0; 8 * 1024]);
                bare.send()?;
                allowed += bytes;
                if bytes == 0 {
                    break;
                }
            }
        }
        Ok(allowed)
    }
}

/// Streams that the server knows of by a first byte, half of a frame's length.
fn open(bare: &mut Bare, streams: usize) -> Result<Vec<StreamId>> {
    let mut open = Vec::new();
    for _ in 0..streams {
        let stream = bare.open()?;
        bare.write_all(stream, &[0x7f])?;
        open.push(stream);
    }
    Ok(open)
}
