//! `servers call`: one tool call through `/mcp/{slug}`, as any client would make it. Arguments are JSON or `name=value` pairs,
//! whose values take the type that the tool's schema gives them.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use clap::Args;
use serde_json::{Map, Value, json};

use super::Verdict;
use super::failure::Failure;
use super::gateway::Gateway;
use super::mcp::{Asked, Client};
use super::screen::{Screen, Tone, clean, clean_block, shorten};
use super::servers;
use crate::id::Slug;

/// Shown under `--help`.
pub const EXAMPLES: &str = "\
Values of name=value take the type that the tool's schema gives them; for lists and objects write JSON, or use --args. --args -
reads JSON from standard input. The exit code is 1 when the tool reports an error.

Examples:
  mcp-gateway servers call sample add a=2 b=40
  mcp-gateway servers call files read_file path=notes.txt
  mcp-gateway servers call search query --args '{\"words\": [\"a\", \"b\"], \"limit\": 5}' --json";

/// Call a tool through the gateway
#[derive(Debug, Args)]
pub struct Call {
    /// Which server
    #[arg(value_parser = servers::slug)]
    slug: Slug,
    /// Which tool, by the server's own name
    tool: String,
    /// Arguments, each with its name
    #[arg(value_name = "NAME=VALUE")]
    arguments: Vec<String>,
    /// All arguments as a JSON object, or `-` for standard input
    #[arg(long, value_name = "JSON", conflicts_with = "arguments")]
    args: Option<String>,
    /// Longest wait for the answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// Calls the tool and shows its answer.
pub async fn run(call: &Call, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let tool = schema(call, gateway).await?;
    let arguments = arguments(call, tool.as_ref())?;
    let spinner = screen.wait(&format!("calling {} of {}", clean(&call.tool), call.slug));
    let url = gateway.url(&["mcp", call.slug.as_str()]);
    let client = Client::new(gateway, url, Duration::from_secs(call.timeout))?;
    let asked = Asked { name: &call.tool, arguments: &arguments, tool: tool.as_ref() };
    let answer = client.call(&asked, |progress| spinner.set_message(told(progress))).await;
    spinner.finish_and_clear();
    let answer = answer?;
    let took = answer.took.as_secs_f64() * 1000.0;
    let bad = answer.result["isError"] == true;
    let document = json!({
        "server": call.slug.as_str(), "tool": call.tool, "result": answer.result,
        "is_error": bad, "protocol_version": answer.version, "took_ms": (took * 1000.0).round() / 1000.0,
    });
    screen.show(&document, || content(&answer.result))?;
    if !screen.is_json() {
        let end = if bad { Tone::Bad.paint("the tool reports an error") } else { Tone::Dim.paint("done") };
        super::screen::note(&format!("{end} {}", Tone::Dim.paint(&format!("({took:.1} ms, MCP {})", answer.version))));
    }
    Ok(if bad { Verdict::Bad } else { Verdict::Fine })
}

/// What the gateway knows of the tool. A key that may call may not always list, so a refusal is no failure.
async fn schema(call: &Call, gateway: &Gateway) -> anyhow::Result<Option<Value>> {
    let tools = match gateway.all(&["servers", call.slug.as_str(), "tools"]).await {
        Ok(tools) => tools,
        Err(error) => {
            let failure = Failure::of(error);
            return if failure.status.is_some_and(|status| status != 401) { Ok(None) } else { Err(failure.into()) };
        }
    };
    Ok(tools.into_iter().find(|tool| tool["name"] == call.tool.as_str()))
}

fn arguments(call: &Call, tool: Option<&Value>) -> anyhow::Result<Value> {
    let Some(text) = &call.args else { return Ok(pairs(&call.arguments, tool)?.into()) };
    let text = if text == "-" {
        std::io::read_to_string(std::io::stdin().lock()).context("cannot read standard input")?
    } else {
        text.clone()
    };
    let value: Value =
        serde_json::from_str(&text).map_err(|error| Failure::usage(format!("the arguments are not JSON: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(Failure::usage("the arguments must be a JSON object").into()) }
}

/// `name=value` texts as an object, typed by the tool's schema.
fn pairs(texts: &[String], tool: Option<&Value>) -> Result<Map<String, Value>, Failure> {
    let mut object = Map::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(format!("`{}` is not of the form name=value", shorten(text, 40))))?;
        let wanted = tool.map(|tool| &tool["inputSchema"]["properties"][name]["type"]);
        object.insert(name.to_owned(), typed(name, value, wanted)?);
    }
    Ok(object)
}

/// One value: a text where the schema wants a text; JSON where it wants something else; where it says nothing, JSON if the
/// text is a number, a truth value, a list or an object, else a text.
fn typed(name: &str, text: &str, wanted: Option<&Value>) -> Result<Value, Failure> {
    let kinds: Vec<&str> = match wanted {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    if kinds.is_empty() {
        return Ok(parsed.filter(|value| !value.is_string() && !value.is_null()).unwrap_or_else(|| text.into()));
    }
    let fits = |value: &Value| {
        kinds.iter().any(|kind| match *kind {
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "null" => value.is_null(),
            _ => false,
        })
    };
    match parsed.filter(fits) {
        Some(value) => Ok(value),
        None if kinds.contains(&"string") => Ok(text.into()),
        None => Err(Failure::usage(format!("{name} must be {}", kinds.join(" or ")))),
    }
}

/// The arguments of a tool in short: `path, limit?`.
pub fn signature(tool: &Value) -> String {
    let schema = &tool["inputSchema"];
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|of| of == name));
    let Some(properties) = schema["properties"].as_object() else { return String::new() };
    let mut names: Vec<&String> = properties.keys().collect();
    names.sort_by_key(|name| !required(name));
    let mark = |name: &&String| if required(name) { (*name).clone() } else { format!("{name}?") };
    names.iter().map(mark).collect::<Vec<_>>().join(", ")
}

fn told(progress: &Value) -> String {
    let number = |name: &str| progress[name].as_f64();
    let mut text = match (number("progress"), number("total")) {
        (Some(done), Some(total)) => format!("{done}/{total}"),
        (Some(done), None) => format!("{done}"),
        _ => String::new(),
    };
    if let Some(message) = progress["message"].as_str() {
        let _ = write!(text, " {}", shorten(&clean(message), 80));
    }
    text
}

/// The content of a result for people: texts as they are, the rest named. Structured content stands for a result without texts.
fn content(result: &Value) -> String {
    let mut out = String::new();
    for block in result["content"].as_array().into_iter().flatten() {
        let part = |name: &str| block[name].as_str().unwrap_or_default();
        match part("type") {
            "text" => out.push_str(&clean_block(part("text"))),
            kind @ ("image" | "audio") => {
                let size = base64::engine::general_purpose::STANDARD.decode(part("data")).map_or(0, |data| data.len());
                let _ = write!(out, "[{kind}, {}, {size} bytes; --json has it]", clean(part("mimeType")));
            }
            "resource" => match block["resource"]["text"].as_str() {
                Some(text) => out.push_str(&clean_block(text)),
                None => {
                    let _ = write!(out, "[resource {}]", clean(block["resource"]["uri"].as_str().unwrap_or_default()));
                }
            },
            "resource_link" => {
                let _ = write!(out, "[resource {}]", clean(part("uri")));
            }
            kind => {
                let _ = write!(out, "[{}; --json has it]", clean(kind));
            }
        }
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    if out.is_empty() && !result["structuredContent"].is_null() {
        out = clean_block(&serde_json::to_string_pretty(&result["structuredContent"]).unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_type_of_the_schema() {
        let tool = json!({"inputSchema": {"properties": {
            "n": {"type": "integer"}, "zip": {"type": "string"}, "flag": {"type": "boolean"},
            "list": {"type": "array"}, "either": {"type": ["number", "string"]}}}});
        let texts = ["n=3", "zip=01234", "flag=true", "list=[1,2]", "either=x", "free=7", "plain=null", "eq=a=b"];
        let object = pairs(&texts.map(str::to_owned), Some(&tool)).unwrap();
        let expected = json!({"n": 3, "zip": "01234", "flag": true, "list": [1, 2], "either": "x", "free": 7,
            "plain": "null", "eq": "a=b"});
        assert_eq!(Value::from(object), expected);
        assert_eq!(pairs(&["n=x".to_owned()], Some(&tool)).unwrap_err().what, "n must be integer");
        assert_eq!(pairs(&["=x".to_owned()], None).unwrap_err().exit, 2);
    }

    #[test]
    fn required_arguments_come_first() {
        let tool = json!({"inputSchema": {"properties": {"a": {}, "b": {}}, "required": ["b"]}});
        assert_eq!(signature(&tool), "b, a?");
    }

    #[test]
    fn content_is_shown_by_kind_and_cleaned() {
        let result = json!({"content": [
            {"type": "text", "text": "line\none\u{1b}[2J"},
            {"type": "image", "mimeType": "image/png", "data": "AAAA"},
            {"type": "resource", "resource": {"uri": "a:b", "text": "inside"}},
            {"type": "later"}]});
        assert_eq!(
            content(&result),
            "line\none\u{fffd}[2J\n[image, image/png, 3 bytes; --json has it]\ninside\n[later; --json has it]\n"
        );
        assert_eq!(content(&json!({"content": [], "structuredContent": {"a": 1}})), "{\n  \"a\": 1\n}");
    }
}
