//! Which step comes next in an attempt, and what it means that it never came. An attempt that stopped without an error has no
//! other trouble to show than this.

use super::Step;

/// The step that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// Its name.
    pub step: &'static str,
    /// What never happened, once nobody waits any longer.
    pub what: String,
}

/// What comes after these steps; `None` where the attempt is over.
pub fn awaited(steps: &[Step]) -> Option<Awaited> {
    let last = steps.iter().rev().find(|step| step.ok)?;
    let (step, what) = match last.name.as_str() {
        "challenge" => ("metadata", "the program never asked where to sign in"),
        "metadata" | "register" => ("authorize", "the program never sent a browser to sign in"),
        "authorize" => ("client", "the gateway did not come to look at the program: it may have been stopped"),
        "client" | "request" => ("consent", "the person never answered the page that was shown"),
        "asked" => ("consent", "the person never answered the page that asks for consent"),
        "sign_in" => ("account", "the person never signed in"),
        "consent" => ("account", "the person agreed and never signed in"),
        "provider" => {
            let what = format!("the browser never came back; it was {}", last.detail);
            return Some(Awaited { step: "callback", what });
        }
        "callback" | "account" => ("code", "the gateway did not come to give a code: it may have been stopped"),
        "code" => ("token", "the program never fetched a token for its code, which is good for a minute"),
        "token" => ("call", "the program has its token and never called with it"),
        _ => return None,
    };
    Some(Awaited { step, what: what.to_owned() })
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn what_is_missing_follows_from_the_last_step_that_went_well() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let good = |name| Step::good(name, "sent to Microsoft Entra ID (login.example)", now);
        let missing = |steps: &[Step]| awaited(steps).map(|awaited| (awaited.step, awaited.what));
        for (last, step) in [
            ("challenge", "metadata"),
            ("register", "authorize"),
            ("request", "consent"),
            ("consent", "account"),
            ("code", "token"),
            ("token", "call"),
        ] {
            assert_eq!(missing(&[good("authorize"), good(last)]).unwrap().0, step);
        }
        let provider = [good("consent"), good("provider"), Step::bad("callback", "other_browser", "", now)];
        let (step, what) = missing(&provider).unwrap();
        assert_eq!(step, "callback");
        assert!(what.contains("never came back; it was sent to Microsoft Entra ID"), "{what}");
        assert_eq!(missing(&[]), None);
        assert_eq!(missing(&[good("token"), good("call")]), None);
    }
}
