//! What both sides have to agree on before anything else.

/// The protocol's name and major version in TLS (RFC 7301). A server speaks
/// every major version that it supports; a client offers its own.
pub const ALPN: &[u8] = b"petrel/1";

/// Optional features, negotiated by Hello and Welcome: in use is what both name.
pub const FEATURES: &[&str] = &[
    FEATURE_PREVIEW,
    FEATURE_RECEIPTS,
    FEATURE_TYPING,
    FEATURE_ECHO,
    FEATURE_PROBE,
    FEATURE_RECEIPTS_ALONG,
    FEATURE_BACKGROUND,
];

/// The client wants Preview frames.
pub const FEATURE_PREVIEW: &str = "preview";
/// The client wants other members' receipts.
pub const FEATURE_RECEIPTS: &str = "receipts";
/// The client wants Typing datagrams.
pub const FEATURE_TYPING: &str = "typing";
/// Both sides take Echo datagrams, and send them while packets are being lost.
pub const FEATURE_ECHO: &str = "echo";
/// Both sides take Probe datagrams, and answer them.
pub const FEATURE_PROBE: &str = "probe";
/// The client says whether it is in the background, and is disturbed less while it is.
pub const FEATURE_BACKGROUND: &str = "background";

/// The server takes a client's receipts of other conversations on any conversation's stream.
pub const FEATURE_RECEIPTS_ALONG: &str = "receipts-along";

/// The features that both sides have, in the order of [`FEATURES`]. Unknown names are ignored.
pub fn common_features<'a>(theirs: impl IntoIterator<Item = &'a str>) -> Vec<&'static str> {
    let theirs: Vec<&str> = theirs.into_iter().collect();
    FEATURES.iter().copied().filter(|f| theirs.contains(f)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_both_know_is_in_use() {
        assert_eq!(common_features(["holograms", FEATURE_PREVIEW]), [FEATURE_PREVIEW]);
        assert_eq!(common_features([]), Vec::<&str>::new());
    }
}
