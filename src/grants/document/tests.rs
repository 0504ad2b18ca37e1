use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::PrivateHost;
use crate::net::tests::{acceptor, data};
use crate::net::{AddressPolicy, Outbound};

/// Who asks.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An https site at `upstream.test` that answers every path alike and counts how often it was asked.
struct Site {
    port: u16,
    answer: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Site {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (answers, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let Ok(mut stream) = acceptor().accept(stream).await else { continue };
                let mut head = vec![0; 4096];
                let _ = stream.read(&mut head).await;
                count.fetch_add(1, Ordering::Relaxed);
                let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { port, answer, asked, task }
    }

    fn url(&self, path: &str) -> String {
        format!("https://upstream.test:{}{path}", self.port)
    }

    fn raw(&self, head: &str, body: &str) {
        let text = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        *self.answer.lock().unwrap() = text.into_bytes();
    }

    fn says(&self, document: &Value) {
        self.raw("200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=600", &document.to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn documents(address: &'static str, hosts: Vec<PrivateHost>) -> Documents {
    let resolve = move |_: &str, port| Ok(vec![SocketAddr::new(address.parse().unwrap(), port)]);
    let outbound = Outbound::with_resolver(AddressPolicy::ADMIN, Some(data("ca.pem")), Arc::new(resolve));
    Documents::new(Arc::new(Fetcher::new(&outbound, hosts)), Schemes::default())
}

/// `upstream.test` is inside our own network.
fn inside() -> Documents {
    let host = PrivateHost { host: "upstream.test".into(), network: Some("127.0.0.0/8".parse().unwrap()) };
    documents("127.0.0.1", vec![host])
}

fn at(minutes: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::minutes(minutes)
}

fn document(id: &str) -> Value {
    json!({
        "client_id": id, "client_name": "An Editor", "redirect_uris": ["http://127.0.0.1/cb", "https://editor.example/cb"],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        "token_endpoint_auth_method": "none", "logo_uri": "https://editor.example/logo.png",
    })
}

#[tokio::test]
async fn a_client_is_what_its_document_says_and_is_asked_again_when_that_is_old() {
    let (site, documents) = (Site::open().await, inside());
    let id = site.url("/client.json");
    site.says(&document(&id));
    let client = documents.get(&id, HERE, false, at(0)).await.unwrap();
    assert_eq!((&*client.id, &*client.name, &client.known), (id.as_str(), "An Editor", &Known::Document));
    assert!(
        client.redirect("http://127.0.0.1:4711/cb").is_some() && client.redirect("https://evil.example/cb").is_none()
    );
    assert!(matches!(client.proof, Proof::None) && !client.is_registered());

    let mut other = document(&id);
    other["redirect_uris"] = json!(["https://new.example/cb"]);
    site.says(&other);
    let kept = documents.get(&id, HERE, false, at(9)).await.unwrap();
    assert!(kept.redirect("https://editor.example/cb").is_some() && site.asked() == 1);
    let new = documents.get(&id, HERE, false, at(10)).await.unwrap();
    assert!(new.redirect("https://editor.example/cb").is_none() && new.redirect("https://new.example/cb").is_some());
}

#[tokio::test]
async fn many_who_come_at_once_cause_one_fetch() {
    let (site, documents) = (Site::open().await, inside());
    let id = site.url("/client.json");
    site.says(&document(&id));
    let all = futures_util::future::join_all((0..20).map(|_| documents.get(&id, HERE, false, at(0)))).await;
    assert!(all.iter().all(Result::is_ok) && site.asked() == 1);
}

#[tokio::test]
async fn without_its_document_a_client_starts_nothing_new() {
    let (site, documents) = (Site::open().await, inside());
    let id = site.url("/client.json");
    site.says(&document(&id));
    documents.get(&id, HERE, false, at(0)).await.unwrap();
    site.raw("503 Service Unavailable", "");
    let refused = documents.get(&id, HERE, false, at(10)).await.unwrap_err();
    assert!(matches!(refused, ClientError::Unreachable { temporary: true, .. }), "{refused:?}");
    assert!(documents.get(&id, HERE, true, at(10)).await.is_ok(), "what was granted before goes on");
    site.says(&document(&id));
    assert!(documents.get(&id, HERE, false, at(10)).await.is_err(), "the failure is kept for a minute");
    assert!(documents.get(&id, HERE, false, at(11)).await.is_ok());
}

#[tokio::test]
async fn a_document_that_says_something_wrong_is_no_client_and_says_why() {
    let (site, documents) = (Site::open().await, inside());
    let id = site.url("/client.json");
    let with = |name: &str, value: Value| {
        let mut document = document(&id);
        document[name] = value;
        document
    };
    for (minute, (document, told)) in (0..).zip([
        (with("client_id", json!(format!("{id}/"))), "client_id"),
        (with("client_id", json!(id.to_uppercase())), "client_id"),
        (with("client_id", Value::Null), "client_id"),
        (with("redirect_uris", json!([])), "1 to 10"),
        (with("redirect_uris", json!(vec!["https://a.example/"; 11])), "1 to 10"),
        (with("redirect_uris", json!(["https://a.example/", "javascript:alert(1)"])), "redirect_uris[1]"),
        (with("redirect_uris", json!(["http://a.example/"])), "use https"),
        (with("token_endpoint_auth_method", json!("client_secret_basic")), "none or private_key_jwt"),
        (with("token_endpoint_auth_method", json!("private_key_jwt")), "jwks"),
        (with("client_secret", json!("x")), "client_secret"),
        (with("client_name", json!("a\u{202e}b")), "client_name"),
        (with("grant_types", json!(["client_credentials"])), "authorization_code"),
        (json!([]), "an object"),
    ]) {
        site.says(&document);
        let refused = documents.get(&id, HERE, false, at(minute * 2)).await.unwrap_err();
        let ClientError::Invalid(text) = &refused else { panic!("{document}: {refused:?}") };
        assert!(text.contains(told), "{text}");
    }
}

#[tokio::test]
async fn what_is_no_small_json_at_the_very_place_is_not_taken() {
    let (site, documents) = (Site::open().await, inside());
    let id = site.url("/client.json");
    let text = document(&id).to_string();
    let large = format!("{}{}", &text, " ".repeat(5 * 1024));
    for (minute, (head, body)) in (0..).zip([
        ("200 OK\r\ncontent-type: text/html", text.as_str()),
        ("200 OK", &text),
        ("200 OK\r\ncontent-type: application/json", &large),
        ("302 Found\r\nlocation: https://upstream.test/other\r\ncontent-type: application/json", &text),
        ("404 Not Found\r\ncontent-type: application/json", &text),
    ]) {
        site.raw(head, body);
        let refused = documents.get(&id, HERE, false, at(minute * 2)).await.unwrap_err();
        assert!(matches!(refused, ClientError::Unreachable { temporary: false, .. }), "{head}: {refused:?}");
    }
}

#[tokio::test]
async fn a_strangers_url_does_not_lead_inside_and_does_not_tell_what_is_there() {
    let site = Site::open().await;
    let elsewhere = PrivateHost { host: "upstream.test".into(), network: Some("10.0.0.0/8".parse().unwrap()) };
    let metadata = PrivateHost { host: "upstream.test".into(), network: None };
    let mut told = Vec::new();
    for (address, hosts) in [
        ("127.0.0.1", Vec::new()),
        ("::ffff:127.0.0.1", Vec::new()),
        ("127.0.0.1", vec![elsewhere]),
        ("169.254.169.254", vec![metadata]),
    ] {
        let refused = documents(address, hosts).get(&site.url("/client.json"), HERE, false, at(0)).await.unwrap_err();
        assert!(matches!(refused, ClientError::Unreachable { temporary: false, .. }), "{address}: {refused:?}");
        told.push(refused.to_string());
    }
    for host in ["127.0.0.1", "[::1]", "169.254.169.254", "10.0.0.1", "[::ffff:7f00:1]"] {
        let id = format!("https://{host}:{}/client.json", site.port);
        told.push(documents("127.0.0.1", Vec::new()).get(&id, HERE, false, at(0)).await.unwrap_err().to_string());
    }
    told.dedup();
    assert_eq!(told, ["the client's metadata document cannot be fetched"]);
    assert_eq!(site.asked(), 0);
}

#[tokio::test]
async fn an_id_that_is_no_plain_url_of_a_document_is_not_fetched() {
    let documents = inside();
    for id in [
        "http://upstream.test/client.json",
        "https://upstream.test",
        "https://upstream.test/",
        "https://upstream.test/?client",
        "https://upstream.test/client.json#a",
        "https://user@upstream.test/client.json",
        "https://upstream.test/a/../client.json",
        "https://upstream.test:443/client.json",
        "javascript://upstream.test/%0aalert(1)",
    ] {
        let refused = documents.get(id, HERE, false, at(0)).await.unwrap_err();
        assert!(matches!(refused, ClientError::Invalid(_)), "{id}: {refused:?}");
    }
}
