//! What a person at a terminal sees meanwhile; nothing anywhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr; silent if that is no terminal.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Default for Progress {
    fn default() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress {
    /// A new stage of unknown length.
    pub fn stage(&self, name: impl Into<String>) {
        self.0.unset_length();
        self.0.set_message(name.into());
        self.0.tick();
    }

    /// A new stage of so many steps.
    pub fn steps(&self, name: impl Into<String>, count: usize) {
        self.0.set_position(0);
        self.0.set_length(count as u64);
        self.0.set_message(name.into());
    }

    /// One step done.
    pub fn step(&self) {
        self.0.inc(1);
    }

    /// A stage of so long, moving by itself until the future is done.
    pub async fn during<T>(
        &self,
        name: impl Into<String>,
        length: Duration,
        work: impl Future<Output = T>,
    ) -> T {
        let ticks = usize::try_from(length.as_millis() / TICK.as_millis()).unwrap_or(usize::MAX);
        self.steps(name, ticks);
        if self.0.is_hidden() {
            return work.await;
        }
        let mut work = Box::pin(work);
        loop {
            match tokio::time::timeout(TICK, &mut work).await {
                Ok(result) => return result,
                Err(_) => self.step(),
            }
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

const TICK: Duration = Duration::from_millis(250);
