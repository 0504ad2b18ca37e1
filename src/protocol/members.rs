//! Members put into a message as it passes, which stays as it was written but for them.

use bytes::Bytes;

use crate::json;
use crate::protocol::message::Message;

/// `message` with these members in its `_meta`, first, and in place of what stands there under their names.
pub fn with_meta(message: &Message, said: &[(&str, &[u8])]) -> Bytes {
    let held = message.member("_meta");
    let mut members = Vec::with_capacity(256 + held.map_or(0, <[u8]>::len));
    for (name, value) in said {
        put(&mut members, name.as_bytes(), value);
    }
    for (name, value) in json::members(held.unwrap_or_default()) {
        if !said.iter().any(|(known, _)| json::is_name(name, known)) {
            put(&mut members, name, value);
        }
    }
    let object = [b"{", &members[..], b"}"].concat();
    let whole = message.bytes();
    match (held, message.body()) {
        (Some(held), _) => message.splice(&[(held, &object)]),
        (None, params) => {
            let object = String::from_utf8_lossy(&object);
            match params {
                Some(params) => insert(whole, params, &format!("\"_meta\":{object}")),
                None => insert(whole, whole, &format!("\"params\":{{\"_meta\":{object}}}")),
            }
        }
    }
}

/// One more member of an object, its name as written.
pub fn put(members: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    members.extend_from_slice(if members.is_empty() { b"\"" } else { b",\"" });
    members.extend_from_slice(name);
    members.extend_from_slice(b"\":");
    members.extend_from_slice(value);
}

/// `whole` with `members` put first into `object`, which is part of it.
pub fn insert(whole: &[u8], object: &[u8], members: &str) -> Bytes {
    let span = json::span(whole, object);
    let brace = span.start + object.iter().position(|byte| *byte == b'{').unwrap_or_default() + 1;
    let comma = if json::members(object).next().is_some() { "," } else { "" };
    json::splice(whole, &[(brace..brace, format!("{members}{comma}").as_bytes())])
}
