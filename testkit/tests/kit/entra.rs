//! The stand-in for Entra ID and the browser, tried on each other.

use serde_json::json;
use testkit::browser::Browser;
use testkit::client::{Client, Request};
use testkit::entra::{CONTOSO, Entra, GATEWAY, SECRETS};

const CALLBACK: &str = "http://127.0.0.1:9/here";

fn authorize(entra: &Entra) -> String {
    let scope = "openid%20profile%20offline_access";
    let (base, request) =
        (entra.base_url(), format!("client_id={GATEWAY}&response_type=code&state=s%20t&scope={scope}"));
    format!("{base}/{CONTOSO}/oauth2/v2.0/authorize?{request}&redirect_uri={CALLBACK}")
}

async fn redeem(entra: &Entra, code: &str) -> anyhow::Result<(u16, serde_json::Value)> {
    let secret = SECRETS[1];
    let form = format!(
        "grant_type=authorization_code&client_id={GATEWAY}&client_secret={secret}&code={code}&redirect_uri={CALLBACK}"
    );
    let request = Request::post(form).header("content-type", "application/x-www-form-urlencoded");
    let reply = Client::new(entra.base_url()).send(request.path(&format!("/{CONTOSO}/oauth2/v2.0/token"))).await?;
    Ok((reply.status.as_u16(), serde_json::from_str(&reply.text().await?)?))
}

#[tokio::test]
async fn a_person_signs_in_with_a_browser_and_the_code_is_good_once() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let mut browser = Browser::new().stop_at(CALLBACK);
    let page = browser.open(&authorize(&entra)).await?;
    let back = entra.sign_in(&mut browser, page, "tess@contoso.onmicrosoft.com").await?;
    assert!(back.stopped && back.param("state").as_deref() == Some("s t"), "{}", back.url);

    let code = back.param("code").expect("a code");
    let (status, answer) = redeem(&entra, &code).await?;
    assert!(status == 200 && answer["id_token"].is_string() && answer["refresh_token"].is_string(), "{answer}");
    let (status, answer) = redeem(&entra, &code).await?;
    assert_eq!((status, &answer["error_codes"]), (400, &json!([54005])));
    let log = entra.log("/token").await?;
    assert_eq!(log.iter().map(|line| line["status"].as_u64()).collect::<Vec<_>>(), [Some(200), Some(400)]);
    Ok(())
}

#[tokio::test]
async fn two_browsers_are_two_people() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let (mut one, mut other) = (Browser::new().stop_at(CALLBACK), Browser::new().stop_at(CALLBACK));
    let form = one.open(&authorize(&entra)).await?;
    let stolen = other.send(&form, &form.form("login")?.filled(&[("login", "bob@contoso.onmicrosoft.com")])).await?;
    assert!(stolen.text().contains("not bound to this browser"), "{}", stolen.text());

    let back = entra.sign_in(&mut one, form, "bob@contoso.onmicrosoft.com").await?;
    assert!(back.stopped);
    // Whoever has signed in is not asked again; whoever has not, is.
    assert!(one.open(&authorize(&entra)).await?.stopped);
    assert!(!other.open(&authorize(&entra)).await?.stopped);
    Ok(())
}

#[tokio::test]
async fn what_a_test_orders_happens() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[]).await? else { return Ok(()) };
    entra
        .post(
            "/_sim/faults",
            json!({ "match": { "endpoint": "token" }, "action": { "status": 429, "retry_after": 7 } }),
        )
        .await?;
    let reply =
        Client::new(entra.base_url()).send(Request::post("").path(&format!("/{CONTOSO}/oauth2/v2.0/token"))).await?;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "7"));
    assert_eq!(entra.token("nora@contoso.onmicrosoft.com", json!({})).await?.matches('.').count(), 2);
    assert!(entra.token("nobody@contoso.onmicrosoft.com", json!({})).await.is_err());
    assert!(entra.post("/_sim/nothing", json!({})).await.is_err());
    Ok(())
}
