//! Looks at a lean frame's headers before zstd does.
//!
//! zstd itself would decode several frames in a row, and in one piece it does
//! not check the window; both are refused here, from the headers alone.

use super::{DecodeError, WINDOW_LOG_MAX};

/// The most that one block may hold, by RFC 8878.
const BLOCK_BYTES_MAX: usize = 128 << 10;

/// Checks that `frame` is exactly one lean frame. Returns how many bytes of
/// output it can have at most, never above `max_len`.
pub(super) fn check(frame: &[u8], max_len: usize) -> Result<usize, DecodeError> {
    let (&descriptor, rest) = frame.split_first().ok_or(DecodeError::Truncated)?;
    if descriptor != 0 {
        return Err(DecodeError::NotLean { descriptor });
    }
    let (&window, mut rest) = rest.split_first().ok_or(DecodeError::Truncated)?;
    let window_log = 10 + u32::from(window >> 3);
    if window_log > WINDOW_LOG_MAX || (window_log == WINDOW_LOG_MAX && window & 7 != 0) {
        return Err(DecodeError::WindowTooLarge { window_log });
    }

    let mut bound = 0_usize;
    loop {
        let (header, after) = rest.split_first_chunk::<3>().ok_or(DecodeError::Truncated)?;
        let [low, middle, high] = *header;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = usize::try_from(header >> 3).map_err(|_| DecodeError::Truncated)?;
        let (stored, plain) = match (header >> 1) & 3 {
            0 => (size, size),
            1 => (1, size),
            2 => (size, 0),
            _ => {
                return Err(DecodeError::Corrupt { reason: "reserved block type" });
            }
        };
        if plain > max_len {
            return Err(DecodeError::TooLong { max_len });
        }
        let most = if plain == 0 { BLOCK_BYTES_MAX } else { plain };
        bound = bound.saturating_add(most).min(max_len);
        rest = after.get(stored..).ok_or(DecodeError::Truncated)?;
        if header & 1 == 1 {
            break;
        }
    }
    if rest.is_empty() { Ok(bound) } else { Err(DecodeError::Trailing { extra: rest.len() }) }
}
