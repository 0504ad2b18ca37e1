//! An authorization server that gives tokens to who asks for them: metadata, and a token endpoint that a test scripts.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use crate::upstream::{Host, Recorded};

/// The fields of a form.
pub type Form = BTreeMap<String, String>;

type Answers = Arc<dyn Fn(&Form) -> (u16, Value) + Send + Sync>;

/// A running one.
pub struct Authorization {
    host: Host,
    answers: Arc<Mutex<Answers>>,
}

impl Authorization {
    /// Gives tokens that last an hour, `token-1` first.
    pub async fn start() -> io::Result<Self> {
        let given = AtomicUsize::new(0);
        let plain: Answers = Arc::new(move |_: &Form| {
            let number = given.fetch_add(1, Ordering::Relaxed) + 1;
            (200, json!({ "access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": 3600 }))
        });
        let answers = Arc::new(Mutex::new(plain));
        let held = Arc::clone(&answers);
        let host = Host::serve(move |request| {
            let base = format!("http://{}", request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default());
            match request.uri().path() {
                "/.well-known/oauth-authorization-server" => {
                    (200, json!({ "issuer": base, "token_endpoint": format!("{base}/token"), "token_endpoint_auth_methods_supported": ["client_secret_post"] }))
                }
                "/token" => {
                    let answers = Arc::clone(&held.lock().unwrap_or_else(PoisonError::into_inner));
                    answers(&form(request.body()))
                }
                _ => (404, json!({})),
            }
        })
        .await?;
        Ok(Self { host, answers })
    }

    /// What it is called.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.host.address())
    }

    /// From now on the token endpoint answers like this.
    pub fn answer(&self, answers: impl Fn(&Form) -> (u16, Value) + Send + Sync + 'static) -> &Self {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(answers);
        self
    }

    /// What its token endpoint was asked, oldest first.
    pub fn asked(&self) -> Vec<Form> {
        let requests: Vec<Recorded> = self.host.requests();
        requests.iter().filter(|request| request.path == "/token").map(|request| form(&request.body)).collect()
    }
}

fn form(body: &[u8]) -> Form {
    url::form_urlencoded::parse(body).into_owned().collect()
}
