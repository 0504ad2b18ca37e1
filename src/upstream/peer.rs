//! What a server speaks: found out by asking, remembered, asked again when the memory turns out wrong
//! (2026-07-28, basic/versioning, "Backward Compatibility").

use bytes::Bytes;

use crate::fault::{Fault, Kind, Retry};
use crate::json;
use crate::protocol::era::{Era, LEGACY, MODERN, Version};
use crate::protocol::message::{self, Message, Shape};
use crate::protocol::meta;

/// What was learned of a server. At least one of the two is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// The answer to `initialize`, if it answers that.
    pub legacy: Option<Legacy>,
    /// The result of `server/discover`, if it speaks a modern version.
    pub modern: Option<Bytes>,
    /// Whether it was asked for a handshake. A modern server that names no legacy version is asked only when a legacy
    /// client comes.
    pub asked: bool,
}

/// A server's answer to `initialize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// The version it chose.
    pub version: Version,
    /// Its result, as written.
    pub result: Bytes,
}

impl Legacy {
    /// See [`Peer::in_common`].
    #[must_use]
    pub fn in_common(self) -> Self {
        Self { result: common(&self.result, "protocolVersion"), ..self }
    }
}

/// The members of an answer that say how it is spoken to.
fn common(answer: &[u8], versions: &str) -> Bytes {
    let member = |name: &str| Some(format!("\"{name}\":{}", String::from_utf8_lossy(json::get(answer, name)?)));
    let members: Vec<String> = [versions, "capabilities"].into_iter().filter_map(member).collect();
    format!("{{{}}}", members.join(",")).into()
}

impl Peer {
    /// The era to speak to it for a client of era `client`: the client's own where the server has it, else the other.
    pub fn era_for(&self, client: Era) -> Era {
        match client {
            Era::Legacy if self.legacy.is_some() => Era::Legacy,
            Era::Legacy | Era::Modern if self.modern.is_some() => Era::Modern,
            Era::Legacy | Era::Modern => Era::Legacy,
        }
    }

    /// Whether a client of era `client` is served in another era, or in another version with a handshake, than by `before`.
    pub fn differs_for(&self, client: Era, before: &Self) -> bool {
        let version = |peer: &Self| peer.legacy.as_ref().map(|legacy| legacy.version);
        let era = self.era_for(client);
        era != before.era_for(client) || era == Era::Legacy && version(self) != version(before)
    }

    /// Whether the modern answer names a version of the legacy era too.
    pub fn names_legacy(discover: &[u8]) -> bool {
        json::elements(json::get(discover, "supportedVersions").unwrap_or_default())
            .filter_map(json::text)
            .any(|version| Version::parse(&version).is_some_and(|version| version.era() == Era::Legacy))
    }

    /// What of it is no matter of who asked: versions and capabilities. The rest may be for one person.
    #[must_use]
    pub fn in_common(self) -> Self {
        let modern = self.modern.map(|discover| common(&discover, "supportedVersions"));
        Self { legacy: self.legacy.map(Legacy::in_common), modern, asked: self.asked }
    }

    /// What an earlier process learned, from the answers it kept; `None` when nothing of it is of use today. An empty answer to
    /// `initialize` stands for a server that was asked for a handshake and has none.
    pub fn recalled(discover: Option<&[u8]>, initialize: Option<&[u8]>) -> Option<Self> {
        let modern =
            discover.filter(|discover| names_ours(json::get(discover, "supportedVersions").unwrap_or_default()));
        let legacy = initialize.and_then(|result| read_initialize(result).ok());
        (modern.is_some() || legacy.is_some()).then(|| Self {
            asked: initialize.is_some(),
            modern: modern.map(Bytes::copy_from_slice),
            legacy,
        })
    }

    /// The newest version it speaks.
    pub fn version(&self) -> Option<Version> {
        if self.modern.is_some() { Some(MODERN) } else { self.legacy.as_ref().map(|legacy| legacy.version) }
    }

