//! Whoever has the token of a gateway, asking its admin API over plain HTTP.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use petrel_tests::cluster::{Gateway, PATIENCE};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Whoever has the token of a gateway.
pub struct Operator<'a> {
    gateway: &'a Gateway,
    pub token: String,
    document: Value,
}

impl<'a> Operator<'a> {
    pub async fn new(gateway: &'a Gateway) -> Result<Self> {
        let path = gateway.data_dir().join("admin.token");
        ensure!(std::fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600);
        let token = std::fs::read_to_string(path)?.trim().to_owned();
        let head = format!("Authorization: Bearer {token}\r\n");
        let (status, document) = http(gateway, "GET", "/admin/v1/openapi.json", &head, "").await?;
        ensure!(status == 200, "{document}");
        Ok(Self { gateway, token, document: serde_json::from_str(&document)? })
    }

    /// The status and the answer.
    async fn call(&self, command: &str, arguments: &Value) -> Result<(u16, Value)> {
        let path = format!("/admin/v1/{command}");
        let head =
            format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", self.token);
        let (status, answer) =
            http(self.gateway, "POST", &path, &head, &arguments.to_string()).await?;
        Ok((status, serde_json::from_str(&answer).with_context(|| answer)?))
    }

    /// The answer of a command that succeeds; it is what the document says.
    pub async fn done(&self, command: &str, arguments: Value) -> Result<Value> {
        let (status, answer) = self.call(command, &arguments).await?;
        ensure!(status == 200, "{command} {arguments}: {status} {answer}");
        let post = &self.document["paths"][format!("/admin/v1/{command}")]["post"];
        let content = |of: &Value| of["content"]["application/json"]["schema"].clone();
        fits(&content(&post["requestBody"]), &arguments).context("the request")?;
        fits(&content(&post["responses"]["200"]), &answer).context("the answer")?;
        Ok(answer)
    }

    /// Status, code and field of a command that is refused.
    pub async fn refused(&self, command: &str, arguments: Value) -> Result<(u16, String, String)> {
        let (status, answer) = self.call(command, &arguments).await?;
        ensure!(status != 200, "{command} {arguments}: {answer}");
        fits(&self.document["components"]["schemas"]["Error"], &answer)?;
        let said = |name: &str| answer["error"][name].as_str().unwrap_or_default().to_owned();
        Ok((status, said("code"), said("field")))
    }
}

/// As much of JSON Schema as the document uses.
fn fits(schema: &Value, value: &Value) -> Result<()> {
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let is = |kind: &Value| match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    };
    ensure!(kinds.iter().any(is), "{value} is no {}", schema["type"]);
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        ensure!(value.get(name).is_some(), "{value} lacks {name}");
    }
    for (name, part) in value.as_object().into_iter().flatten() {
        let known = &schema["properties"][name];
        ensure!(known.is_object(), "nobody knows {name} in {value}");
        fits(known, part).with_context(|| name.clone())?;
    }
    for part in value.as_array().into_iter().flatten() {
        fits(&schema["items"], part)?;
    }
    Ok(())
}

pub async fn http(
    gateway: &Gateway,
    method: &str,
    path: &str,
    head: &str,
    body: &str,
) -> Result<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect(gateway.admin).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // What is refused early may not be read to its end.
        stream.write_all(request.as_bytes()).await.ok();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        if answer.is_empty() {
            read?;
        }
        anyhow::Ok(String::from_utf8(answer)?)
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await.context("no answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}
