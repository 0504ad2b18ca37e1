//! A flood of registrations from everywhere: nothing of it stays, and nobody who signs in notices.

use std::sync::Arc;

use serde_json::json;
use testkit::client::{Client, Request};
use testkit::sign_in::with_password;

use crate::door::{PASSWORD, REDIRECT, browser};
use crate::process::Gateway;

const MIB: u64 = 1 << 20;

/// Some registrations, over one connection; how many were made and how many slowed down.
async fn flood(url: String, first: u32, count: u32) -> (u32, u32) {
    let client = Client::new(&url).keep_alive();
    let body =
        json!({"redirect_uris": [REDIRECT], "client_name": "One of many", "contacts": ["x".repeat(1_000)]}).to_string();
    let (mut made, mut slowed) = (0, 0);
    for number in first..first + count {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string();
        let request = Request::post(body.clone()).path("/oauth/register").header("x-forwarded-for", &address);
        let reply = client.send(request).await.unwrap();
        match reply.status.as_u16() {
            201 => made += 1,
            429 => slowed += 1,
            other => panic!("{other}: {}", reply.text().await.unwrap()),
        }
        _ = reply.text().await.unwrap();
    }
    (made, slowed)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_registrations_stay_nowhere_and_hold_up_no_sign_in() {
    let mut gateway = Gateway::start(&["--behind-proxy"], &[]).await;
    gateway.ada().await;
    gateway.door.client = gateway.registered(&json!({"redirect_uris": [REDIRECT], "client_name": "A client"})).await;
    let url = Arc::new(gateway.url.clone());
    let all = |first: u32| {
        let flooding = (0..8).map(|n| tokio::spawn(flood(url.to_string(), first + n * 625, 625)));
        futures_util::future::join_all(flooding)
    };
    let sum = |done: Vec<Result<(u32, u32), _>>| {
        done.into_iter().map(Result::unwrap).fold((0, 0), |(made, slowed), one| (made + one.0, slowed + one.1))
    };
    let signing_in = async {
        for _ in 0..3 {
            let mut person = browser();
            let consent = gateway.consent(&mut person, &[]).await;
            let end = with_password(&mut person, &consent, "ada", PASSWORD).await.unwrap();
            let given = gateway.redeem(&end.param("code").unwrap()).await.expect(200).json();
            gateway.refresh(given["refresh_token"].as_str().unwrap(), &[]).await.expect(200);
        }
    };
    // In the first half people sign in, and what grows once grows: threads, pools, memory for passwords.
    let (first, ()) = tokio::join!(all(0), signing_in);
    let (memory, first) = (gateway.process.rss().unwrap(), sum(first));
    let then = sum(all(5_000).await);
    let grown = gateway.process.rss().unwrap().saturating_sub(memory);
    assert_eq!(first.0 + first.1 + then.0 + then.1, 10_000);
    assert!(first.0 >= 300 && then.1 > 0, "{first:?} and then {then:?}");
    assert!(grown < 16 * MIB, "it grew by {grown} bytes");
    assert_eq!(gateway.rest("GET", "/oauth-clients", json!(null)).await.expect(200).json()["items"], json!([]));
    gateway.stop().await;
    for (file, bytes) in gateway.data() {
        assert!(!bytes.windows(11).any(|text| text == b"One of many"), "{file} tells of it");
    }
}
