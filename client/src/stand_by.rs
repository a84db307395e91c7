//! Another connection beside one that is silent: who answers first is kept.

use petrel_transport::Connection;
use tokio::sync::watch::channel;

use crate::backoff::Backoff;
use crate::event::OfflineReason;
use crate::session::{Ended, Next, Session};
use crate::watch::{self, Doubt};

impl Session {
    /// Looks after a connection; while it is in doubt, dials beside it. Ends when another connection
    /// is signed in, or is refused for good.
    pub(crate) async fn stand_by(&self, connection: &Connection) -> Ended {
        let (said, mut doubt) = channel(Doubt::Sure);
        let mut silence = said.subscribe();
        let has_others = self.line.has_others();
        let watching = watch::run(&self.shared, connection, has_others, &said);
        // The sender lives as long as these wait.
        let dialing = async {
            while doubt.wait_for(|doubt| *doubt > Doubt::Sure).await.is_ok() {
                self.shared.state.lock().is_dialed_beside = true;
                let ended = tokio::select! {
                    ended = self.dial_beside() => Some(ended),
                    _ = doubt.wait_for(|doubt| *doubt == Doubt::Sure) => None,
                };
                if let Some(ended) = ended {
                    return ended;
                }
                tracing::debug!("the server is heard again");
                self.shared.state.lock().is_dialed_beside = false;
            }
            std::future::pending().await
        };
        let telling = async {
            while silence.wait_for(|doubt| *doubt == Doubt::Silent).await.is_ok() {
                self.shared.fell_silent(true);
                if silence.wait_for(|doubt| *doubt == Doubt::Sure).await.is_ok() {
                    self.shared.fell_silent(false);
                }
            }
        };
        tokio::select! {
            ended = dialing => ended,
            never = watching => match never {},
            () = telling => std::future::pending().await,
        }
    }

    async fn dial_beside(&self) -> Ended {
        let options = &self.shared.options;
        let mut backoff = Backoff::new(options.backoff_min, options.backoff_max);
        loop {
            let ended = match self.connect(false).await {
                Ok(signed_in) => {
                    let why = OfflineReason::Lost("the server was silent".to_owned());
                    return Ended { why, next: Next::Moved(Box::new(signed_in)) };
                }
                Err(ended) => ended,
            };
            let Next::Again(at_least) = ended.next else { return ended };
            let wait = backoff.next(rand::random()).max(at_least);
            tracing::debug!(why = %ended.why, ?wait, "no other connection");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shared.dial_now.notified() => {}
            }
        }
    }
}
