//! A browser that asks for a page: its cookies, how it came here, and the request's name for the page and the log.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::back::see_other;
use super::cookies::Cookies;
use crate::app::App;
use crate::grants::resource::{Issuer, other_loopback};
use crate::grants::{AUTHORIZATION_LASTS, Begun, shown_client};
use crate::telemetry::{Event, RequestId};
use crate::web::{Source, Visit};

/// See the module.
pub(super) struct Visitor {
    /// The gateway.
    pub(super) app: App,
    /// The browser's cookies.
    pub(super) cookies: Cookies,
    /// Whether the browser says that no page of another site sent it here (`Sec-Fetch-Site`, Fetch Metadata section 2.2): the person
    /// typed or opened the address, or came from a page of this site.
    pub(super) unsent: bool,
    /// The request's name.
    pub(super) request_id: RequestId,
    /// Where it comes from.
    pub(super) address: IpAddr,
}

impl Visitor {
    /// What is kept of somebody who did not get in, as far as it is known where to: by which client, and in which tenant.
    pub(super) fn turned_away(&self, client: Option<&str>, tenant: Option<&str>, reason: &'static str) -> Event {
        Event {
            tenant: tenant.map(Into::into),
            client: client.map(|id| shown_client(id).into()),
            reason: Some(reason.into()),
            address: Some(self.address),
            request_id: Some(self.request_id.clone()),
            ..Event::new("auth.login", false)
        }
    }

    /// An answer that gives the browser the cookie of a sign-in that was begun.
    pub(super) fn with_cookie(&self, begun: &Begun, mut response: Response) -> Response {
        for cookie in self.cookies.begin(begun.id, begun.cookie.expose(), AUTHORIZATION_LASTS) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }
}

impl FromRequestParts<App> for Visitor {
    /// On to the gateway's own address, or that it is no page that is asked for.
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        if let Some(url) = at_home(parts, &app.issuer) {
            return Err(see_other(&url));
        }
        if !is_page(&parts.headers) {
            return Err(
                (StatusCode::BAD_REQUEST, "this is a page, to be opened in a window of its own\n").into_response()
            );
        }
        Ok(Self {
            app: app.clone(),
            cookies: Cookies::of(&parts.headers, &app.issuer),
            unsent: unsent(&parts.headers),
            request_id: parts.extensions.get::<Visit>().map_or_else(RequestId::default, |v| v.request_id.clone()),
            address: Source::of(&parts.extensions).0,
        })
    }
}

/// Whether a page is asked for, and no image or the like of another one (`Sec-Fetch-Dest`, Fetch Metadata section 2.1): else any site
/// could begin sign-ins in the name of whoever looks at it. Older browsers and programs say nothing.
fn is_page(headers: &HeaderMap) -> bool {
    headers.get_all("sec-fetch-dest").iter().all(|dest| dest == "document")
}

fn unsent(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let site = sites.next().map(HeaderValue::as_bytes);
    sites.next().is_none() && matches!(site, Some(b"none" | b"same-origin" | b"same-site"))
}

/// The gateway's own address of a page that was opened under another name of the same machine (`localhost`, `127.0.0.1`): cookies of
/// one name are unknown under the other, and what is sent back comes to the gateway's own.
fn at_home(parts: &Parts, issuer: &Issuer) -> Option<String> {
    if parts.method != Method::GET {
        return None;
    }
    let host = parts.headers.get(http::header::HOST)?.to_str().ok()?;
    let path = parts.uri.path_and_query()?;
    other_loopback(issuer, host).then(|| format!("{}{path}", issuer.origin()))
}
