use super::*;

fn read(shown: &Shown<'_>) -> Result<(String, Option<String>), String> {
    match method(shown) {
        Ok(Method::Nothing { id }) => Ok((id.to_owned(), None)),
        Ok(Method::Secret { id, secret, .. }) => Ok((id, Some(secret.expose().to_owned()))),
        Ok(Method::Assertion(assertion)) => Ok((assertion.subject, None)),
        Err(error) => Err(error.to_string()),
    }
}

fn header(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

#[test]
fn a_request_shows_one_proof_or_none() {
    let form = Shown { client_id: Some("app"), ..Shown::default() };
    assert_eq!(read(&form), Ok(("app".into(), None)));
    assert_eq!(read(&Shown { client_secret: Some(""), ..form.clone() }), Ok(("app".into(), None)));
    let with_secret = Shown { client_secret: Some("s"), ..form.clone() };
    assert_eq!(read(&with_secret), Ok(("app".into(), Some("s".into()))));
    let basic = header("https%3A%2F%2Fapp.example%2Fc:a%2Bb+c");
    let in_header = Shown { authorization: Some(&basic), ..Shown::default() };
    assert_eq!(read(&in_header), Ok(("https://app.example/c".into(), Some("a+b c".into()))));
    let own = header("app:s");
    assert!(read(&Shown { authorization: Some(&own), ..form.clone() }).is_ok());

    let both = Shown { authorization: Some(&own), ..with_secret.clone() };
    let assertion = Shown { assertion: Some("a.b.c"), assertion_type: Some(CLIENT_ASSERTION), ..with_secret };
    for (shown, told) in [
        (both, "one proof"),
        (assertion, "one proof"),
        (Shown::default(), "client_id"),
        (Shown { client_id: Some(""), ..Shown::default() }, "client_id"),
        (Shown { authorization: Some(&own), client_id: Some("other"), ..Shown::default() }, "another client"),
        (Shown { assertion: Some("a.b.c"), ..form.clone() }, "client_assertion_type"),
        (Shown { assertion: Some("a.b.c"), assertion_type: Some(CLIENT_ASSERTION), ..form }, "did not prove"),
    ] {
        let refused = read(&shown).unwrap_err();
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn what_is_no_basic_credential_is_told() {
    for bad in ["", "Basic", "Basic !", "Bearer mcpg_x", &header("no colon"), &header("%ff:x"), "Basic /w=="] {
        let shown = Shown { authorization: Some(bad), client_id: Some("app"), ..Shown::default() };
        assert!(read(&shown).unwrap_err().contains("Basic credential"), "{bad}");
    }
}
