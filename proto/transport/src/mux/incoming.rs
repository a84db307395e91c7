//! What comes from the peer.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::state::State;
use super::stream::{ReceivePhase, SendPhase, Stream};
use super::wire::{
    self, FINAL_SIZE_ERROR, FLOW_CONTROL_ERROR, Frame, PROTOCOL_VIOLATION, Parameters,
    STREAM_LIMIT_ERROR, STREAM_STATE_ERROR, Violation,
};
use crate::error::ConnectionError;

const LATE: Violation = Violation(STREAM_STATE_ERROR, "data on a stream that has ended");
const TOO_MUCH: Violation = Violation(FLOW_CONTROL_ERROR, "more data than was allowed");

impl State {
    /// Takes the whole records of `bytes`; says how many bytes they were.
    pub(super) fn hear(&mut self, bytes: &[u8], now: Instant) -> usize {
        let mut used = 0;
        while self.closed.is_none() {
            let rest = bytes.get(used..).unwrap_or_default();
            match wire::record(rest) {
                Ok(Some((mut frames, length))) => {
                    used += length;
                    while !frames.is_empty() && self.closed.is_none() {
                        let heard = wire::frame(&mut frames).and_then(|f| self.take(f, now));
                        if let Err(violation) = heard {
                            self.violated(violation);
                        }
                    }
                }
                Ok(None) => break,
                Err(violation) => self.violated(violation),
            }
        }
        used
    }

    fn take(&mut self, frame: Frame<'_>, now: Instant) -> Result<(), Violation> {
        if self.peer.is_none() != matches!(frame, Frame::Parameters(_)) {
            return Err(Violation(
                wire::TRANSPORT_PARAMETER_ERROR,
                "transport parameters come first, and once",
            ));
        }
        match frame {
            Frame::Parameters(parameters) => self.introduced(parameters),
            Frame::Stream { id, offset, fin, data } => self.data(id, offset, fin, data)?,
            Frame::Reset { id, code, final_size } => self.was_reset(id, code, final_size)?,
            Frame::Stop { id, code } => self.was_stopped(id, code)?,
            Frame::MaxData(max) => {
                if max > self.credit {
                    self.credit = max;
                    self.wake_driver();
                }
            }
            Frame::MaxStreamData { id, max } => {
                self.open_up_to(id)?;
                if let Some(stream) = self.streams.get_mut(&id)
                    && max > stream.sending.credit
                {
                    stream.sending.credit = max;
                    if let Some(writer) = stream.sending.writer.take() {
                        writer.wake();
                    }
                    self.line_up(id);
                }
            }
            Frame::MaxStreams(max) => self.opened_max = self.opened_max.max(max),
            Frame::Datagram(data) => {
                if data.len() >= self.settings.datagram_max {
                    return Err(Violation(PROTOCOL_VIOLATION, "a datagram that is too large"));
                }
                let bytes_max = self.settings.datagrams_in;
                self.datagrams_in.push(Bytes::copy_from_slice(data), bytes_max);
                if let Some(hearer) = self.hearer.take() {
                    hearer.wake();
                }
            }
            Frame::PingRequest(number) => {
                self.pings.answer = self.pings.answer.max(Some(number));
                self.wake_driver();
            }
            Frame::PingResponse(number) => self.was_answered(number, now),
            Frame::Close { by_application, code, reason } => {
                let reason = String::from_utf8_lossy(reason).into_owned();
                let why = if by_application {
                    ConnectionError::ApplicationClosed { code, reason }
                } else {
                    ConnectionError::Transport(format!("aborted by the peer: {code} {reason}"))
                };
                self.end(why, None);
            }
            Frame::Idle => {}
        }
        Ok(())
    }

    fn introduced(&mut self, parameters: Parameters) {
        self.peer = Some(parameters);
        self.credit = parameters.max_data;
        self.opened_max = parameters.max_streams;
    }

