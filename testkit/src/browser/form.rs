//! Forms in HTML: where they go, what is in them, and what they become when they are sent.

use html5gum::{StartTag, Token, Tokenizer};
use http::Method;

/// A form of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Where it goes, as the page says it; empty is the page itself.
    pub action: String,
    /// How.
    pub method: Method,
    /// Its fields with what they hold; unticked boxes are not among them.
    pub fields: Vec<(String, String)>,
    /// Its buttons that have a name, and the boxes that are not ticked: sent only when they are chosen.
    pub choices: Vec<(String, String)>,
}

fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    tag.attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
}

impl Form {
    /// All forms of a page, in order.
    pub fn all(html: &str) -> Vec<Self> {
        let mut forms: Vec<Self> = Vec::new();
        let mut open = false;
        // The select or the text area that is open.
        let (mut select, mut area): (Option<String>, Option<String>) = (None, None);
        for Ok(token) in Tokenizer::new(html) {
            match token {
                Token::StartTag(tag) if &**tag.name == b"form" => {
                    let post = attribute(&tag, "method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
                    let method = if post { Method::POST } else { Method::GET };
                    let action = attribute(&tag, "action").unwrap_or_default();
                    forms.push(Self { action, method, fields: Vec::new(), choices: Vec::new() });
                    open = true;
                }
                Token::StartTag(tag) if open => {
                    let Some(form) = forms.last_mut() else { continue };
                    match &**tag.name {
                        b"input" => form.input(&tag),
                        b"button" => form.choose(&tag),
                        b"select" => select = attribute(&tag, "name"),
                        b"textarea" => area = attribute(&tag, "name"),
                        b"option" => form.option(&tag, select.as_deref()),
                        _ => {}
                    }
                }
                Token::EndTag(tag) => match &**tag.name {
                    b"form" => open = false,
                    b"select" => select = None,
                    b"textarea" => area = None,
                    _ => {}
                },
                Token::String(text) => {
                    if let (Some(name), Some(form)) = (area.take(), forms.last_mut()) {
                        form.fields.push((name, String::from_utf8_lossy(&text).into_owned()));
                    }
                }
                _ => {}
            }
        }
        forms
    }

    fn input(&mut self, tag: &StartTag<()>) {
        let kind = attribute(tag, "type").unwrap_or_default().to_ascii_lowercase();
        match kind.as_str() {
            "submit" | "image" | "button" | "reset" => self.choose(tag),
            "checkbox" | "radio" if attribute(tag, "checked").is_none() => self.choose(tag),
            _ => {
                let usual = if matches!(kind.as_str(), "checkbox" | "radio") { "on" } else { "" };
                if let Some(name) = attribute(tag, "name") {
                    self.fields.push((name, attribute(tag, "value").unwrap_or_else(|| usual.to_owned())));
                }
            }
        }
    }

    fn choose(&mut self, tag: &StartTag<()>) {
        if let Some(name) = attribute(tag, "name") {
            self.choices.push((name, attribute(tag, "value").unwrap_or_default()));
        }
    }

    fn option(&mut self, tag: &StartTag<()>, select: Option<&str>) {
        let Some(name) = select else { return };
        let value = attribute(tag, "value").unwrap_or_default();
        let held = self.fields.iter_mut().find(|(field, _)| field == name);
        match held {
            None => self.fields.push((name.to_owned(), value)), // the first is the one that shows
            Some(held) if attribute(tag, "selected").is_some() => held.1 = value,
            Some(_) => {}
        }
    }

    /// Whether it has a field or a choice of this name.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().chain(&self.choices).any(|(field, _)| field == name)
    }

    /// What a field holds.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The same form with these values: in its fields where it has them, added where not.
    #[must_use]
    pub fn filled(&self, values: &[(&str, &str)]) -> Self {
        let mut filled = self.clone();
        for (name, value) in values {
            match filled.fields.iter_mut().find(|(field, _)| field == name) {
                Some(field) => (*value).clone_into(&mut field.1),
                None => filled.fields.push(((*name).to_owned(), (*value).to_owned())),
            }
        }
        filled
    }

    /// The same form without a field: a test of what is missing.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut less = self.clone();
        less.fields.retain(|(field, _)| field != name);
        less
    }

    /// What is sent.
    pub fn encoded(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.fields).finish()
    }
}

/// What a person reads of a page: its text, one space between words, no styles and no scripts.
pub fn text_of(html: &str) -> String {
    let mut text = String::new();
    let mut hidden = false;
    for Ok(token) in Tokenizer::new(html) {
        match token {
            Token::StartTag(tag) => {
                hidden |= matches!(&**tag.name, b"style" | b"script");
                text.push(' ');
            }
            Token::EndTag(tag) => {
                hidden &= !matches!(&**tag.name, b"style" | b"script");
                text.push(' ');
            }
            Token::String(piece) if !hidden => text.push_str(&String::from_utf8_lossy(&piece)),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<!doctype html><title>One</title><style>p{}</style><p>Two &amp; three</p>
        <form method=post action="/go?a=1&amp;b=2"><input type=hidden name=csrf value="t&quot;k"><input name="who">
        <input type=checkbox name=keep checked><input type=checkbox name=all value=yes>
        <select name=role><option value=user><option value=admin selected></select><textarea name=why>because</textarea>
        <button name=decision value=allow>Allow</button><button name=decision value=deny>Deny</button></form>
        <form action="search"><input name="q" value="x y"></form>"#;

    #[test]
    fn forms_are_read_as_a_browser_reads_them() {
        let [first, second] = &Form::all(PAGE)[..] else { panic!("two forms") };
        assert_eq!((first.action.as_str(), &first.method), ("/go?a=1&b=2", &Method::POST));
        let held = ["csrf", "who", "keep", "role", "why"].map(|name| first.field(name).unwrap());
        assert_eq!(held, ["t\"k", "", "on", "admin", "because"]);
        assert!(first.has("decision") && first.field("decision").is_none());
        assert_eq!((&second.method, second.encoded().as_str()), (&Method::GET, "q=x+y"));
    }

    #[test]
    fn values_go_over_a_forms_own_and_a_pressed_button_is_sent() {
        let form = &Form::all(PAGE)[0];
        let sent = form.without("why").filled(&[("who", "ann & bob"), ("decision", "allow")]).encoded();
        assert_eq!(sent, "csrf=t%22k&who=ann+%26+bob&keep=on&role=admin&decision=allow");
    }

    #[test]
    fn the_text_of_a_page_has_neither_tags_nor_styles() {
        assert_eq!(text_of(PAGE), "One Two & three because Allow Deny");
    }
}
