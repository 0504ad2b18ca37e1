//! Cookies as browsers keep them (RFC 6265bis): by host, whatever the port; `Secure`, `Path` and the two prefixes are
//! honoured. A cookie that asks for a domain is kept for its host only, and one that ends is gone at once.

use cookie::{Cookie, SameSite};
use http::{HeaderMap, header::SET_COOKIE};
use url::Url;

/// The cookies of one browser.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    kept: Vec<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    host: String,
    path: String,
    cookie: Cookie<'static>,
}

impl Jar {
    /// The names of the cookies.
    pub fn names(&self) -> Vec<&str> {
        self.kept.iter().map(|kept| kept.cookie.name()).collect()
    }

    /// A cookie's value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.kept.iter().find(|kept| kept.cookie.name() == name).map(|kept| kept.cookie.value())
    }

    /// The cookie as it was set: its attributes are what a test of them looks at.
    pub fn cookie(&self, name: &str) -> Option<&Cookie<'static>> {
        self.kept.iter().find(|kept| kept.cookie.name() == name).map(|kept| &kept.cookie)
    }

    /// Whether the cookie is kept from scripts and from other sites' posts.
    pub fn is_guarded(&self, name: &str) -> bool {
        let guarded = |cookie: &Cookie<'_>| {
            cookie.http_only() == Some(true) && matches!(cookie.same_site(), Some(SameSite::Lax | SameSite::Strict))
        };
        self.cookie(name).is_some_and(guarded)
    }

    /// Puts one of these names aside, as a person does who clears it.
    pub fn forget(&mut self, name: &str) {
        self.kept.retain(|kept| kept.cookie.name() != name);
    }

    /// Keeps what an answer from this address sets.
    pub fn take(&mut self, url: &Url, headers: &HeaderMap) {
        for value in headers.get_all(SET_COOKIE) {
            let Some(cookie) = value.to_str().ok().and_then(|text| Cookie::parse(text.to_owned()).ok()) else {
                continue;
            };
            self.set(url, cookie);
        }
    }

    fn set(&mut self, url: &Url, cookie: Cookie<'static>) {
        let secure = cookie.secure() == Some(true);
        let name = cookie.name().to_ascii_lowercase();
        let host_only = cookie.domain().is_none() && cookie.path() == Some("/");
        let refused = (secure || name.starts_with("__secure-") || name.starts_with("__host-"))
            && url.scheme() != "https"
            || (name.starts_with("__secure-") && !secure)
            || (name.starts_with("__host-") && !(secure && host_only));
        if refused {
            return;
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let path = match cookie.path() {
            Some(path) if path.starts_with('/') => path.to_owned(),
            _ => folder(url.path()).to_owned(),
        };
        self.kept.retain(|kept| !(kept.cookie.name() == cookie.name() && kept.host == host && kept.path == path));
        let ended = cookie.max_age().is_some_and(|age| !age.is_positive())
            || cookie.expires_datetime().is_some_and(|end| end <= cookie::time::OffsetDateTime::now_utc());
        if !ended {
            self.kept.push(Kept { host, path, cookie });
        }
    }

    /// The `Cookie` header of a request to this address.
    pub fn header(&self, url: &Url) -> Option<String> {
        let sent = |kept: &&Kept| {
            kept.host == url.host_str().unwrap_or_default()
                && is_under(url.path(), &kept.path)
                && (kept.cookie.secure() != Some(true) || url.scheme() == "https")
        };
        let pairs: Vec<_> = self.kept.iter().filter(sent).map(|kept| kept.cookie.stripped().to_string()).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// The default path of a cookie: the folder of where it was set.
fn folder(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

fn is_under(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| of.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(at: &str, set: &[&str]) -> Jar {
        let mut headers = HeaderMap::new();
        for text in set {
            headers.append(SET_COOKIE, text.parse().unwrap());
        }
        let mut jar = Jar::default();
        jar.take(&at.parse().unwrap(), &headers);
        jar
    }

    fn sent(jar: &Jar, to: &str) -> String {
        jar.header(&to.parse().unwrap()).unwrap_or_default()
    }

    #[test]
    fn a_secure_cookie_neither_comes_nor_goes_over_plain_http() {
        assert_eq!(jar("http://a.example/", &["x=1; Secure"]).names(), [""; 0]);
        let kept = jar("https://a.example/", &["x=1; Secure"]);
        assert_eq!(sent(&kept, "https://a.example/"), "x=1");
        assert_eq!(sent(&kept, "http://a.example/"), "");
    }

    #[test]
    fn the_host_prefix_is_kept_only_with_all_that_it_promises() {
        let wrong = [
            "__Host-a=1",
            "__Host-b=1; Secure",
            "__Host-c=1; Secure; Path=/x",
            "__Host-d=1; Secure; Path=/; Domain=a.example",
            "__Secure-e=1",
        ];
        assert_eq!(jar("https://a.example/", &wrong).names(), [""; 0]);
        assert_eq!(jar("http://a.example/", &["__Host-a=1; Secure; Path=/"]).names(), [""; 0]);
        assert_eq!(jar("https://a.example/", &["__Host-a=1; Secure; Path=/"]).names(), ["__Host-a"]);
    }

    #[test]
    fn a_path_is_a_folder_and_a_port_is_no_boundary() {
        let kept = jar("http://a.example:1/one/two", &["x=1; Path=/one", "y=2"]);
        assert_eq!(sent(&kept, "http://a.example:2/one/three"), "x=1; y=2");
        assert_eq!(sent(&kept, "http://a.example:2/onetwo"), "");
        assert_eq!(sent(&kept, "http://b.example/one"), "");
    }

    #[test]
    fn a_cookie_that_ends_is_gone() {
        let mut kept = jar(
            "http://a.example/",
            &["x=1; Path=/", "y=2; Path=/; Max-Age=0", "z=3; Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
        );
        assert_eq!(kept.names(), ["x"]);
        kept.set(&"http://a.example/".parse().unwrap(), Cookie::parse("x=; Path=/; Max-Age=0").unwrap());
        assert_eq!(kept.names(), [""; 0]);
    }
}
