//! The way back to the client with its code. A browser that is sent to a web page shows that page; one that is sent to a program of
//! the person's computer shows nothing new, so the gateway says that all went well, and opens the program.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use super::back::see_other;
use super::pages::{Frame, show};
use super::visitor::Visitor;
use crate::grants::Request;
use crate::grants::redirect::{Place, RedirectUri};

#[derive(Template)]
#[template(path = "handed.html")]
struct Page<'a> {
    frame: Frame<'a>,
    name: &'a str,
    /// Opens the program.
    url: &'a str,
}

/// Sends the browser to `url`, the redirect URI of the request with its answer.
pub(super) fn over(visitor: &Visitor, request: &Request, url: &str) -> Response {
    let place = RedirectUri::parse(&request.redirect_uri, visitor.app.clients.schemes()).map(|uri| uri.place());
    if place != Ok(Place::App) {
        return see_other(url);
    }
    let name = request.client_name.as_deref().unwrap_or("the program");
    show(&Page { frame: Frame::of(&visitor.app), name, url }, StatusCode::OK, "'none'")
}
