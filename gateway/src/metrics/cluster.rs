//! Metrics of a cluster's gateways: links, what went over them, what the journal had to make up for.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const NODES: &str = "petrel_cluster_nodes";
const LINKS: &str = "petrel_cluster_links";
const ROUTED: &str = "petrel_cluster_routed_users";
const ENTRIES_SENT: &str = "petrel_cluster_entries_sent_total";
const ENTRIES_RECEIVED: &str = "petrel_cluster_entries_received_total";
const OVERFLOWS: &str = "petrel_cluster_overflows_total";
const WAITING_BYTES: &str = "petrel_cluster_waiting_bytes";
const LINK_FAILURES: &str = "petrel_cluster_link_failures_total";
const JOURNAL_ROWS: &str = "petrel_cluster_journal_rows_total";
const JOURNAL_REPAIRS: &str = "petrel_cluster_journal_repairs_total";
const JOURNAL_FAILURES: &str = "petrel_cluster_journal_failures_total";
const JOURNAL_GAPS: &str = "petrel_cluster_journal_gaps_total";
const BEAT_FAILURES: &str = "petrel_cluster_heartbeat_failures_total";

/// An entry was given to a peer's link, or left out.
pub(crate) fn entry_sent(is_taken: bool) {
    let fate = if is_taken { "sent" } else { "left_out" };
    counter!(ENTRIES_SENT, "fate" => fate).increment(1);
}

/// An entry came from a peer.
pub(crate) fn entry_received(fate: &'static str) {
    counter!(ENTRIES_RECEIVED, "fate" => fate).increment(1);
}

/// Something found no room in a peer's queues.
pub(crate) fn overflowed() {
    counter!(OVERFLOWS).increment(1);
}

/// A link to a peer could not be made, or ended.
pub(crate) fn link_failed() {
    counter!(LINK_FAILURES).increment(1);
}

/// Rows of the journal were read.
pub(crate) fn journal_read(rows: u64) {
    counter!(JOURNAL_ROWS).increment(rows);
}

/// Readers here lacked something that the journal told of.
pub(crate) fn journal_repaired(what: &'static str) {
    counter!(JOURNAL_REPAIRS, "what" => what).increment(1);
}

/// The journal could not be read.
pub(crate) fn journal_failed() {
    counter!(JOURNAL_FAILURES).increment(1);
}

/// Rows of the journal were forgotten before they were read here.
pub(crate) fn journal_gap() {
    counter!(JOURNAL_GAPS).increment(1);
}

/// The store did not take a heartbeat.
pub(crate) fn beat_failed() {
    counter!(BEAT_FAILURES).increment(1);
}

/// How the cluster looks from here.
pub(crate) fn show(nodes: usize, links: usize, routed: usize, waiting_bytes: usize) {
    let set = |name: &'static str, value: usize| {
        gauge!(name).set(f64::from(u32::try_from(value).unwrap_or(u32::MAX)));
    };
    set(NODES, nodes);
    set(LINKS, links);
    set(ROUTED, routed);
    set(WAITING_BYTES, waiting_bytes);
}

/// Shows the counters from the start, of a gateway that is alone so far.
pub(super) fn begin_at_zero() {
    show(1, 0, 0, 0);
    for fate in ["sent", "left_out"] {
        counter!(ENTRIES_SENT, "fate" => fate).absolute(0);
    }
    for fate in ["handed_out", "loaded", "failed"] {
        counter!(ENTRIES_RECEIVED, "fate" => fate).absolute(0);
    }
    for what in ["entries", "hints"] {
        counter!(JOURNAL_REPAIRS, "what" => what).absolute(0);
    }
    for name in
        [OVERFLOWS, LINK_FAILURES, JOURNAL_ROWS, JOURNAL_FAILURES, JOURNAL_GAPS, BEAT_FAILURES]
    {
        counter!(name).absolute(0);
    }
}

pub(super) fn describe() {
    for (name, help) in [
        (NODES, "Gateways of the cluster that are known to live, this one included."),
        (LINKS, "Links to other gateways that stand."),
        (ROUTED, "Users who are signed in at other gateways."),
        (WAITING_BYTES, "Bytes that wait for links to other gateways."),
    ] {
        describe_gauge!(name, help);
    }
    for (name, help) in [
        (
            ENTRIES_SENT,
            "Entries for members at other gateways, once for each such gateway, by fate (sent; left_out: no link, or no room).",
        ),
        (
            ENTRIES_RECEIVED,
            "Entries that came from other gateways, by fate (handed_out; loaded: the conversation was not in memory; failed: the store did not answer).",
        ),
        (
            OVERFLOWS,
            "Frames for other gateways that found no room; the journal makes up for entries.",
        ),
        (LINK_FAILURES, "Links to other gateways that ended or could not be made."),
        (JOURNAL_ROWS, "Rows of the journal that were read: transactions of other gateways."),
        (
            JOURNAL_REPAIRS,
            "Conversations whose readers here lacked something that the journal told of, by what they got (entries; hints). Near zero in health.",
        ),
        (JOURNAL_FAILURES, "Reads of the journal that failed."),
        (
            JOURNAL_GAPS,
            "Times that rows were forgotten before they were read here: everything in memory was looked at again.",
        ),
        (BEAT_FAILURES, "Heartbeats that the store did not take."),
    ] {
        describe_counter!(name, help);
    }
}
