//! An authorization server that knows people: it registers clients, sends browsers back with a code at once, and turns every refresh token
//! into the next one. Who shows an old one ends the whole line. What it does otherwise is said by [`Manners`].

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use crate::upstream::{Host, Recorded};

/// What is sent in a form or a query.
pub type Pairs = BTreeMap<String, String>;

/// How it behaves; changed while it runs.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Who is signed in there in whichever browser comes.
    pub person: String,
    /// What it answers in place of a code.
    pub error: Option<String>,
    /// Who it says that it is when it answers; `None`: nothing.
    pub iss: Option<String>,
    /// What is put over its metadata.
    pub metadata: Value,
    /// How long its access tokens last, seconds.
    pub lasts: u64,
    /// Whether it gives refresh tokens.
    pub refreshes: bool,
    /// Whether a refresh token is good once.
    pub is_strict: bool,
    /// What its token endpoint answers to a refresh, in place of tokens.
    pub refuses: Option<(u16, Value)>,
}

/// A running one.
pub struct PeopleServer {
    host: Host,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    manners: Option<Manners>,
    issued: u64,
    clients: BTreeSet<String>,
    /// What was sent with the browser, by the code.
    codes: BTreeMap<String, Pairs>,
    /// The line and the person of a refresh token, and whether it was used.
    refresh: BTreeMap<String, (u64, String, bool)>,
    /// The line and the person of an access token that is good.
    access: BTreeMap<String, (u64, String)>,
}

impl PeopleServer {
    /// Nobody has come yet.
    pub async fn start() -> io::Result<Self> {
        Self::on(0).await
    }

