//! Many live access tokens: given out, and each shown once to a gateway that was started anew.

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use serde_json::Value;
use testkit::client::{Client, Request};

use crate::gateway::Gateway;

/// Tokens of one service.
const OF_ONE: usize = 400;
/// Connections that ask.
const AT_ONCE: usize = 8;

/// Gives out `count` tokens.
pub async fn give(gateway: &Gateway, count: usize) -> anyhow::Result<Vec<String>> {
    let services = count.div_ceil(OF_ONE);
    let url = gateway.url();
    let some = stream::iter(0..services).map(|number| {
        let url = &url;
        async move {
            let id = format!("bench-service-{number}");
            let secret = gateway.service(&id).await?;
            let client = Client::new(url).keep_alive();
            let mut tokens = Vec::with_capacity(OF_ONE);
            for _ in 0..OF_ONE.min(count - number * OF_ONE) {
                let body =
                    format!("grant_type=client_credentials&client_id={id}&client_secret={secret}&resource={url}/mcp");
                let request = Request::new(Method::POST, body.into())
                    .path("/oauth/token")
                    .header("content-type", "application/x-www-form-urlencoded");
                let reply = client.send(request).await?;
                let status = reply.status;
                let given: Value = serde_json::from_str(&reply.text().await?)?;
                tokens.push(given["access_token"].as_str().with_context(|| format!("{status}: {given}"))?.to_owned());
            }
            anyhow::Ok(tokens)
        }
    });
    let lists: Vec<Vec<String>> = some.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(lists.concat())
}

/// Shows each once.
pub async fn show(gateway: &Gateway, tokens: &[String]) -> anyhow::Result<()> {
    let url = gateway.url();
    stream::iter(tokens.chunks(tokens.len().div_ceil(AT_ONCE).max(1)))
        .map(|some| {
            let url = &url;
            async move {
                let client = Client::new(&format!("{url}/mcp")).keep_alive();
                for token in some {
                    let request = client.request("1", "tools/list", serde_json::json!({}));
                    let reply = client.send(request.header("authorization", &format!("Bearer {token}"))).await?;
                    let status = reply.status;
                    let text = reply.text().await?;
                    ensure!(status.is_success(), "{status}: {text}");
                }
                Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}
