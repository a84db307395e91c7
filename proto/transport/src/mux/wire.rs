//! Records and frames of QMux version 1 (draft-ietf-quic-qmux): QUIC's frames (RFC 9000 §19), in
//! records, on a byte stream. Plain functions over bytes.

use bytes::{Buf as _, BufMut as _, BytesMut};
use quinn_proto::VarInt;
use quinn_proto::coding::Codec as _;

/// Bytes of frames in a record, at the most, which every peer takes.
pub(super) const RECORD_BYTES_MAX: usize = 16_382;
/// Bytes of the reason in a close, at the most; more are cut off.
const REASON_BYTES_MAX: usize = 256;

// RFC 9000 §20.1.
pub(super) const FLOW_CONTROL_ERROR: u64 = 0x3;
pub(super) const STREAM_LIMIT_ERROR: u64 = 0x4;
pub(super) const STREAM_STATE_ERROR: u64 = 0x5;
pub(super) const FINAL_SIZE_ERROR: u64 = 0x6;
const FRAME_ENCODING_ERROR: u64 = 0x7;
pub(super) const TRANSPORT_PARAMETER_ERROR: u64 = 0x8;
pub(super) const PROTOCOL_VIOLATION: u64 = 0xa;

const PADDING: u64 = 0x00;
const RESET_STREAM: u64 = 0x04;
const STOP_SENDING: u64 = 0x05;
const STREAM: u64 = 0x08;
const STREAM_FIN: u64 = 0x01;
const STREAM_LEN: u64 = 0x02;
const STREAM_OFF: u64 = 0x04;
const STREAM_LAST: u64 = 0x0f;
const MAX_DATA: u64 = 0x10;
const MAX_STREAM_DATA: u64 = 0x11;
const MAX_STREAMS_BIDI: u64 = 0x12;
const MAX_STREAMS_UNI: u64 = 0x13;
const DATA_BLOCKED: u64 = 0x14;
const STREAM_DATA_BLOCKED: u64 = 0x15;
const STREAMS_BLOCKED_BIDI: u64 = 0x16;
const STREAMS_BLOCKED_UNI: u64 = 0x17;
const CLOSE_TRANSPORT: u64 = 0x1c;
const CLOSE_APPLICATION: u64 = 0x1d;
const DATAGRAM: u64 = 0x30;
const DATAGRAM_LEN: u64 = 0x31;
const PARAMETERS: u64 = 0x3f51_5330_0d0a_0d0a;
const PING_REQUEST: u64 = 0x348c_6752_9ef8_c7bd;
const PING_RESPONSE: u64 = 0x348c_6752_9ef8_c7be;

// RFC 9000 §18.2, RFC 9221 §3.
const MAX_IDLE_TIMEOUT: u64 = 0x01;
const INITIAL_MAX_DATA: u64 = 0x04;
const INITIAL_MAX_STREAM_DATA_LOCAL: u64 = 0x05;
const INITIAL_MAX_STREAM_DATA_REMOTE: u64 = 0x06;
const INITIAL_MAX_STREAMS: u64 = 0x08;
const MAX_DATAGRAM_FRAME_SIZE: u64 = 0x20;
const MAX_RECORD_SIZE: u64 = 0x0571_c594_29cd_0845;
/// Those of QUIC that have no meaning here.
const FORBIDDEN: [u64; 10] = [0x00, 0x02, 0x03, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10];

/// What a peer did that ends the connection, as code and text of the close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) u64, pub(super) &'static str);

const MALFORMED: Violation = Violation(FRAME_ENCODING_ERROR, "a frame that makes no sense");

/// What a side allows its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Milliseconds; 0: for ever.
    pub(super) idle_timeout_ms: u64,
    pub(super) max_data: u64,
    pub(super) max_stream_data_local: u64,
    pub(super) max_stream_data_remote: u64,
    pub(super) max_streams: u64,
    /// 0: none.
    pub(super) max_datagram_frame: u64,
}

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Parameters(Parameters),
    Stream {
        id: u64,
        offset: u64,
        fin: bool,
        data: &'a [u8],
    },
    Reset {
        id: u64,
        code: u64,
        final_size: u64,
    },
    Stop {
        id: u64,
        code: u64,
    },
    MaxData(u64),
    MaxStreamData {
        id: u64,
        max: u64,
    },
    MaxStreams(u64),
    Datagram(&'a [u8]),
    PingRequest(u64),
    PingResponse(u64),
    Close {
        by_application: bool,
        code: u64,
        reason: &'a [u8],
    },
    /// Nothing to do.
    Idle,
}

