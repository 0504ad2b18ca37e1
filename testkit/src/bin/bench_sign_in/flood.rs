//! A flood of registrations from many addresses, and what somebody else notices of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use http::Method;
use serde_json::json;
use testkit::client::{Client, Request};

use crate::gateway::{Gateway, address};

/// Addresses that flood.
const ADDRESSES: u32 = 500;
/// Registrations under way at any time.
const AT_ONCE: usize = 8;

/// What a flood did.
pub struct Flood {
    /// Answers by status.
    pub statuses: BTreeMap<u16, usize>,
    /// How long one who asks for the metadata waited in the meantime, each time.
    pub others: Vec<Duration>,
}

/// Sends `count` registrations, evenly within `time`, as far as they are answered in it.
pub async fn run(gateway: &Gateway, count: u32, time: Duration) -> anyhow::Result<Flood> {
    let url = gateway.url();
    let over = AtomicBool::new(false);
    let began = tokio::time::Instant::now();
    let flooding = async {
        let statuses = stream::iter(0..count)
            .map(async |number| {
                tokio::time::sleep_until(began + time * number / count).await;
                register(&url, number).await
            })
            .buffer_unordered(AT_ONCE)
            .fold(BTreeMap::new(), async |mut statuses: BTreeMap<u16, usize>, status| {
                *statuses.entry(status).or_default() += 1;
                statuses
            })
            .await;
        over.store(true, Relaxed);
        statuses
    };
    let looking = async {
        let mut waits = Vec::new();
        while !over.load(Relaxed) {
            waits.push(look(&url).await?);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(waits)
    };
    let (statuses, others) = tokio::join!(flooding, looking);
    Ok(Flood { statuses, others: others? })
}

/// How long one waits for the metadata when nobody floods.
pub async fn quiet(gateway: &Gateway, count: usize) -> anyhow::Result<Vec<Duration>> {
    let (url, mut waits) = (gateway.url(), Vec::with_capacity(count));
    for _ in 0..count {
        waits.push(look(&url).await?);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(waits)
}

async fn look(url: &str) -> anyhow::Result<Duration> {
    let request = Request::new(Method::GET, "".into()).path("/.well-known/oauth-authorization-server");
    let began = Instant::now();
    Client::new(url).send(request).await?.text().await?;
    Ok(began.elapsed())
}

/// The status; 0 when no answer came.
async fn register(url: &str, number: u32) -> u16 {
    let body = json!({
        "client_name": format!("flood {number}"),
        "redirect_uris": [format!("https://flood-{number}.example/callback")],
        "token_endpoint_auth_method": "none",
    });
    let request = Request::new(Method::POST, body.to_string().into())
        .path("/oauth/register")
        .header("content-type", "application/json");
    let client = Client::new(url).source(address(1000 + (number % ADDRESSES) as usize));
    client.send(request).await.map_or(0, |reply| reply.status.as_u16())
}
