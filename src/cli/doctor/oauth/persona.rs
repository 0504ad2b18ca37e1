//! What each client sends, as its makers publish it and as its requests were seen: where it is answered, how it makes itself
//! known, what it registers.

use serde_json::{Value, json};

use super::Who;

/// A client.
#[derive(Debug)]
pub(super) struct Persona {
    /// What people call it.
    pub(super) title: &'static str,
    /// The document in which it describes itself, if it has one.
    pub(super) document: Option<&'static str>,
    /// Where it is answered, when nobody waits there.
    pub(super) redirect: &'static str,
    /// Where it is answered on the person's machine, without its port: host and path.
    pub(super) loopback: Option<(&'static str, &'static str)>,
    /// The port that it takes there; 0: any.
    pub(super) port: u16,
    /// Whether it calls from the internet.
    pub(super) hosted: bool,
    /// What else it registers besides the address at which it is answered now.
    redirects: &'static [&'static str],
    grants: &'static [&'static str],
    native: bool,
    /// What to do about a certificate that this machine does not trust.
    pub(super) trust: &'static str,
}

const USUAL: &[&str] = &["authorization_code", "refresh_token"];

static CLAUDE: Persona = Persona {
    title: "Claude Code",
    document: Some("https://claude.ai/oauth/claude-code-client-metadata"),
    redirect: "http://localhost:3118/callback",
    loopback: Some(("localhost", "/callback")),
    port: 0,
    hosted: false,
    redirects: &[],
    grants: USUAL,
    native: false,
    trust: "the client refuses it too: serve with a certificate that machines trust, or give its authority to Claude Code in \
            NODE_EXTRA_CA_CERTS and to this command in SSL_CERT_FILE",
};

static VSCODE: Persona = Persona {
    title: "Visual Studio Code",
    document: Some("https://vscode.dev/oauth/client-metadata.json"),
    redirect: "http://127.0.0.1:33418/",
    loopback: Some(("127.0.0.1", "/")),
    port: 33_418,
    hosted: false,
    redirects: &["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1/"],
    grants: &["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
    native: true,
    trust: "the client refuses it too: serve with a certificate that machines trust, or add its authority to the system's, and \
            give it to this command in SSL_CERT_FILE",
};

static CURSOR: Persona = Persona {
    title: "Cursor",
    document: None,
    redirect: "cursor://anysphere.cursor-mcp/oauth/callback",
    loopback: Some(("localhost", "/callback")),
    port: 8_787,
    hosted: false,
    redirects: &["https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"],
    grants: USUAL,
    native: false,
    trust: "the client refuses it too: serve with a certificate that machines trust, or give its authority to Cursor in \
            NODE_EXTRA_CA_CERTS and to this command in SSL_CERT_FILE",
};

static CHATGPT: Persona = Persona {
    title: "ChatGPT",
    document: Some("https://chatgpt.com/oauth/client.json"),
    redirect: "https://chatgpt.com/connector_platform_oauth_redirect",
    loopback: None,
    port: 0,
    hosted: true,
    redirects: &[],
    grants: USUAL,
    native: false,
    trust: "ChatGPT takes only certificates of public authorities: serve with one",
};

/// The client of that name.
pub(super) fn of(who: Who) -> &'static Persona {
    match who {
        Who::Claude => &CLAUDE,
        Who::Vscode => &VSCODE,
        Who::Cursor => &CURSOR,
        Who::Chatgpt => &CHATGPT,
    }
}

impl Persona {
    /// What it registers (RFC 7591 section 2), answered at `redirect` now. The name says that it is this command.
    pub(super) fn registration(&self, redirect: &str, scope: &str) -> Value {
        let mut redirects: Vec<&str> = self.redirects.to_vec();
        if !redirects.contains(&redirect) {
            redirects.insert(0, redirect);
        }
        let mut body = json!({
            "client_name": format!("{} (mcp-gateway doctor)", self.title),
            "redirect_uris": redirects,
            "grant_types": self.grants,
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        });
        if self.native {
            body["application_type"] = "native".into();
        } else {
            body["scope"] = scope.into();
        }
        body
    }
}
