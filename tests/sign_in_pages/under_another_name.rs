//! A gateway on this machine that is opened under another of the machine's names: the browser goes to the gateway's own before it
//! gets a cookie, which would be unknown there.

use http::Method;
use testkit::client::{Client, Request};

use crate::world::World;

#[tokio::test]
async fn the_browser_goes_to_the_gateways_own_name() {
    let world = World::new().await;
    let port = world.running.url().rsplit(':').next().unwrap().to_owned();
    let get = async |path: &str, host: String| {
        let request = Request::new(Method::GET, "".into()).path(path).header("host", &host);
        Client::new(&world.running.url()).send(request).await.unwrap()
    };
    let own = world.app.issuer.as_str();
    assert!(own.contains("127.0.0.1"), "{own}");
    let authorize = world.authorize(&[]).replace(own, "");
    for path in [authorize.as_str(), "/access", "/oauth/sign-in"] {
        for host in [format!("localhost:{port}"), format!("[::1]:{port}")] {
            let answer = get(path, host).await;
            assert_eq!(answer.status, 303, "{path}");
            assert_eq!(answer.headers["location"], format!("{own}{path}"));
            assert!(answer.headers.get("set-cookie").is_none());
        }
        let answer = get(path, format!("127.0.0.1:{port}")).await;
        let sent = answer.headers.get("location").map(|to| to.to_str().unwrap().to_owned());
        assert_ne!(sent, Some(format!("{own}{path}")), "its own name leads nowhere else");
    }
    // Who stands in front may use another port: nobody is sent in circles.
    assert_eq!(get("/oauth/sign-in", "localhost:1".into()).await.status, 200);
}
