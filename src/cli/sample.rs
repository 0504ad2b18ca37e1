//! The sample MCP server that is built into the binary: four small tools, one resource and one prompt over standard input and
//! output. It speaks both eras, as the specification asks of a dual-era server: a request with its version in `_meta` is
//! served statelessly (2026-07-28), `initialize` opens the older way. It keeps no state but whether it was initialised.

use std::io::{BufRead, Read, Write};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The word after the program's name that starts it.
pub const COMMAND: &str = "sample-server";

const MODERN: &str = "2026-07-28";
const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 4 << 20;
const ABOUT: &str = "sample://about";
const ABOUT_TEXT: &str = "This server is built into mcp-gateway. It shows that calls pass through the gateway.";

/// Answers line after line until the input ends.
pub fn run(mut input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
    let mut sample = Sample::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let answer = if line.ends_with(b"\n") || (line.len() as u64) < MAX_LINE {
            sample.answer(&line, OffsetDateTime::now_utc())
        } else {
            input.skip_until(b'\n')?;
            Some(error(&Value::Null, -32600, "the message is longer than 4 MiB", Value::Null))
        };
        if let Some(answer) = answer {
            serde_json::to_writer(&mut output, &answer)?;
            output.write_all(b"\n")?;
            output.flush()?;
        }
    }
}

/// Which way a request is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    Modern,
    Legacy,
}

#[derive(Debug, Default)]
struct Sample {
    initialised: bool,
}

/// A refusal: JSON-RPC code, message, data.
type Refusal = (i64, String, Value);

impl Sample {
    /// The message that answers a line; none for notifications and blank lines.
    fn answer(&mut self, line: &[u8], now: OffsetDateTime) -> Option<Value> {
        if line.trim_ascii().is_empty() {
            return None;
        }
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            return Some(error(&Value::Null, -32700, "not JSON", Value::Null));
        };
        let Some(method) = message["method"].as_str() else {
            return Some(error(&message["id"], -32600, "a request was expected", Value::Null));
        };
        let id = message.get("id")?;
        if !(id.is_string() || id.is_i64() || id.is_u64()) {
            return Some(error(&Value::Null, -32600, "an id is a text or a whole number", Value::Null));
        }
        let params = &message["params"];
        let era = match self.era(method, params) {
            Ok(era) => era,
            Err((code, text, data)) => return Some(error(id, code, &text, data)),
        };
        if method == "subscriptions/listen" && era == Era::Modern {
            // Nothing here ever changes: the subscription is acknowledged as empty, and stays silent until it is cancelled.
            return Some(json!({ "jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {
                "notifications": {}, "_meta": { "io.modelcontextprotocol/subscriptionId": id } } }));
        }
        Some(match self.result(method, params, era, now) {
            Ok(mut result) => {
                if era == Era::Modern {
                    result["resultType"] = "complete".into();
                    result["_meta"] = json!({ "io.modelcontextprotocol/serverInfo": info() });
                    if is_cacheable(method) {
                        result["ttlMs"] = 3_600_000.into();
                        result["cacheScope"] = "public".into();
                    }
                }
                json!({ "jsonrpc": "2.0", "id": id, "result": result })
            }
            Err((code, text, data)) => error(id, code, &text, data),
        })
    }

    fn era(&self, method: &str, params: &Value) -> Result<Era, Refusal> {
        let version = &params["_meta"]["io.modelcontextprotocol/protocolVersion"];
        match version.as_str() {
            Some(MODERN) => Ok(Era::Modern),
            Some(other) => {
                let data =
                    json!({ "supported": [MODERN, LEGACY[0], LEGACY[1], LEGACY[2], LEGACY[3]], "requested": other });
                Err((-32022, "Unsupported protocol version".into(), data))
            }
            None if self.initialised || matches!(method, "initialize" | "ping") => Ok(Era::Legacy),
            None => Err((
                -32602,
                format!("send `initialize` first, or name the protocol version {MODERN} in `_meta`"),
                Value::Null,
            )),
        }
    }

    fn result(&mut self, method: &str, params: &Value, era: Era, now: OffsetDateTime) -> Result<Value, Refusal> {
        match (method, era) {
            ("initialize", Era::Legacy) => {
                self.initialised = true;
                let wanted = params["protocolVersion"].as_str().unwrap_or_default();
                let version = LEGACY.iter().find(|version| **version == wanted).unwrap_or(&LEGACY[0]);
                Ok(json!({ "protocolVersion": version, "capabilities": capabilities(), "serverInfo": info(),
                    "instructions": ABOUT_TEXT }))
            }
            ("ping", Era::Legacy) => Ok(json!({})),
            ("server/discover", Era::Modern) => Ok(json!({ "supportedVersions": [MODERN],
                "capabilities": capabilities(), "instructions": ABOUT_TEXT })),
            ("tools/list", _) => Ok(json!({ "tools": tools() })),
            ("tools/call", _) => call(params, now),
            ("resources/list", _) => {
                Ok(json!({ "resources": [{ "uri": ABOUT, "name": "about", "title": "About this server",
                "description": "What the sample server is for", "mimeType": "text/plain" }] }))
            }
            ("resources/templates/list", _) => Ok(json!({ "resourceTemplates": [] })),
            ("resources/read", _) if params["uri"] == ABOUT => {
                Ok(json!({ "contents": [{ "uri": ABOUT, "mimeType": "text/plain", "text": ABOUT_TEXT }] }))
            }
            ("resources/read", _) => {
                let code = if era == Era::Modern { -32602 } else { -32002 };
                Err((code, "Resource not found".into(), json!({ "uri": params["uri"] })))
            }
            ("prompts/list", _) => Ok(json!({ "prompts": [{ "name": "summarise", "title": "Summarise a text",
                "description": "Asks for a summary in one sentence",
                "arguments": [{ "name": "text", "description": "The text", "required": true }] }] })),
            ("prompts/get", _) => prompt(params),
            _ => Err((-32601, format!("Method not found: {method}"), Value::Null)),
        }
    }
}

