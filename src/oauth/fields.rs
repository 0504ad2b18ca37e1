//! What a form or a query holds, as `application/x-www-form-urlencoded`. A parameter that comes twice is not read at all, because
//! another reader may take the other one (RFC 6749 section 3.1); an empty one is as good as absent.

use axum::extract::FromRequest;
use axum::extract::Request;

use super::failure::Failure;
use super::form::{LARGEST, is_form};
use crate::app::App;
use crate::web::body;

/// Fields in their order.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

/// A parameter that is there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubled;

impl Fields {
    /// Reads a text.
    pub(super) fn of(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Every value of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The value of a name, if there is one.
    pub(super) fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Doubled> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Doubled),
        }
    }

    /// The only value of a name; empty when there is none or more than one.
    pub(super) fn text(&self, name: &str) -> &str {
        let mut values = self.0.iter().filter(|(field, _)| field == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => value,
            _ => "",
        }
    }
}

impl FromRequest<App> for Fields {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &App) -> Result<Self, Failure> {
        if !is_form(request.headers()) {
            return Err(Failure::bad("This is not a form", "The address takes the form of a page of this gateway."));
        }
        match body::read_at_most(request.into_body(), LARGEST).await {
            Ok(text) => Ok(Self::of(&text)),
            Err(_) => Err(Failure::bad(
                "The form did not arrive",
                "It was cut off or is too large. Go back and send it again.",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_once_or_not_at_all() {
        let fields = Fields::of(b"a=1&b=x+y%26&c=&a=2&d=%C3%A9");
        assert_eq!(fields.one("a"), Err(Doubled));
        assert_eq!(fields.text("a"), "");
        assert_eq!(fields.one("b"), Ok(Some("x y&")));
        assert_eq!(fields.one("c"), Ok(None), "empty is absent");
        assert_eq!((fields.text("d"), fields.text("e")), ("é", ""));
        assert_eq!(fields.all("a").collect::<Vec<_>>(), ["1", "2"]);
    }
}
