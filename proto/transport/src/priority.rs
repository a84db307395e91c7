//! Which streams' bytes go first, on either side. Few levels: QUIC looks at all of them.

/// What concerns the whole session.
pub const CONTROL: i32 = 2;
/// Small writes: messages, acknowledgements, requests.
pub const LIVE: i32 = 0;
/// What piled up for a conversation, and pages of its log.
pub const BULK: i32 = -1;
/// Answers that are asked for by the page.
pub const PAGE: i32 = -2;
