//! Every surface and layer, in order, on one page. What passes before any of this, the checks of host and origin, the bounds
//! of bodies, is `web::Door`.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, StatusCode};
use time::OffsetDateTime;

use crate::admin;
use crate::app::App;
use crate::mcp::endpoint::{self, ALL, ONE};
use crate::mcp::legacy_sse;
use crate::oauth;
use crate::ops;
use crate::reuse::{Reused, Shelf};
use crate::telemetry::RequestId;
use crate::web::barred;
use crate::web::body::BodyProblem;
use crate::web::problem::{no_such_method, no_such_path};
use crate::web::record::record;
use crate::web::unrecorded;
use crate::web::{Serving, Surfaces};

/// Every path that is not recorded by the layer, with what answers there.
fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    let mut table = ops::table();
    table.extend([
        (ALL, get(endpoint::get_all).post(endpoint::post_all).delete(endpoint::delete_all)),
        (ONE, get(endpoint::get_one).post(endpoint::post_one).delete(endpoint::delete_one)),
        (legacy_sse::ALL, get(legacy_sse::open_all)),
        (legacy_sse::ONE, get(legacy_sse::open_one)),
        (legacy_sse::MESSAGES, post(legacy_sse::message)),
    ]);
    table
}

/// All routes of one process.
pub fn routes(app: App) -> Router {
    // Recorded are all but those of MCP, which record what the layer cannot know, and those that machines ask every few seconds.
    let recorded = oauth::table()
        .into_iter()
        .fold(admin::router(&app), |router, (path, answers)| router.route(path, answers))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(app.clone(), record))
        // The door bounds bodies for all routes alike; a second, smaller bound would only confuse. Behind this line bodies are
        // read by hand, and a layer around them would cost each call several allocations.
        .layer(DefaultBodyLimit::disable());
    table().into_iter().fold(recorded, |router, (path, answers)| router.route(path, answers)).with_state(app)
}

thread_local!(static MESSAGES: Shelf<Response> = const { Shelf::new(Vec::new()) });

/// All that one process answers.
pub struct Front {
    app: App,
    router: Router,
}

impl Front {
    /// The router, and past it what most requests are.
    pub fn new(app: App) -> Self {
        Self { router: routes(app.clone()), app }
    }
}

impl Surfaces for Front {
    /// Messages of MCP have no need of the router: finding a route, and the boxes and extensions that come with it, cost one in
    /// twenty of the instructions of a call.
    fn serve(&self, request: Request<Body>) -> Serving {
        let Some(server) = server_of(request.uri().path()).filter(|_| request.method() == Method::POST) else {
            return self.router.serve(request);
        };
        let server = (!server.is_empty()).then(|| server.to_owned());
        Reused::new(&MESSAGES, endpoint::post(self.app.clone(), server, request))
    }

    fn barred(&self, client: IpAddr, path: &str, headers: &HeaderMap, id: &RequestId) -> Option<Response> {
        let barred = barred::barred(&self.app, client, headers)?;
        Some(if self.takes_messages(path) { endpoint::held_off(&barred) } else { barred::problem(&barred).respond(id) })
    }

    fn may_connect(&self, peer: IpAddr) -> Result<(), Duration> {
        self.app.guard.may_connect(peer, OffsetDateTime::now_utc())
    }

    fn answered(&self, client: IpAddr, signs_in: bool, status: StatusCode) {
        self.app.answered(client, signs_in, status);
    }

    fn takes_messages(&self, path: &str) -> bool {
        server_of(path).is_some() || path == legacy_sse::MESSAGES
    }

    fn cannot_record(&self, path: &str) -> Option<BoxFuture<'static, bool>> {
        // What machines ask every few seconds is not recorded.
        if self.app.trail.has_room() || ops::is_of_machines(path) {
            return None;
        }
        let trail = self.app.trail.clone();
        Some(Box::pin(async move { trail.comes_to_have_room().await }))
    }

    fn unrecorded(&self, takes_messages: bool, id: &RequestId) -> Response {
        if takes_messages { endpoint::unrecorded() } else { unrecorded().respond(id) }
    }

    fn too_large(&self, path: &str) -> Option<Response> {
        self.takes_messages(path).then(|| endpoint::unread(BodyProblem::TooLarge).respond(None))
    }
}

/// The server that a path of MCP names, empty for all of them; none for any other path, or one that is not written plainly.
fn server_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(ALL)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let named = |server: &&str| !server.is_empty() && server.bytes().all(plain);
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/').filter(named) }
}

/// Every path of one process, as it is written in the router: for who goes through all of them.
pub fn paths() -> Vec<String> {
    let rest = table().into_iter().chain(oauth::table()).chain(admin::reference::table());
    let rest = rest.map(|(path, _)| path.to_owned());
    rest.chain(admin::table().into_iter().map(|route| format!("{}{}", admin::BASE, route.path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_path_of_mcp_goes_past_the_router() {
        assert_eq!(server_of("/mcp"), Some(""));
        assert_eq!(server_of("/mcp/files-2"), Some("files-2"));
        for other in ["/", "/mcp/", "/mcpx", "/mcp/a/b", "/mcp/a%20b", "/mcp/../x", "/sse", "/MCP"] {
            assert_eq!(server_of(other), None, "{other}");
        }
    }
}