/// The first record of `bytes` and where it ends, once it is whole.
pub(super) fn record(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Violation> {
    let mut rest = bytes;
    let Ok(size) = VarInt::decode(&mut rest) else { return Ok(None) };
    let size = usize::try_from(size.into_inner()).unwrap_or(usize::MAX);
    if size > RECORD_BYTES_MAX {
        return Err(Violation(FRAME_ENCODING_ERROR, "a record that is too large"));
    }
    if size == 0 {
        return Err(Violation(FRAME_ENCODING_ERROR, "an empty record"));
    }
    let header = bytes.len() - rest.len();
    Ok(rest.get(..size).map(|frames| (frames, header + size)))
}

/// Takes the next frame off the rest of a record.
pub(super) fn frame<'a>(rest: &mut &'a [u8]) -> Result<Frame<'a>, Violation> {
    let kind = number(rest)?;
    Ok(match kind {
        STREAM..=STREAM_LAST => {
            let id = number(rest)?;
            let offset = if kind & STREAM_OFF != 0 { number(rest)? } else { 0 };
            let data = if kind & STREAM_LEN != 0 { counted(rest)? } else { std::mem::take(rest) };
            Frame::Stream { id, offset, fin: kind & STREAM_FIN != 0, data }
        }
        RESET_STREAM => {
            Frame::Reset { id: number(rest)?, code: number(rest)?, final_size: number(rest)? }
        }
        STOP_SENDING => Frame::Stop { id: number(rest)?, code: number(rest)? },
        MAX_DATA => Frame::MaxData(number(rest)?),
        MAX_STREAM_DATA => Frame::MaxStreamData { id: number(rest)?, max: number(rest)? },
        MAX_STREAMS_BIDI => Frame::MaxStreams(number(rest)?),
        DATAGRAM => Frame::Datagram(std::mem::take(rest)),
        DATAGRAM_LEN => Frame::Datagram(counted(rest)?),
        PING_REQUEST => Frame::PingRequest(number(rest)?),
        PING_RESPONSE => Frame::PingResponse(number(rest)?),
        PARAMETERS => Frame::Parameters(parameters(counted(rest)?)?),
        CLOSE_TRANSPORT => {
            let code = number(rest)?;
            let _frame_type = number(rest)?;
            Frame::Close { by_application: false, code, reason: counted(rest)? }
        }
        CLOSE_APPLICATION => {
            Frame::Close { by_application: true, code: number(rest)?, reason: counted(rest)? }
        }
        PADDING => Frame::Idle,
        MAX_STREAMS_UNI | DATA_BLOCKED | STREAMS_BLOCKED_BIDI | STREAMS_BLOCKED_UNI => {
            number(rest)?;
            Frame::Idle
        }
        STREAM_DATA_BLOCKED => {
            number(rest)?;
            number(rest)?;
            Frame::Idle
        }
        _ => return Err(Violation(FRAME_ENCODING_ERROR, "a frame that has no place here")),
    })
}

fn number(rest: &mut &[u8]) -> Result<u64, Violation> {
    VarInt::decode(rest).map(VarInt::into_inner).map_err(|_| MALFORMED)
}

fn counted<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Violation> {
    let length = usize::try_from(number(rest)?).map_err(|_| MALFORMED)?;
    let bytes = rest.get(..length).ok_or(MALFORMED)?;
    rest.advance(length);
    Ok(bytes)
}

fn parameters(mut rest: &[u8]) -> Result<Parameters, Violation> {
    const WRONG: Violation =
        Violation(TRANSPORT_PARAMETER_ERROR, "transport parameters that make no sense");
    let mut read = Parameters::default();
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let id = number(&mut rest).map_err(|_| WRONG)?;
        let mut value = counted(&mut rest).map_err(|_| WRONG)?;
        if FORBIDDEN.contains(&id) {
            return Err(Violation(TRANSPORT_PARAMETER_ERROR, "a parameter that is QUIC's alone"));
        }
        let field = match id {
            MAX_IDLE_TIMEOUT => &mut read.idle_timeout_ms,
            INITIAL_MAX_DATA => &mut read.max_data,
            INITIAL_MAX_STREAM_DATA_LOCAL => &mut read.max_stream_data_local,
            INITIAL_MAX_STREAM_DATA_REMOTE => &mut read.max_stream_data_remote,
            INITIAL_MAX_STREAMS => &mut read.max_streams,
            MAX_DATAGRAM_FRAME_SIZE => &mut read.max_datagram_frame,
            MAX_RECORD_SIZE => {
                // Our records are as small as any peer takes, so a larger number changes nothing.
                if number(&mut value).map_err(|_| WRONG)? < RECORD_BYTES_MAX as u64 {
                    return Err(WRONG);
                }
                continue;
            }
            _ => continue,
        };
        if seen.contains(&id) {
            return Err(WRONG);
        }
        seen.push(id);
        *field = number(&mut value).map_err(|_| WRONG)?;
        if !value.is_empty() {
            return Err(WRONG);
        }
    }
    Ok(read)
}