    /// What it said of itself in its newest version: capabilities, instructions, name.
    pub fn about(&self) -> &[u8] {
        match (&self.modern, &self.legacy) {
            (Some(discover), _) => discover,
            (None, Some(legacy)) => &legacy.result,
            (None, None) => b"{}",
        }
    }

    /// Whether it declared the capability at this path, such as `["resources", "subscribe"]`.
    pub fn can(&self, path: &[&str]) -> bool {
        json::get(self.about(), "capabilities")
            .and_then(|capabilities| json::path(capabilities, path))
            .is_some_and(|value| !matches!(value, b"false" | b"null"))
    }
}

/// What the answer to a modern probe says of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Probe {
    /// It speaks 2026-07-28.
    Modern(Bytes),
    /// It is modern, but speaks none of our modern versions.
    Strange(String),
    /// It is not modern: go on with `initialize`.
    Legacy,
}

/// The fault of a server that answers `initialize` with an error.
pub fn declined(error: &Message) -> Fault {
    let text = error.text("message").unwrap_or_default();
    Fault::upstream(Kind::Garbage, Retry::NotSent, format!("the server declines: {text}"))
}

/// Whether what came of a request in this era, an HTTP status and the code of its JSON-RPC error if it holds one, or a fault,
/// looks like the answer of a server which does not speak the era: nothing was acted on, and it is worth asking anew what it
/// speaks (2026-07-28, basic/transports/streamable-http, "Backward Compatibility").
pub fn contradicts(era: Era, came: Result<(u16, Option<i64>), &Fault>) -> bool {
    let (status, error) = match came {
        Ok(answer) => answer,
        // A refusal that is no MCP message, or one of the handshake itself.
        Err(Fault { kind: Kind::Status(status), .. }) => (*status, None),
        Err(fault) => return fault.kind == Kind::Garbage && era == Era::Legacy && fault.retry == Retry::NotSent,
    };
    let Some(code) = error.map(|code| i32::try_from(code).unwrap_or_default()) else {
        return matches!(status, 400 | 404 | 405 | 406 | 415);
    };
    match (era, status) {
        (Era::Modern, 400) => !matches!(code, meta::HEADER_MISMATCH | meta::MISSING_CAPABILITY | meta::INVALID_PARAMS),
        (Era::Modern, 404) => code != meta::METHOD_NOT_FOUND,
        // What was sent fits the session in which it was sent, or did when that was opened.
        (Era::Legacy, 400) => true,
        _ => false,
    }
}

impl Probe {
    /// What it found of the modern era; a server that is too new for this gateway is a fault.
    pub fn modern(self) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Modern(result) => Ok(Some(result)),
            Self::Legacy => Ok(None),
            Self::Strange(versions) => {
                let text = format!("the server speaks only {versions}, which this gateway does not");
                Err(Fault::upstream(Kind::Garbage, Retry::MaybeSent, text))
            }
        }
    }
}

/// Whether a list of versions names the modern one that is spoken here.
fn names_ours(list: &[u8]) -> bool {
    json::elements(list).any(|version| json::text(version).as_deref() == Some(MODERN.as_str()))
}

/// Reads the answer to `server/discover`.
pub fn read_probe(answer: &Message) -> Probe {
    let Some(body) = answer.body() else { return Probe::Legacy };
    if answer.shape() == Shape::Result {
        return match json::get(body, "supportedVersions") {
            Some(list) if names_ours(list) => Probe::Modern(Bytes::copy_from_slice(body)),
            Some(list) => Probe::Strange(String::from_utf8_lossy(list).into_owned()),
            None => Probe::Legacy,
        };
    }
    match answer.error_code().map(i32::try_from) {
        Some(Ok(meta::UNSUPPORTED_VERSION)) => {
            let list = json::path(body, &["data", "supported"]).unwrap_or_default();
            let legacy = json::elements(list)
                .filter_map(json::text)
                .any(|version| Version::parse(&version).is_some_and(|version| version.era() == Era::Legacy));
            if legacy { Probe::Legacy } else { Probe::Strange(String::from_utf8_lossy(list).into_owned()) }
        }
        _ => Probe::Legacy,
    }
}

