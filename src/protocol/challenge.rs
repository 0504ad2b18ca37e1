//! What a server wants to see, as it says with 401 or 403 (`WWW-Authenticate`, RFC 9110 section 11.6.1): the parameters of its
//! first challenge for a bearer token (RFC 6750 section 3).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// Longest value that is read, bytes.
const LONGEST: usize = 8 << 10;

/// The parameters of a challenge, names in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Challenge(Vec<(String, String)>);

impl Challenge {
    /// The first one for a bearer token.
    pub fn bearer(headers: &HeaderMap) -> Option<Self> {
        let said = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        said.filter(|text| text.len() <= LONGEST).find_map(first)
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

fn first(text: &str) -> Option<Challenge> {
    let (mut rest, mut found) = (text, None::<Challenge>);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, behind) = rest.split_at(rest.find(|c| !is_of_token(c)).unwrap_or(rest.len()));
        if word.is_empty() {
            return found;
        }
        rest = behind.trim_start_matches([' ', '\t']);
        let Some(value) = rest.strip_prefix('=').filter(|rest| !rest.starts_with('=')) else {
            // A scheme, and with it the next challenge; what of some schemes follows it is passed over as words.
            if found.is_some() {
                return found;
            }
            found = word.eq_ignore_ascii_case("Bearer").then(Challenge::default);
            rest = rest.trim_start_matches('=');
            continue;
        };
        let (value, behind) = value_of(value.trim_start_matches([' ', '\t']))?;
        rest = behind;
        if let Some(Challenge(parameters)) = &mut found {
            parameters.push((word.to_ascii_lowercase(), value));
        }
    }
}

/// A value and what stands behind it; none where its quotes do not end.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, behind) = text.split_at(text.find(|c| !is_of_token(c)).unwrap_or(text.len()));
        return Some((word.to_owned(), behind));
    };
    let (mut value, mut letters) = (String::new(), quoted.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    None
}

/// Letters of a token (RFC 9110 section 5.6.2), and those that URLs without quotes hold besides.
fn is_of_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/?@".contains(letter)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::bearer(&headers)
    }

    #[test]
    fn the_parameters_of_the_first_bearer_challenge_are_read() {
        let both = read(&[
            "Negotiate a87421000492aa8==, Basic realm=\"a, Bearer scope=\\\"x\\\"\"",
            "bearer Resource_Metadata=\"https://a.example/x\", scope = \"a b\", error=invalid_token, DPoP algs=\"ES256\"",
        ])
        .unwrap();
        assert_eq!(both.get("resource_metadata"), Some("https://a.example/x"));
        assert_eq!((both.get("scope"), both.get("error")), (Some("a b"), Some("invalid_token")));
        assert_eq!(both.get("algs"), None, "of another challenge");
        assert_eq!(read(&["Bearer"]), Some(Challenge::default()));
        assert_eq!(read(&["Bearer x=\"a\\\"b\""]).unwrap().get("x"), Some("a\"b"));
        for none in [&[][..], &["Basic realm=\"Bearer\""], &["Bearer x=\"no end"], &["=", ","]] {
            assert_eq!(read(none), None, "{none:?}");
        }
    }
}
