//! A gateway's admin port, asked over plain HTTP.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::gateway::Gateway;

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200, 503, ...
    pub status: u16,
    /// Its body.
    pub body: String,
}

/// All metrics of one moment.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// As it came.
    pub text: String,
}

impl Gateway {
    /// `GET path`.
    ///
    /// # Errors
    /// Nobody answers, or not in HTTP.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.get_at(self.admin, path).await
    }

    /// The same at another port of it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_at(&self, at: SocketAddr, path: &str) -> Result<Answer> {
        let asking = async {
            let mut stream = TcpStream::connect(at).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = tokio::time::timeout(super::PATIENCE, asking).await.context("no answer")??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok(Answer { status, body: body.to_owned() })
    }

    /// `/readyz` as JSON, with its status.
    ///
    /// # Errors
    /// Nobody answers, or not in JSON.
    pub async fn readyz(&self) -> Result<(u16, serde_json::Value)> {
        let answer = self.get("/readyz").await?;
        Ok((answer.status, serde_json::from_str(&answer.body)?))
    }

    /// `/metrics`.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn scrape(&self) -> Result<Scrape> {
        let answer = self.get("/metrics").await?;
        ensure!(answer.status == 200, "/metrics: {}", answer.status);
        Ok(Scrape { text: answer.body })
    }

    /// The present sum over all series whose name is `name` and whose labels contain
    /// `labels` (as written, `code="overloaded"`; empty: all). 0 if there is none.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        Ok(self.scrape().await?.sum(name, labels))
    }
}

impl Scrape {
    /// Each series with its value.
    pub fn series(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some((name, labels.trim_end_matches('}'), value.parse().ok()?))
        })
    }

    /// The sum over all series of this name with these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &str) -> f64 {
        self.series().filter(|(n, l, _)| *n == name && l.contains(labels)).map(|(_, _, v)| v).sum()
    }

    /// Whether there is a series of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.series().any(|(n, ..)| n == name)
    }
}