    async fn on(port: u16) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let held = Arc::clone(&state);
        let host = Host::start(port, move |request, _| {
            let (status, location, body) = answer(&mut lock(&held), &request);
            let mut reply = crate::upstream::json_reply(status, &body);
            if let Some(location) = location.and_then(|location| location.parse().ok()) {
                reply.headers_mut().insert(http::header::LOCATION, location);
            }
            std::future::ready(reply)
        })
        .await?;
        let issuer = format!("http://{}", host.address());
        lock(&state).manners = Some(Manners {
            person: "ann@there".to_owned(),
            error: None,
            iss: Some(issuer),
            metadata: json!({}),
            lasts: 3600,
            refreshes: true,
            is_strict: true,
            refuses: None,
        });
        Ok(Self { host, state })
    }

    /// What it is called.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.host.address())
    }

    /// Changes how it behaves.
    pub fn set(&self, change: impl FnOnce(&mut Manners)) -> &Self {
        lock(&self.state).manners.as_mut().map(change);
        self
    }

    /// Knows this client, as if somebody had registered it.
    pub fn knows(&self, client: &str) -> &Self {
        lock(&self.state).clients.insert(client.to_owned());
        self
    }

    /// Forgets every client, as after a restart of one that keeps none.
    pub fn forget_clients(&self) {
        lock(&self.state).clients.clear();
    }

    /// Access tokens are no good any more; refresh tokens are.
    pub fn end_access(&self) {
        lock(&self.state).access.clear();
    }

    /// Nothing that was given to anybody is good any more.
    pub fn revoke_all(&self) {
        let mut state = lock(&self.state);
        state.access.clear();
        state.refresh.clear();
    }

    /// Whose a bearer token is, if it is good: for the server that takes its tokens.
    pub fn person_of(&self, headers: &http::HeaderMap) -> Option<String> {
        let shown = headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
        lock(&self.state).access.get(shown).map(|(_, person)| person.clone())
    }

    /// The same, for who holds on to it.
    pub fn door(&self) -> impl Fn(&http::HeaderMap) -> Option<String> + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move |headers| {
            let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
            lock(&state).access.get(shown.trim_start_matches("Bearer ")).map(|(_, person)| person.clone())
        }
    }

    /// How many access tokens are good.
    pub fn good(&self) -> usize {
        lock(&self.state).access.len()
    }

    /// What came to a path, oldest first.
    pub fn came(&self, path: &str) -> Vec<Recorded> {
        let there = |request: &Recorded| request.path.split('?').next() == Some(path);
        self.host.requests().into_iter().filter(there).collect()
    }

    /// The forms that came to the token endpoint with this grant.
    pub fn asked(&self, grant: &str) -> Vec<Pairs> {
        let forms = self.came("/token").into_iter().map(|request| pairs(&request.body));
        forms.filter(|form| form.get("grant_type").is_some_and(|sent| sent == grant)).collect()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pairs(text: &[u8]) -> Pairs {
    url::form_urlencoded::parse(text).into_owned().collect()
}

fn answer(state: &mut State, request: &Request<Bytes>) -> (u16, Option<String>, Value) {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let base = format!("http://{host}");
    let Some(manners) = state.manners.clone() else { return (503, None, json!({})) };
    match request.uri().path() {
        "/.well-known/oauth-authorization-server" => (200, None, metadata(&base, &manners)),
        "/authorize" => authorize(state, &manners, &pairs(request.uri().query().unwrap_or_default().as_bytes())),
        "/register" => {
            state.issued += 1;
            let id = format!("client-{}", state.issued);
            state.clients.insert(id.clone());
            (
                201,
                None,
                json!({"client_id": id, "client_secret": format!("secret-of-{id}"), "client_secret_expires_at": 0}),
            )
        }
        "/token" => {
            let form = pairs(request.body());
            let (status, body) = token(state, &manners, request, &form);
            (status, None, body)
        }
        "/revoke" => {
            let token = pairs(request.body()).remove("token").unwrap_or_default();
            if let Some((line, ..)) = state.refresh.get(&token).cloned() {
                end(state, line);
            }
            state.access.remove(&token);
            (200, None, json!({}))
        }
        _ => (404, None, json!({})),
    }
}

fn metadata(base: &str, manners: &Manners) -> Value {
    let mut about = json!({
        "issuer": base, "authorization_endpoint": format!("{base}/authorize"), "token_endpoint": format!("{base}/token"),
        "registration_endpoint": format!("{base}/register"), "revocation_endpoint": format!("{base}/revoke"),
        "code_challenge_methods_supported": ["S256"], "scopes_supported": ["read", "write", "offline_access"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
        "authorization_response_iss_parameter_supported": true,
    });
    for (name, value) in manners.metadata.as_object().into_iter().flatten() {
        about[name] = value.clone();
    }
    about
}

fn authorize(state: &mut State, manners: &Manners, query: &Pairs) -> (u16, Option<String>, Value) {
    let get = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    if !state.clients.contains(get("client_id")) {
        return (400, None, json!({"error": "invalid_client"}));
    }
    if get("code_challenge_method") != "S256" || get("resource").is_empty() || get("response_type") != "code" {
        return (400, None, json!({"error": "invalid_request"}));
    }
    let mut answer = url::form_urlencoded::Serializer::new(String::new());
    if let Some(error) = &manners.error {
        answer.append_pair("error", error).append_pair("error_description", "what it says");
    } else {
        state.issued += 1;
        let code = format!("code-{}", state.issued);
        let mut kept = query.clone();
        kept.insert("person".to_owned(), manners.person.clone());
        state.codes.insert(code.clone(), kept);
        answer.append_pair("code", &code);
    }
    answer.append_pair("state", get("state"));
    if let Some(iss) = &manners.iss {
        answer.append_pair("iss", iss);
    }
    (302, Some(format!("{}?{}", get("redirect_uri"), answer.finish())), json!({}))
}

fn token(state: &mut State, manners: &Manners, request: &Request<Bytes>, form: &Pairs) -> (u16, Value) {
    let get = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let wrong = |error: &str| (400, json!({ "error": error }));
    let client = get("client_id");
    let secret = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let of_secret =
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{client}:secret-of-{client}")));
    if !state.clients.contains(client) || (client.starts_with("client-") && secret != of_secret) {
        return (401, json!({"error": "invalid_client"}));
    }
    match get("grant_type") {
        "authorization_code" => {
            let Some(sent) = state.codes.remove(get("code")) else { return wrong("invalid_grant") };
            let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, get("code_verifier").as_bytes()));
            let same = |name: &str| sent.get(name).map(String::as_str) == Some(get(name));
            if sent.get("code_challenge") != Some(&challenge)
                || !["redirect_uri", "client_id", "resource"].iter().all(|name| same(name))
            {
                return wrong("invalid_grant");
            }
            state.issued += 1;
            let (line, person) = (state.issued, sent.get("person").cloned().unwrap_or_default());
            give(state, manners, line, &person, sent.get("scope").map_or("", String::as_str))
        }
        "refresh_token" => {
            if let Some((status, body)) = &manners.refuses {
                return (*status, body.clone());
            }
            match state.refresh.get_mut(get("refresh_token")) {
                Some((line, person, used)) if !(*used && manners.is_strict) => {
                    *used = true;
                    let (line, person) = (*line, person.clone());
                    state.access.retain(|_, (of, _)| *of != line);
                    give(state, manners, line, &person, "")
                }
                Some((line, ..)) => {
                    let line = *line;
                    end(state, line);
                    wrong("invalid_grant")
                }
                None => wrong("invalid_grant"),
            }
        }
        _ => wrong("unsupported_grant_type"),
    }
}

fn give(state: &mut State, manners: &Manners, line: u64, person: &str, scope: &str) -> (u16, Value) {
    state.issued += 1;
    let number = state.issued;
    let access = format!("access-{number}");
    state.access.insert(access.clone(), (line, person.to_owned()));
    let claims = URL_SAFE_NO_PAD.encode(json!({"sub": "1", "email": person}).to_string());
    let mut given = json!({
        "access_token": access, "token_type": "Bearer", "expires_in": manners.lasts,
        "id_token": format!("{}.{claims}.x", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#)),
    });
    if !scope.is_empty() {
        given["scope"] = scope.into();
    }
    if manners.refreshes {
        let refresh = format!("refresh-{number}");
        state.refresh.insert(refresh.clone(), (line, person.to_owned(), false));
        given["refresh_token"] = refresh.into();
    }
    (200, given)
}

/// Ends a line: somebody showed what was used before, or gave it back.
fn end(state: &mut State, line: u64) {
    state.refresh.retain(|_, (of, ..)| *of != line);
    state.access.retain(|_, (of, _)| *of != line);
}
