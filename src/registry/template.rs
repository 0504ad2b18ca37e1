//! Which resource template a URI came from. Templates (RFC 6570) are read backwards: what stands between expressions must be
//! found in the URI in order, and an expression fits anything. That is more than a template can make, never less.

/// A resource template, cut at its expressions.
#[derive(Debug, Clone)]
pub struct Template {
    text: Box<str>,
    literals: Box<[Box<str>]>,
}

impl Template {
    /// Cuts `text` at each `{…}`; one that is not closed is taken as it is written.
    pub fn new(text: &str) -> Self {
        let mut literals = Vec::new();
        let mut rest = text;
        while let Some((before, inner)) = rest.split_once('{') {
            let Some((_, after)) = inner.split_once('}') else { break };
            literals.push(before.into());
            rest = after;
        }
        literals.push(rest.into());
        Self { text: text.into(), literals: literals.into() }
    }

    /// The template as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many bytes of `uri` are literally in the template, if it fits.
    pub fn fits(&self, uri: &str) -> Option<usize> {
        let (first, rest) = self.literals.split_first()?;
        let mut left = uri.strip_prefix(&**first)?;
        let mut fit = first.len();
        let Some((last, middle)) = rest.split_last() else { return left.is_empty().then_some(fit) };
        for literal in middle {
            let at = left.find(&**literal)?;
            left = &left[at + literal.len()..];
            fit += literal.len();
        }
        left.ends_with(&**last).then_some(fit + last.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_known_by_what_stands_between_the_expressions() {
        let template = Template::new("test://template/{id}/data");
        assert_eq!(template.fits("test://template/7/data"), Some(21));
        assert_eq!(template.fits("test://template/7/other"), None);
        assert_eq!(template.fits("other://template/7/data"), None);
        assert_eq!(Template::new("file:///{+path}").fits("file:///a/b"), Some(8));
        assert_eq!(Template::new("plain://x").fits("plain://x"), Some(9));
        assert_eq!(Template::new("plain://x").fits("plain://xy"), None);
        assert_eq!(Template::new("a{b").fits("a{b"), Some(3));
    }
}
