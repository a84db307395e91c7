//! Foreground and background.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const RELEASED: &str = "petrel_gateway_background_released_messages";

/// A session went to the background or came back.
pub(crate) fn changed(is_background: bool) {
    counter!("petrel_gateway_attention_changes_total", "to" => place(is_background)).increment(1);
}

/// A change came too often to be carried out at once.
pub(crate) fn delayed() {
    counter!("petrel_gateway_attention_delayed_total").increment(1);
}

/// So many entries went out together after they were held.
pub(crate) fn released(entries: u32) {
    histogram!(RELEASED).record(f64::from(entries));
}

/// Sessions in the background, and what is held for them.
pub(crate) fn sample(sessions: f64, held: f64) {
    gauge!("petrel_gateway_background_sessions").set(sessions);
    gauge!("petrel_gateway_background_held_entries").set(held);
}

fn place(is_background: bool) -> &'static str {
    if is_background { "background" } else { "foreground" }
}

/// Says what each is; counters are there from the start.
pub(super) fn describe() {
    describe_counter!(
        "petrel_gateway_attention_changes_total",
        "Sessions that went to the background or came back."
    );
    describe_counter!(
        "petrel_gateway_attention_delayed_total",
        "Such changes that came too often and were carried out up to a second later."
    );
    describe_gauge!("petrel_gateway_background_sessions", "Sessions in the background.");
    describe_gauge!(
        "petrel_gateway_background_held_entries",
        "Entries held for sessions in the background; their bytes are part of the send queues'."
    );
    describe_histogram!(
        RELEASED,
        "Entries that were held for a session in the background and went out together."
    );
    for is_background in [true, false] {
        counter!("petrel_gateway_attention_changes_total", "to" => place(is_background))
            .absolute(0);
    }
    counter!("petrel_gateway_attention_delayed_total").absolute(0);
    drop(histogram!(RELEASED));
}
