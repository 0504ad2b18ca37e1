//! A client that is known by its metadata document, which it serves on a host of its own.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use testkit::sign_in::{VERIFIER, with_password};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::assertions::with;
use crate::possession::{Key, text};
use crate::world::{PASSWORD, REDIRECT, World, browser};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/testdata");

/// Serves the document of a client, with these members besides, at an https URL of this machine: the client's id.
async fn described(more: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let id = format!("https://localhost:{}/client.json", listener.local_addr().unwrap().port());
    let document = with(json!({"client_id": id, "redirect_uris": [REDIRECT]}), more).to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length";
    let answer = format!("{head}: {}\r\n\r\n{document}", document.len());
    let certificate = CertificateDer::from_pem_file(Path::new(FOLDER).join("localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(Path::new(FOLDER).join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            _ = stream.read(&mut [0; 4096]).await;
            _ = stream.write_all(answer.as_bytes()).await;
            _ = stream.shutdown().await;
        }
    });
    id
}

#[tokio::test]
async fn a_code_that_another_process_gave_by_a_newer_document_is_good_here_too() {
    let trusted = format!("--extra-ca-file={FOLDER}/localhost.pem");
    let world = World::with(&["--client-metadata-hosts=localhost", &trusted]).await;
    let id = described(json!({"redirect_uris": ["http://127.0.0.1/before"]})).await;
    // This process has read the document, in which the redirect URI was not yet.
    let refused = browser().open(&world.authorize(&[("client_id", &id)])).await.unwrap();
    assert!(refused.status == 400 && refused.text().contains("not registered for it"), "{}", refused.text());
    let code = world.code_of(&id, "/mcp", "mcp").await;
    let shown = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("code_verifier", VERIFIER),
        ("client_id", id.as_str()),
        ("redirect_uri", REDIRECT),
    ];
    world.token(&shown).await.expect(200);
}

#[tokio::test]
async fn a_client_whose_document_wants_only_bound_tokens_gets_no_others() {
    let trusted = format!("--extra-ca-file={FOLDER}/localhost.pem");
    let world = World::with(&["--client-metadata-hosts=localhost", &trusted]).await;
    let key = Key::new();
    for wants in [true, false] {
        let id = described(json!({"dpop_bound_access_tokens": wants})).await;
        let mut person = browser();
        let consent = world.consent(&mut person, &[("client_id", &id)]).await;
        let code = with_password(&mut person, &consent, "ada", PASSWORD).await.unwrap().param("code").unwrap();
        let shown = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("code_verifier", VERIFIER),
            ("client_id", id.as_str()),
        ];
        let given = if wants {
            assert_eq!(world.token(&shown).await.error(), (400, "invalid_dpop_proof".to_owned()));
            let given = key.token(&world, &shown).await.expect(200).json();
            assert_eq!(given["token_type"], "DPoP", "the code is still good");
            given
        } else {
            let given = world.token(&shown).await.expect(200).json();
            assert_eq!(given["token_type"], "Bearer");
            given
        };
        let access = text(&given, "access_token");
        let shown_alone = world.get("/mcp", &access).await.status;
        assert_eq!(shown_alone == 401, wants, "{shown_alone}");
    }
}
