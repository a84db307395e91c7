//! A dial that is begun anew, beside the tries before it, while none of them is answered: QUIC doubles the
//! wait before it sends the first packet of a handshake again, so that a handshake which began in the dark may sleep
//! for seconds when the network is back. A fresh one is sent at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

/// When a second try begins; the waits for further ones double. A busy server answers the first one
/// by then.
const SECOND_TRY: Duration = Duration::from_secs(1);
/// Tries at once.
const TRIES_MAX: usize = 4;

/// The first of several tries that comes to an end, good or bad: both are the server's answer.
/// When `anew` is notified the next one begins at once.
pub(crate) async fn first<F: Future>(begin: impl Fn() -> F, anew: &Notify) -> F::Output {
    let mut tries: Vec<Pin<Box<F>>> = vec![Box::pin(begin())];
    let mut wait = SECOND_TRY;
    loop {
        let any = poll_fn(|cx| {
            for one in &mut tries {
                if let Poll::Ready(output) = one.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
            }
            Poll::Pending
        });
        let is_anew = tokio::select! {
            output = any => return output,
            () = tokio::time::sleep(wait) => false,
            () = anew.notified() => true,
        };
        wait = if is_anew { SECOND_TRY } else { wait * 2 };
        if tries.len() == TRIES_MAX {
            tries.remove(0);
        }
        tries.push(Box::pin(begin()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn tries_begin_at_doubling_intervals_and_the_oldest_make_room() {
        let (anew, begun) = (Notify::new(), Cell::new(0));
        let start = Instant::now();
        let try_one = || {
            let number = begun.replace(begun.get() + 1);
            async move {
                // The first is answered late, the others never.
                sleep(Duration::from_secs(if number == 0 { 14 } else { 3_600 })).await;
                number
            }
        };
        assert_eq!(first(try_one, &anew).await, 0);
        // At 0, 1, 3, 7 seconds; the next would have been at 15.
        assert_eq!((begun.get(), start.elapsed().as_secs()), (4, 14));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_network_is_tried_at_once() {
        let (anew, begun) = (Notify::new(), Cell::new(0));
        let start = Instant::now();
        let try_one = || {
            let number = begun.replace(begun.get() + 1);
            async move {
                match number {
                    3 => {}
                    _ => std::future::pending().await,
                }
            }
        };
        let changing = async {
            sleep(Duration::from_millis(3_100)).await;
            anew.notify_one();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = first(try_one, &anew) => {}
            () = changing => {}
        }
        assert_eq!(start.elapsed().as_millis(), 3_100);
    }
}