fn is_cacheable(method: &str) -> bool {
    method == "server/discover" || method == "resources/read" || method.ends_with("/list")
}

fn info() -> Value {
    json!({ "name": "mcp-gateway-sample", "title": "Sample server", "version": env!("CARGO_PKG_VERSION") })
}

fn capabilities() -> Value {
    json!({ "tools": {}, "resources": {}, "prompts": {} })
}

fn error(id: &Value, code: i64, message: &str, data: Value) -> Value {
    let mut error = json!({ "code": code, "message": message });
    if !data.is_null() {
        error["data"] = data;
    }
    let mut answer = json!({ "jsonrpc": "2.0", "error": error });
    answer["id"] = id.clone();
    answer
}

fn tools() -> Value {
    let reads = json!({ "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false });
    json!([
        { "name": "add", "title": "Add", "description": "Adds two numbers", "annotations": reads,
          "inputSchema": { "type": "object", "required": ["a", "b"],
            "properties": { "a": { "type": "number" }, "b": { "type": "number" } } },
          "outputSchema": { "type": "object", "required": ["sum"], "properties": { "sum": { "type": "number" } } } },
        { "name": "count", "title": "Count", "description": "Counts the characters, words and lines of a text", "annotations": reads,
          "inputSchema": { "type": "object", "required": ["text"], "properties": { "text": { "type": "string" } } },
          "outputSchema": { "type": "object", "required": ["characters", "words", "lines"], "properties": {
            "characters": { "type": "integer" }, "words": { "type": "integer" }, "lines": { "type": "integer" } } } },
        { "name": "echo", "title": "Echo", "description": "Returns the text it was given", "annotations": reads,
          "inputSchema": { "type": "object", "required": ["text"], "properties": { "text": { "type": "string" } } } },
        { "name": "now", "title": "Now", "description": "Tells the time in UTC", "annotations": { "readOnlyHint": true },
          "inputSchema": { "type": "object", "additionalProperties": false } },
    ])
}

fn call(params: &Value, now: OffsetDateTime) -> Result<Value, Refusal> {
    let arguments = &params["arguments"];
    let text = || arguments["text"].as_str().ok_or("`text` must be a text");
    let outcome = match params["name"].as_str().unwrap_or_default() {
        "echo" => text().map(|text| (text.to_owned(), None)),
        "add" => add(&arguments["a"], &arguments["b"]).map(|sum| (sum.to_string(), Some(json!({ "sum": sum })))),
        "now" => now.format(&Rfc3339).map(|time| (time, None)).map_err(|_| "the clock of this machine is out of range"),
        "count" => text().map(|text| {
            let counts = json!({ "characters": text.chars().count(), "words": text.split_whitespace().count(),
                "lines": text.lines().count() });
            (counts.to_string(), Some(counts))
        }),
        other => return Err((-32602, format!("Unknown tool: {other}"), Value::Null)),
    };
    Ok(match outcome {
        Ok((text, structured)) => {
            let mut result = json!({ "content": [{ "type": "text", "text": text }], "isError": false });
            if let Some(structured) = structured {
                result["structuredContent"] = structured;
            }
            result
        }
        Err(why) => json!({ "content": [{ "type": "text", "text": why }], "isError": true }),
    })
}

/// Whole numbers stay whole while they fit.
fn add(a: &Value, b: &Value) -> Result<Value, &'static str> {
    if let Some(sum) = a.as_i64().zip(b.as_i64()).and_then(|(a, b)| a.checked_add(b)) {
        return Ok(sum.into());
    }
    let (a, b) = a.as_f64().zip(b.as_f64()).ok_or("`a` and `b` must be numbers")?;
    serde_json::Number::from_f64(a + b).map(Value::Number).ok_or("the sum is too large")
}

fn prompt(params: &Value) -> Result<Value, Refusal> {
    if params["name"] != "summarise" {
        return Err((-32602, "Unknown prompt".into(), Value::Null));
    }
    let text = params["arguments"]["text"]
        .as_str()
        .ok_or_else(|| (-32602, "the argument `text` is missing".to_owned(), Value::Null))?;
    Ok(json!({ "description": "Asks for a summary in one sentence", "messages": [{ "role": "user",
        "content": { "type": "text", "text": format!("Summarise this in one sentence:\n\n{text}") } }] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the server over whole lines and returns what it wrote.
    fn talk(lines: &[Value]) -> Vec<Value> {
        let input = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        let mut output = Vec::new();
        run(input.as_bytes(), &mut output).unwrap();
        output
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn modern(id: i64, method: &str, mut params: Value) -> Value {
        params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {} });
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
    }

    #[test]
    fn an_older_client_shakes_hands_and_calls() {
        let said = talk(&[
            json!({"jsonrpc": "2.0", "id": 0, "method": "tools/list"}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}),
            json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            json!({"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": {"name": "add", "arguments": {"a": 2, "b": 40}}}),
            json!({"jsonrpc": "2.0", "id": 3, "method": "resources/read", "params": {"uri": "a:b"}}),
        ]);
        assert_eq!(said.len(), 4, "a notification has no answer: {said:?}");
        assert_eq!(said[0]["error"]["code"], -32602);
        assert_eq!(said[1]["result"]["protocolVersion"], "2025-06-18");
        assert_eq!(said[2]["id"], "x");
        assert_eq!(said[2]["result"]["structuredContent"], json!({"sum": 42}));
        assert!(said[2]["result"].get("resultType").is_none());
        assert_eq!(said[3]["error"]["code"], -32002);
    }

    #[test]
    fn a_modern_client_calls_without_a_handshake() {
        let said = talk(&[
            modern(1, "server/discover", json!({})),
            modern(2, "tools/call", json!({"name": "echo", "arguments": {"text": "hé"}})),
            modern(3, "initialize", json!({})),
            modern(4, "resources/read", json!({"uri": "a:b"})),
            modern(5, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}})),
            json!({"jsonrpc": "2.0", "id": 6, "method": "tools/list", "params": {"_meta":
                {"io.modelcontextprotocol/protocolVersion": "1900-01-01"}}}),
        ]);
        assert_eq!(said[0]["result"]["supportedVersions"], json!([MODERN]));
        assert_eq!(
            (&said[0]["result"]["cacheScope"], &said[0]["result"]["resultType"]),
            (&json!("public"), &json!("complete"))
        );
        assert_eq!(said[1]["result"]["content"][0]["text"], "hé");
        assert!(said[1]["result"].get("ttlMs").is_none());
        assert_eq!(said[2]["error"]["code"], -32601);
        assert_eq!(said[3]["error"]["code"], -32602);
        assert_eq!(
            said[4]["params"],
            json!({"notifications": {}, "_meta": {"io.modelcontextprotocol/subscriptionId": 5}})
        );
        assert_eq!(
            (&said[5]["error"]["code"], &said[5]["error"]["data"]["requested"]),
            (&json!(-32022), &json!("1900-01-01"))
        );
    }

    #[test]
    fn every_tool_answers_and_bad_arguments_are_the_tools_error() {
        let result = |name: &str, arguments: Value| {
            call(&json!({"name": name, "arguments": arguments}), OffsetDateTime::UNIX_EPOCH).unwrap()
        };
        assert_eq!(result("now", json!({}))["content"][0]["text"], "1970-01-01T00:00:00Z");
        assert_eq!(
            result("count", json!({"text": "a bé\nc"}))["structuredContent"],
            json!({"characters": 6, "words": 3, "lines": 2})
        );
        assert_eq!(result("add", json!({"a": 0.5, "b": 1}))["structuredContent"]["sum"], 1.5);
        assert_eq!(result("add", json!({"a": i64::MAX, "b": 1}))["isError"], false);
        assert_eq!(result("add", json!({"a": "x", "b": 1}))["isError"], true);
        assert_eq!(call(&json!({"name": "none"}), OffsetDateTime::UNIX_EPOCH).unwrap_err().0, -32602);
        for tool in tools().as_array().unwrap() {
            assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        }
    }

    #[test]
    fn nonsense_is_answered_and_the_next_line_is_served() {
        let mut input = b"{nope\n\n[1]\n".to_vec();
        input.extend(b"a".repeat(usize::try_from(MAX_LINE).unwrap() + 10));
        input.extend(b"\n{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}\n{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}");
        let mut output = Vec::new();
        run(&input[..], &mut output).unwrap();
        let said: Vec<Value> = output
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        let codes: Vec<_> = said.iter().map(|answer| answer["error"]["code"].as_i64()).collect();
        assert_eq!(codes, [Some(-32700), Some(-32600), Some(-32600), Some(-32600), None]);
        assert_eq!(said[4]["id"], 9);
    }
}
