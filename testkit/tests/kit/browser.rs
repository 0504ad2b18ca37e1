//! The browser against pages of its own.

use axum::{
    Router,
    extract::RawForm,
    http::HeaderMap,
    response::{Html, IntoResponse as _, Redirect},
    routing::{get, post},
};
use testkit::browser::Browser;

async fn serve() -> anyhow::Result<String> {
    let page =
        r#"<form method=post action="/sign-in?x=1"><input type=hidden name=token value="t1"><input name=who></form>"#;
    let routes = Router::new()
        .route("/", get(move || async move { ([("set-cookie", "seen=1; Path=/"), ("x-page", "home")], Html(page)) }))
        .route(
            "/sign-in",
            post(|headers: HeaderMap, RawForm(body): RawForm| async move {
                let told = ["cookie", "origin", "sec-fetch-site"]
                    .map(|name| headers[name].to_str().unwrap_or_default().to_owned());
                let to =
                    format!("/told?body={}&told={}", String::from_utf8_lossy(&body).replace('&', ";"), told.join(";"));
                ([("set-cookie", "seen=; Path=/; Max-Age=0")], Redirect::to(&to)).into_response()
            }),
        )
        .route("/told", get(|| async { "told" }))
        .route("/round", get(|| async { Redirect::to("/round") }))
        .route("/away", get(|| async { Redirect::to("http://127.0.0.1:9/callback?code=c%20d#part") }));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

#[tokio::test]
async fn a_form_goes_with_its_hidden_fields_its_cookies_and_where_it_was_sent_from() -> anyhow::Result<()> {
    let address = serve().await?;
    let mut browser = Browser::new();
    let page = browser.open(&address).await?;
    assert_eq!((page.header("x-page"), browser.jar().value("seen")), ("home", Some("1")));
    let told = browser.submit(&page, "who", &[("who", "ann")]).await?;
    assert_eq!((told.body.as_str(), told.redirects.len()), ("told", 1));
    assert_eq!(told.param("body").as_deref(), Some("token=t1;who=ann"));
    assert_eq!(told.param("told"), Some(format!("seen=1;{address};same-origin")));
    assert!(browser.jar().names().is_empty(), "the answer took the cookie back");
    assert!(browser.submit(&page, "nothing", &[]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn it_stops_before_an_address_that_nobody_serves_and_leaves_a_loop() -> anyhow::Result<()> {
    let address = serve().await?;
    let mut browser = Browser::new().stop_at("http://127.0.0.1:9/callback");
    let back = browser.open(&format!("{address}/away")).await?;
    assert!(back.stopped && back.param("code").as_deref() == Some("c d"));
    let error = browser.open(&format!("{address}/round")).await.unwrap_err();
    assert!(error.to_string().contains("more than 10 redirects"), "{error}");
    Ok(())
}
