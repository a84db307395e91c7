//! The channel's and the writers' metrics: names, label values, and handles
//! that are looked up once.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

const UNITS: &str = "petrel_storage_channel_units";
const UNITS_MAX: &str = "petrel_storage_channel_units_max";
const OVERFLOWS: &str = "petrel_storage_channel_overflows_total";
const BATCH_MESSAGES: &str = "petrel_storage_batch_messages";
const COMMIT_SECONDS: &str = "petrel_storage_commit_seconds";
const PERMIT_TO_COMMIT_SECONDS: &str = "petrel_storage_permit_to_commit_seconds";
const RETRIES: &str = "petrel_storage_retries_total";
const DUPLICATES: &str = "petrel_storage_duplicates_total";
const STALE: &str = "petrel_storage_stale_total";
const CONFLICTS: &str = "petrel_storage_conflicts_total";
const PREVIEWS: &str = "petrel_storage_previews_total";
const REFUSED: &str = "petrel_storage_messages_refused_total";

/// Names, units and meanings for the exporter; call once, after the recorder is installed.
pub fn describe() {
    describe_gauge!(
        UNITS,
        "Room taken in the channel before the writers, in units of 1 KiB begun."
    );
    describe_gauge!(UNITS_MAX, "Room of the channel before the writers, in units of 1 KiB begun.");
    describe_counter!(
        OVERFLOWS,
        "Messages refused because a bound stayed full until the deadline, by bound."
    );
    describe_histogram!(BATCH_MESSAGES, "Messages of one committed batch.");
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "From a batch's first attempt to its commit."
    );
    describe_histogram!(
        PERMIT_TO_COMMIT_SECONDS,
        Unit::Seconds,
        "From a message's permit to its commit."
    );
    describe_counter!(RETRIES, "Batches tried again, by reason.");
    describe_counter!(DUPLICATES, "Messages that were found stored already.");
    describe_counter!(STALE, "Messages not stored because rights had changed since admission.");
    describe_counter!(CONFLICTS, "Messages whose id stands for other content.");
    describe_counter!(PREVIEWS, "Messages previewed while a commit stalled.");
    describe_counter!(REFUSED, "Messages that the database itself refused for good.");
}

pub(crate) fn overflow_counter(what: &'static str) -> Counter {
    counter!(OVERFLOWS, "what" => what)
}

/// Handles of everything that the writers record.
#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) units: Gauge,
    pub(super) units_max: Gauge,
    pub(super) batch_messages: Histogram,
    pub(super) commit_seconds: Histogram,
    pub(super) permit_to_commit_seconds: Histogram,
    pub(super) transient_retries: Counter,
    pub(super) bisections: Counter,
    pub(super) duplicates: Counter,
    pub(super) stale: Counter,
    pub(super) conflicts: Counter,
    pub(super) previews: Counter,
    pub(super) refused: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            units: gauge!(UNITS),
            units_max: gauge!(UNITS_MAX),
            batch_messages: histogram!(BATCH_MESSAGES),
            commit_seconds: histogram!(COMMIT_SECONDS),
            permit_to_commit_seconds: histogram!(PERMIT_TO_COMMIT_SECONDS),
            transient_retries: counter!(RETRIES, "reason" => "transient"),
            bisections: counter!(RETRIES, "reason" => "bisect"),
            duplicates: counter!(DUPLICATES),
            stale: counter!(STALE),
            conflicts: counter!(CONFLICTS),
            previews: counter!(PREVIEWS),
            refused: counter!(REFUSED),
        }
    }
}