/// Reads the result of `initialize`; an unknown version is an error that names it.
pub fn read_initialize(result: &[u8]) -> Result<Legacy, String> {
    let version = json::get_text(result, "protocolVersion").unwrap_or_default();
    match Version::parse(&version) {
        Some(version) if version.era() == Era::Legacy => Ok(Legacy { version, result: Bytes::copy_from_slice(result) }),
        _ => Err(format!("the server chose protocol version `{version}`, which this gateway does not speak")),
    }
}

/// What the gateway says of itself as a client.
fn client_info() -> String {
    format!(r#"{{"name":"mcp-registry-gateway","version":"{}"}}"#, env!("CARGO_PKG_VERSION"))
}

/// The parameters of `initialize` when the gateway itself opens a session. Without capabilities the server must not ask
/// anything of a client that may not be there.
pub fn initialize_params(capabilities: &str) -> String {
    format!(r#"{{"protocolVersion":"{LEGACY}","capabilities":{capabilities},"clientInfo":{}}}"#, client_info())
}

/// The `_meta` of a modern request that the gateway itself makes.
pub fn modern_meta() -> String {
    format!(
        r#"{{"{}":"{MODERN}","{}":{},"{}":{{}}}}"#,
        meta::PROTOCOL_VERSION,
        meta::CLIENT_INFO,
        client_info(),
        meta::CLIENT_CAPABILITIES
    )
}

/// A modern request of the gateway's own; `params` is a JSON object without `_meta`.
pub fn modern_request(id: &str, method: &str, params: &str) -> Bytes {
    let rest = params.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().trim();
    let comma = if rest.is_empty() { "" } else { "," };
    let params = format!(r#"{{"_meta":{}{comma}{rest}}}"#, modern_meta());
    message::call(Some(json::quote(id).as_bytes()), method, params.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(text: &str) -> Probe {
        read_probe(&Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap())
    }

    #[test]
    fn only_a_modern_answer_makes_a_modern_server() {
        assert!(matches!(
            probe(r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}"#),
            Probe::Modern(_)
        ));
        assert_eq!(probe(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"x"}}"#), Probe::Legacy);
        assert_eq!(probe(r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no session"}}"#), Probe::Legacy);
        assert_eq!(probe(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Probe::Legacy);
        let unsupported = |list: &str| {
            probe(&format!(
                r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32022,"message":"x","data":{{"supported":{list}}}}}}}"#
            ))
        };
        assert_eq!(unsupported(r#"["2025-11-25"]"#), Probe::Legacy);
        assert!(matches!(unsupported(r#"["2031-01-01"]"#), Probe::Strange(_)));
    }

    #[test]
    fn a_client_is_served_in_its_own_era_where_that_is_possible() {
        let legacy = Some(Legacy { version: LEGACY, result: Bytes::new() });
        let modern = Some(Bytes::new());
        let dual = Peer { legacy: legacy.clone(), modern: modern.clone(), asked: true };
        assert_eq!((dual.era_for(Era::Legacy), dual.era_for(Era::Modern)), (Era::Legacy, Era::Modern));
        let old = Peer { legacy, modern: None, asked: true };
        assert_eq!((old.era_for(Era::Legacy), old.era_for(Era::Modern)), (Era::Legacy, Era::Legacy));
        let new = Peer { legacy: None, modern, asked: true };
        assert_eq!((new.era_for(Era::Legacy), new.era_for(Era::Modern)), (Era::Modern, Era::Modern));
    }

    #[test]
    fn what_was_kept_is_of_use_only_where_it_names_a_version_spoken_today() {
        let discover = br#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#;
        let initialize = br#"{"protocolVersion":"2025-06-18","capabilities":{}}"#;
        let both = Peer::recalled(Some(discover), Some(initialize)).unwrap();
        assert_eq!(
            (both.asked, both.version(), both.legacy.unwrap().version.as_str()),
            (true, Some(MODERN), "2025-06-18")
        );
        let new = Peer::recalled(Some(discover), None).unwrap();
        assert_eq!((new.asked, new.legacy), (false, None));
        assert!(Peer::recalled(Some(discover), Some(b"")).unwrap().asked);
        for (discover, initialize) in [
            (None, None),
            (None, Some(&b""[..])),
            (Some(&br#"{"supportedVersions":["2031-01-01"]}"#[..]), None),
            (Some(b"garbage"), Some(br#"{"protocolVersion":"1999-01-01"}"#)),
        ] {
            assert_eq!(Peer::recalled(discover, initialize), None);
        }
    }

    #[test]
    fn what_was_said_to_one_person_alone_is_not_kept() {
        let result = br#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"instructions":"for Ann","serverInfo":{"name":"s"}}"#;
        let discover = br#"{"supportedVersions":["2026-07-28"],"instructions":"for Ann","capabilities":{"tools":{}}}"#;
        let peer =
            Peer { legacy: read_initialize(result).ok(), modern: Some(Bytes::from_static(discover)), asked: true };
        let common = peer.clone().in_common();
        assert_eq!(common.version(), peer.version());
        assert!(common.can(&["tools"]) && !common.can(&["prompts"]));
        assert_eq!(
            common.modern.as_deref(),
            Some(&br#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#[..])
        );
        assert_eq!(common.legacy.unwrap().result, r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}}}"#);
    }

    #[test]
    fn only_an_answer_of_the_other_era_casts_doubt() {
        for (status, error) in
            [(400, None), (404, None), (405, None), (400, Some(-32022)), (400, Some(-32000)), (404, Some(-32001))]
        {
            assert!(contradicts(Era::Modern, Ok((status, error))), "{status} {error:?}");
        }
        for (status, error) in [
            (200, None),
            (200, Some(-32000)),
            (400, Some(-32020)),
            (400, Some(-32021)),
            (400, Some(-32602)),
            (404, Some(-32601)),
            (500, None),
            (429, None),
        ] {
            assert!(!contradicts(Era::Modern, Ok((status, error))), "{status} {error:?}");
        }
        for (status, error, doubt) in [
            (405, None, true),
            (400, Some(-32020), true),
            (400, Some(-32022), true),
            (400, Some(-32000), true),
            (404, Some(-32001), false),
        ] {
            assert_eq!(contradicts(Era::Legacy, Ok((status, error))), doubt, "{status} {error:?}");
        }
    }

    #[test]
    fn so_does_a_refusal_that_is_no_message_or_of_the_handshake() {
        let declined = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"no"}}"#;
        let declined = super::declined(&Message::parse(Bytes::from_static(declined)).unwrap());
        let fault = |kind, retry| Fault::upstream(kind, retry, "");
        for (fault, doubts) in [
            (declined, [true, false]),
            (fault(Kind::Status(404), Retry::NotSent), [true, true]),
            (fault(Kind::Status(503), Retry::MaybeSent), [false, false]),
            (fault(Kind::Garbage, Retry::MaybeSent), [false, false]),
            (fault(Kind::Unreachable, Retry::NotSent), [false, false]),
        ] {
            assert_eq!([Era::Legacy, Era::Modern].map(|era| contradicts(era, Err(&fault))), doubts, "{fault:?}");
        }
    }

    #[test]
    fn requests_of_our_own_are_messages() {
        for params in ["{}", r#"{"cursor":"a}"}"#, r#"{"a":{"b":{}}}"#] {
            let message = Message::parse(modern_request("x", "tools/list", params)).unwrap();
            assert_eq!(message.meta(meta::PROTOCOL_VERSION), Some(format!("\"{MODERN}\"").as_bytes()));
        }
    }
}