    fn was_answered(&mut self, number: u64, now: Instant) {
        if number != self.pings.number {
            return;
        }
        let Some(asked) = self.pings.asked.take() else { return };
        let measured = now.saturating_duration_since(asked);
        let known = self.stats.rtt;
        self.stats.rtt = if known.is_zero() { measured } else { (known * 7 + measured) / 8 };
    }

    /// Makes the peer's streams up to this one, if it may open so many.
    fn open_up_to(&mut self, id: u64) -> Result<(), Violation> {
        let number = id >> 2;
        if id & 2 != 0 {
            return Err(Violation(STREAM_LIMIT_ERROR, "a unidirectional stream"));
        }
        if self.is_own(id) {
            let is_known = number < self.opened;
            let never = Violation(STREAM_STATE_ERROR, "a stream that was never opened");
            return if is_known { Ok(()) } else { Err(never) };
        }
        if number >= self.accepted_told {
            return Err(Violation(STREAM_LIMIT_ERROR, "more streams than were allowed"));
        }
        while self.accepted <= number {
            let id = self.accepted << 2 | self.side.other().bit();
            let credit = self.peer.map_or(0, |peer| peer.max_stream_data_local);
            self.streams.insert(id, Stream::new(credit, self.settings.stream_receive_window));
            self.arriving.push_back(id);
            self.accepted += 1;
            if let Some(acceptor) = self.acceptor.take() {
                acceptor.wake();
            }
        }
        Ok(())
    }

    fn data(&mut self, id: u64, offset: u64, fin: bool, data: &[u8]) -> Result<(), Violation> {
        self.open_up_to(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Err(LATE) };
        let receiving = &mut stream.receiving;
        let is_open = matches!(receiving.phase, ReceivePhase::Open | ReceivePhase::Stopped);
        if !is_open {
            return Err(LATE);
        }
        if offset != receiving.received {
            return Err(Violation(PROTOCOL_VIOLATION, "a stream's data out of order"));
        }
        let bytes = data.len() as u64;
        receiving.received += bytes;
        self.received += bytes;
        if receiving.received > receiving.told || self.received > self.told {
            return Err(TOO_MUCH);
        }
        let is_read = receiving.phase == ReceivePhase::Open;
        if is_read {
            receiving.data.extend_from_slice(data);
        }
        if fin {
            receiving.phase = if is_read { ReceivePhase::Finished } else { ReceivePhase::Ended };
        }
        receiving.wake();
        if !is_read {
            self.consume(bytes);
            self.settle(id);
        }
        Ok(())
    }

    fn was_reset(&mut self, id: u64, code: u64, final_size: u64) -> Result<(), Violation> {
        self.open_up_to(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let receiving = &mut stream.receiving;
        let phase = match receiving.phase {
            ReceivePhase::Open => ReceivePhase::Reset(code),
            ReceivePhase::Stopped => ReceivePhase::Ended,
            // All of it has come, or it was reset before.
            _ => return Ok(()),
        };
        let Some(never_sent) = final_size.checked_sub(receiving.received) else {
            return Err(Violation(FINAL_SIZE_ERROR, "a reset before what was sent"));
        };
        if final_size > receiving.told || self.received + never_sent > self.told {
            return Err(TOO_MUCH);
        }
        self.received += never_sent;
        let unread = receiving.data.len() as u64;
        receiving.data = BytesMut::new();
        receiving.phase = phase;
        receiving.wake();
        self.consume(never_sent + unread);
        self.settle(id);
        Ok(())
    }

    fn was_stopped(&mut self, id: u64, code: u64) -> Result<(), Violation> {
        self.open_up_to(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let sending = &mut stream.sending;
        if sending.stopped.is_some() || sending.phase == SendPhase::Ended {
            return Ok(());
        }
        sending.stopped = Some(code);
        sending.wake();
        if !matches!(sending.phase, SendPhase::Resetting(_)) {
            // As QUIC has it (RFC 9000 §3.5): who is asked to stop resets, with the same number.
            self.reset(id, code);
        }
        Ok(())
    }
}
