//! Names at the endpoint that shows every server: `server__tool`, and a deterministic short form where that would pass the
//! 64 characters that models accept.

use sha2::{Digest as _, Sha256};

/// Longest name that common model APIs accept for a tool.
pub const LONGEST: usize = 64;
/// Between server and tool. A slug never holds it.
pub const BETWEEN: &str = "__";
/// Characters of the digest in a short form: 40 bits.
const DIGEST: usize = 8;

/// The name of a server's tool or prompt at the common endpoint.
pub fn exposed(slug: &str, name: &str) -> String {
    let whole = format!("{slug}{BETWEEN}{name}");
    if whole.chars().count() <= LONGEST {
        return whole;
    }
    // The server stays readable, then as much of the name as fits, then a digest that tells long names apart.
    let digest: String = Sha256::digest(name.as_bytes())
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(base16)
        .take(DIGEST)
        .collect();
    let room = LONGEST - slug.len() - BETWEEN.len() - DIGEST - 1;
    let start: String = name.chars().take(room).collect();
    format!("{slug}{BETWEEN}{start}_{digest}")
}

fn base16(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

/// Server and rest of a name at the common endpoint.
pub fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(BETWEEN).filter(|(slug, rest)| !slug.is_empty() && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_joined_and_split_again() {
        assert_eq!(exposed("git", "status"), "git__status");
        assert_eq!(split("git__status"), Some(("git", "status")));
        assert_eq!(split(&exposed("a-b", "_x__y_")), Some(("a-b", "_x__y_")));
        assert_eq!(split("status"), None);
    }

    #[test]
    fn long_names_get_a_form_that_fits_and_differs() {
        let long = "x".repeat(80);
        let (a, b) = (exposed("server", &long), exposed("server", &format!("{long}y")));
        assert_eq!((a.len(), b.len()), (LONGEST, LONGEST));
        assert_ne!(a, b);
        assert_eq!(a, exposed("server", &long));
        assert_eq!(exposed(&"s".repeat(40), &long).len(), LONGEST);
        assert_eq!(exposed("server", &"é".repeat(80)).chars().count(), LONGEST);
    }
}
