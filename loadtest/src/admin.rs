//! The gateway's admin port: one GET at a time, over plain HTTP/1.1.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Gets a page's body.
///
/// # Errors
/// When the port cannot be reached, or answers with neither 200 nor 503
/// (which /readyz uses for "not ready", with the same body).
pub fn get(admin: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)
        .with_context(|| format!("admin port {admin}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("{path}: no HTTP answer"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" && status != "503" {
        bail!("{path}: HTTP status {status}");
    }
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Ok(unchunked(body));
    }
    Ok(body.to_owned())
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16);
        let Some(chunk) = size.ok().filter(|s| *s > 0).and_then(|s| rest.get(..s)) else {
            break;
        };
        whole.push_str(chunk);
        body = rest[chunk.len()..].trim_start_matches("\r\n");
    }
    whole
}

/// The sum of a metric over its labels that hold `filter`; `None` if no such line is there.
pub fn metric(text: &str, name: &str, filter: &str) -> Option<f64> {
    let values: Vec<f64> = text
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with(['{', ' ']) || !rest.contains(filter) {
                return None;
            }
            rest.rsplit_once(' ')?.1.parse().ok()
        })
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "# TYPE a counter\na{way=\"in\"} 3\na{way=\"out\"} 4\nab 9\nc 1e3\n";
        assert_eq!(metric(text, "a", ""), Some(7.0));
        assert_eq!(metric(text, "a", "way=\"out\""), Some(4.0));
        assert_eq!(metric(text, "c", ""), Some(1000.0));
        assert_eq!(metric(text, "d", ""), None);
    }

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(unchunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "abcde");
    }
}