/// Appends a number. Those that are not ours come from a peer's number, which was one of these.
fn put(out: &mut BytesMut, number: u64) {
    VarInt::from_u64(number).unwrap_or(VarInt::MAX).encode(out);
}

fn put_all(out: &mut BytesMut, numbers: &[u64]) {
    for number in numbers {
        put(out, *number);
    }
}

/// How many bytes a number takes.
fn size(number: u64) -> usize {
    match number {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Appends frames as a record of their own.
pub(super) fn put_record(out: &mut BytesMut, frames: &[u8]) {
    put(out, frames.len() as u64);
    out.put_slice(frames);
}

pub(super) fn put_parameters(out: &mut BytesMut, parameters: &Parameters) {
    let mut inner = BytesMut::new();
    for (id, value) in [
        (MAX_IDLE_TIMEOUT, parameters.idle_timeout_ms),
        (INITIAL_MAX_DATA, parameters.max_data),
        (INITIAL_MAX_STREAM_DATA_LOCAL, parameters.max_stream_data_local),
        (INITIAL_MAX_STREAM_DATA_REMOTE, parameters.max_stream_data_remote),
        (INITIAL_MAX_STREAMS, parameters.max_streams),
        (MAX_DATAGRAM_FRAME_SIZE, parameters.max_datagram_frame),
    ] {
        put_all(&mut inner, &[id, size(value) as u64, value]);
    }
    put_all(out, &[PARAMETERS, inner.len() as u64]);
    out.put_slice(&inner);
}

/// Bytes that the header of a stream's frame takes, at the most.
pub(super) const STREAM_HEADER_BYTES: usize = 1 + 8 + 8 + 2;

/// Appends the header of a stream's frame; the data follow it.
pub(super) fn put_stream_header(out: &mut BytesMut, id: u64, offset: u64, data: usize, fin: bool) {
    let with_offset = if offset > 0 { STREAM_OFF } else { 0 };
    put_all(out, &[STREAM | STREAM_LEN | with_offset | u64::from(fin), id]);
    if offset > 0 {
        put(out, offset);
    }
    put(out, data as u64);
}

/// Bytes that any of the frames below takes, at the most, a datagram and a close apart.
pub(super) const CONTROL_BYTES_MAX: usize = 1 + 3 * 8;

pub(super) fn put_reset(out: &mut BytesMut, id: u64, code: u64, final_size: u64) {
    put_all(out, &[RESET_STREAM, id, code, final_size]);
}

pub(super) fn put_stop(out: &mut BytesMut, id: u64, code: u64) {
    put_all(out, &[STOP_SENDING, id, code]);
}

pub(super) fn put_max_data(out: &mut BytesMut, max: u64) {
    put_all(out, &[MAX_DATA, max]);
}

pub(super) fn put_max_stream_data(out: &mut BytesMut, id: u64, max: u64) {
    put_all(out, &[MAX_STREAM_DATA, id, max]);
}

pub(super) fn put_max_streams(out: &mut BytesMut, max: u64) {
    put_all(out, &[MAX_STREAMS_BIDI, max]);
}

pub(super) fn put_ping(out: &mut BytesMut, number: u64) {
    put_all(out, &[PING_REQUEST, number]);
}

pub(super) fn put_pong(out: &mut BytesMut, number: u64) {
    put_all(out, &[PING_RESPONSE, number]);
}

/// Bytes that a datagram's frame has beside the datagram, at the most.
pub(super) const DATAGRAM_HEADER_BYTES: usize = 1 + 2;

pub(super) fn put_datagram(out: &mut BytesMut, data: &[u8]) {
    put_all(out, &[DATAGRAM_LEN, data.len() as u64]);
    out.put_slice(data);
}

pub(super) fn put_close(out: &mut BytesMut, by_application: bool, code: u64, reason: &[u8]) {
    let reason = reason.get(..REASON_BYTES_MAX).unwrap_or(reason);
    if by_application {
        put_all(out, &[CLOSE_APPLICATION, code]);
    } else {
        put_all(out, &[CLOSE_TRANSPORT, code, PADDING]);
    }
    put(out, reason.len() as u64);
    out.put_slice(reason);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Frame<'_>>, Violation> {
        let (mut rest, _) = record(bytes)?.unwrap();
        let mut frames = Vec::new();
        while !rest.is_empty() {
            frames.push(frame(&mut rest)?);
        }
        Ok(frames)
    }

    #[test]
    fn what_is_written_is_read() {
        let parameters = Parameters {
            idle_timeout_ms: 120_000,
            max_data: 131_072,
            max_stream_data_local: 98_304,
            max_stream_data_remote: 98_305,
            max_streams: 16,
            max_datagram_frame: 1_200,
        };
        let mut frames = BytesMut::new();
        put_parameters(&mut frames, &parameters);
        put_stream_header(&mut frames, 4, 0, 3, false);
        frames.put_slice(b"abc");
        put_stream_header(&mut frames, 4, 3, 0, true);
        put_reset(&mut frames, 1, 84, 70_000);
        put_stop(&mut frames, 5, 0);
        put_max_data(&mut frames, 1 << 40);
        put_max_stream_data(&mut frames, 8, 64);
        put_max_streams(&mut frames, 63);
        put_ping(&mut frames, 1);
        put_pong(&mut frames, 1);
        put_datagram(&mut frames, b"typing");
        put_close(&mut frames, true, 80, b"going away");
        let mut out = BytesMut::new();
        put_record(&mut out, &frames);
        assert_eq!(
            all(&out).unwrap(),
            [
                Frame::Parameters(parameters),
                Frame::Stream { id: 4, offset: 0, fin: false, data: b"abc" },
                Frame::Stream { id: 4, offset: 3, fin: true, data: b"" },
                Frame::Reset { id: 1, code: 84, final_size: 70_000 },
                Frame::Stop { id: 5, code: 0 },
                Frame::MaxData(1 << 40),
                Frame::MaxStreamData { id: 8, max: 64 },
                Frame::MaxStreams(63),
                Frame::PingRequest(1),
                Frame::PingResponse(1),
                Frame::Datagram(b"typing"),
                Frame::Close { by_application: true, code: 80, reason: b"going away" },
            ]
        );
    }

    #[test]
    fn a_record_is_whole_or_waited_for_and_never_too_large() {
        assert_eq!(record(&[]), Ok(None));
        assert_eq!(record(&[0x40]), Ok(None));
        assert_eq!(record(&[2, 0]), Ok(None));
        assert_eq!(record(&[2, 0, 0, 9]), Ok(Some((&[0u8, 0][..], 3))));
        let mut out = BytesMut::new();
        put(&mut out, RECORD_BYTES_MAX as u64 + 1);
        assert!(record(&out).is_err());
        assert!(record(&[0]).is_err());
    }

    #[test]
    fn what_is_cut_off_or_prohibited_is_refused() {
        // PING, ACK, CRYPTO, a stream's frame that is longer than its record, an unknown type.
        for bytes in [&[1, 0x01][..], &[1, 0x02], &[1, 0x06], &[4, 0x0a, 4, 9, 0], &[2, 0x7f, 0xff]]
        {
            assert_eq!(all(bytes).unwrap_err().0, FRAME_ENCODING_ERROR, "{bytes:?}");
        }
    }

    #[test]
    fn parameters_are_checked() {
        for wrong in [
            // Twice the same, one of QUIC's own, a record too small, cut off.
            &[0x04, 1, 9, 0x04, 1, 9][..],
            &[0x0f, 0],
            &[0xc5, 0x71, 0xc5, 0x94, 0x29, 0xcd, 0x08, 0x45, 1, 9],
            &[0x04, 2, 9],
            &[0x04, 2, 9, 9],
        ] {
            assert_eq!(parameters(wrong).unwrap_err().0, TRANSPORT_PARAMETER_ERROR, "{wrong:?}");
        }
        assert_eq!(parameters(&[0x21, 1, 7, 0x08, 1, 3]).unwrap().max_streams, 3);
    }
}
