//! What the echo sends, hears and leaves out.

use std::sync::LazyLock;

use metrics::{Counter, counter, describe_counter};
use petrel_proto::echo::{Copied, Delivered, Due, Offered};

const DATAGRAMS: &str = "petrel_gateway_echo_datagrams_sent_total";
const SENT: &str = "petrel_gateway_echo_copies_sent_total";
const NOTICES: &str = "petrel_gateway_echo_notices_sent_total";
const RECEIVED: &str = "petrel_gateway_echo_copies_received_total";
const LEFT_OUT: &str = "petrel_gateway_echo_left_out_total";

struct Counters {
    datagrams: Counter,
    first: Counter,
    second: Counter,
    rescues: Counter,
    notices: Counter,
    news: Counter,
    late: Counter,
    early: Counter,
    dropped: Counter,
    full: Counter,
    spent: Counter,
}

fn counters() -> &'static Counters {
    static COUNTERS: LazyLock<Counters> = LazyLock::new(|| Counters {
        datagrams: counter!(DATAGRAMS),
        first: counter!(SENT, "kind" => "first"),
        second: counter!(SENT, "kind" => "second"),
        rescues: counter!(SENT, "kind" => "rescue"),
        notices: counter!(NOTICES),
        news: counter!(RECEIVED, "result" => "news"),
        late: counter!(RECEIVED, "result" => "late"),
        early: counter!(RECEIVED, "result" => "early"),
        dropped: counter!(RECEIVED, "result" => "dropped"),
        full: counter!(LEFT_OUT, "reason" => "full"),
        spent: counter!(LEFT_OUT, "reason" => "spent"),
    });
    &COUNTERS
}

/// A copy came to its stream, and this became of it.
pub(crate) fn echo_received(copied: &Copied) {
    let counters = counters();
    match copied {
        Copied::News(_) => &counters.news,
        Copied::Late => &counters.late,
        Copied::Early => &counters.early,
    }
    .increment(1);
}

/// A copy came, for a stream that may take it or not.
pub(crate) fn echo_delivered(delivered: Delivered) {
    if delivered != Delivered::Waits {
        counters().dropped.increment(1);
    }
}

/// A small write was offered to the echo.
pub(crate) fn echo_offered(offered: Offered) {
    match offered {
        Offered::Full => counters().full.increment(1),
        Offered::Spent => counters().spent.increment(1),
        Offered::Taken | Offered::Unfit => {}
    }
}

/// This is sent once more.
pub(crate) fn echo_sent(due: &Due) {
    let counters = counters();
    counters.datagrams.increment(due.datagrams.len() as u64 - due.notices);
    counters.first.increment(due.first);
    counters.second.increment(due.second);
    counters.rescues.increment(due.rescues);
    counters.notices.increment(due.notices);
    counters.spent.increment(due.spent);
}

/// Tells what they are, and shows them from the start.
pub(super) fn describe() {
    for (name, help) in [
        (
            DATAGRAMS,
            "Datagrams with copies of what streams carry, sent because packets were lost or nothing was heard.",
        ),
        (
            SENT,
            "Copies of small writes, by kind: the first and second of each while packets are lost, and those sent into a silence.",
        ),
        (NOTICES, "Datagrams without copies, which tell a client that packets to it were lost."),
        (
            RECEIVED,
            "Copies of what streams carry: before their original, after it, with something missing before them, or dropped as their stream has ended or holds enough.",
        ),
        (
            LEFT_OUT,
            "Small writes that were not copied: too many waited, or too much was copied in that second.",
        ),
    ] {
        describe_counter!(name, help);
    }
    counters();
}
