//! The paths of the resources that a token can be for (RFC 8707): each is a resource of its own, and a token for one opens no
//! other.

use std::fmt;

/// The path of a resource below the public URL. Comparing it with a text allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening<'a> {
    /// `/mcp`: everything that the caller sees.
    All,
    /// `/mcp/{server}`: one server.
    One(&'a str),
    /// `/api/v1`: the REST API.
    Api,
}

impl<'a> Opening<'a> {
    /// `/mcp/{server}`, or `/mcp` without a server.
    pub fn of(server: Option<&'a str>) -> Self {
        server.map_or(Self::All, Self::One)
    }

    /// Whether `path` is its path.
    pub fn is(self, path: &str) -> bool {
        match self {
            Self::All => path == "/mcp",
            Self::One(server) => path.strip_prefix("/mcp/") == Some(server),
            Self::Api => path == "/api/v1",
        }
    }

    /// The path of the same resource at the older transport: `/sse`, `/sse/{server}`.
    pub fn older(self) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            Self::One(server) => write!(f, "/sse/{server}"),
            _ => f.write_str("/sse"),
        })
    }

    /// The scopes that open it: what a client is told to ask for.
    pub fn scope(self) -> &'static str {
        match self {
            Self::All | Self::One(_) => "mcp",
            Self::Api => "admin",
        }
    }
}

impl fmt::Display for Opening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("/mcp"),
            Self::One(server) => write!(f, "/mcp/{server}"),
            Self::Api => f.write_str("/api/v1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_is_written() {
        for opening in [Opening::All, Opening::One("git"), Opening::Api] {
            assert!(opening.is(&opening.to_string()));
        }
        for path in ["/mcp/", "/mcp", "/mcp/gi", "/mcp/git/", "/mcp/git/x", "mcp/git", ""] {
            assert!(!Opening::One("git").is(path), "{path}");
        }
        assert!(!Opening::All.is("/mcp/"));
    }
}
