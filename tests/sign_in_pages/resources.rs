//! Which address a token is for: the one that the client names, however it writes scheme and host, and all servers where it names none.

use http::Method;
use serde_json::{Value, json};
use testkit::client::{Client, Request};

use crate::world::{World, new_browser};

/// What an address of the gateway says to this token.
async fn status(world: &World, method: Method, path: &str, token: &str) -> u16 {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let body = if method == Method::POST { body } else { Value::Null };
    let request = Request::new(method, body.to_string().into()).path(path).header("content-type", "application/json");
    let request = request.header("accept", "application/json, text/event-stream");
    Client::new(&world.running.url()).bearer(token).send(request).await.unwrap().status.as_u16()
}

#[tokio::test]
async fn who_names_no_resource_gets_a_token_for_all_servers_and_nothing_else() {
    let world = World::new().await;
    let mut browser = new_browser();
    let page = browser.open(&world.authorize(&[("resource", "")])).await.unwrap();
    assert!(page.text().contains("every server that you may use"), "{}", page.text());
    let end = world.sign_in(&mut browser, &page).await;
    let token = world.redeem(&world.client_id, &end).await.access;
    assert_eq!(status(&world, Method::POST, "/mcp", token.expose()).await, 200);
    assert_eq!(status(&world, Method::GET, "/api/v1/me", token.expose()).await, 401);
}

#[tokio::test]
async fn the_case_of_scheme_and_host_is_nothing_to_a_resource() {
    let world = World::with(&["--public-url=http://localhost"]).await;
    for resource in ["HTTP://localhost/mcp", "http://LOCALHOST/mcp", "http://localhost:80/mcp"] {
        let asked = world.authorize(&[("resource", resource)]).replace("http://localhost", &world.running.url());
        let page = new_browser().open(&asked).await.unwrap();
        assert!(page.text().contains("every server that you may use"), "{resource}: {}", page.text());
        let traces =
            world.app.grants.traces(mcp_registry_gateway::grants::TraceFilter::default(), None, 1).await.unwrap();
        let request = traces[0].steps.iter().find(|step| step.name == "request").unwrap();
        assert!(request.detail.contains("for http://localhost/mcp"), "{}", request.detail);
    }
}
