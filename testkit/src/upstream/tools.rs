//! The tools every stand-in has.
//!
//! | tool | arguments | does |
//! |---|---|---|
//! | `echo` | any | returns its arguments as a text and as structured content |
//! | `slow` | `ms` | answers after that long |
//! | `gate` | – | answers when the test opens the gate |
//! | `progress` | `steps`, `ms` | reports each step |
//! | `log` | `count` | sends log records |
//! | `big` | `bytes` | returns that many letters, written as they are read |
//! | `ask` | `kind`: `elicitation`, `sampling` or `roots` | asks the client and returns its answer |
//! | `fail` | – | returns a result that says it failed |
//! | `error` | `code` | returns a JSON-RPC error |
//! | `reconnect` | – | legacy: closes its stream, and answers on the stream that resumes it |

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    core::{Core, Exchange, Message, RpcError, lock},
    words::{Answer, Call},
};
use crate::jsonrpc;

/// This many letters, as `big` sends them.
pub fn filler(bytes: usize) -> String {
    ('a'..='z').cycle().take(bytes).collect()
}

/// How the tools are listed.
pub(crate) fn definitions() -> Vec<Value> {
    let number = |name: &str| json!({ name: { "type": "integer" } });
    [
        ("echo", "Returns what it is given", json!({ "message": { "type": "string" } })),
        ("slow", "Answers late", number("ms")),
        ("gate", "Answers when it is let to", json!({})),
        ("progress", "Reports how far it is", json!({ "steps": { "type": "integer" }, "ms": { "type": "integer" } })),
        ("log", "Sends log records", number("count")),
        ("big", "Returns a long text", number("bytes")),
        ("ask", "Asks the client", json!({ "kind": { "type": "string" }, "message": { "type": "string" } })),
        ("fail", "Fails", json!({})),
        ("error", "Is an error of the protocol", number("code")),
        ("reconnect", "Closes its stream and answers on the next", json!({})),
    ]
    .into_iter()
    .map(|(name, about, properties)| {
        json!({ "name": name, "description": about, "inputSchema": { "type": "object", "properties": properties } })
    })
    .collect()
}

/// Calls a tool. `Ok(None)` means that no answer comes.
pub(crate) async fn call(core: &Core, exchange: &Exchange) -> Result<Option<Message>, RpcError> {
    let (name, arguments) = (exchange.params["name"].as_str().unwrap_or_default(), &exchange.params["arguments"]);
    let number = |key: &str| arguments[key].as_u64();
    let pause = async || sleep(Duration::from_millis(number("ms").unwrap_or(0))).await;
    if let Some(answer) = scripted(core, exchange, name).await {
        return answer;
    }
    let text = |text: &str| json!({ "content": [{ "type": "text", "text": text }] });
    let mut result = match name {
        "echo" => {
            let mut result = text(&arguments.to_string());
            result["structuredContent"] = arguments.clone();
            result
        }
        "slow" => {
            pause().await;
            text("at last")
        }
        "gate" => {
            _ = core.gate.subscribe().wait_for(|open| *open).await;
            text("let through")
        }
        "progress" => {
            let steps = number("steps").unwrap_or(3);
            let token = &exchange.params["_meta"]["progressToken"];
            for step in 1..=steps {
                if !token.is_null() {
                    let params = json!({
                        "progressToken": token, "progress": step, "total": steps, "message": format!("step {step}"),
                    });
                    exchange.send(jsonrpc::notification("notifications/progress", &params));
                }
                pause().await;
            }
            text("done")
        }
        "log" => {
            for count in 0..number("count").unwrap_or(1) {
                let params = json!({ "level": "info", "logger": "stand-in", "data": format!("record {count}") });
                exchange.send(jsonrpc::notification("notifications/message", &params));
            }
            text("logged")
        }
        "big" => return Ok(Some(big(exchange, number("bytes").unwrap_or(0)))),
        "ask" => return ask(core, exchange).await,
        "fail" => {
            let mut result = text("it did not work");
            result["isError"] = true.into();
            result
        }
        "error" => {
            let code = arguments["code"].as_i64().unwrap_or(-32603);
            return Err((code, "an error was asked for".to_owned(), Some(json!({ "asked": true }))));
        }
        "reconnect" => text("resumed"),
        other => return Err((-32602, format!("Unknown tool: {other}"), None)),
    };
    if exchange.modern {
        result["resultType"] = "complete".into();
    }
    Ok(Some(jsonrpc::result(&exchange.id, &result.to_string()).into()))
}

/// What a test answers to this request, if it does: the tool of this name is called, or the method of this name is.
pub(crate) async fn scripted(
    core: &Core,
    exchange: &Exchange,
    name: &str,
) -> Option<Result<Option<Message>, RpcError>> {
    let script = lock(&core.scripts).get(name).cloned()?;
    let call = Call {
        params: exchange.params.clone(),
        headers: exchange.headers.clone(),
        modern: exchange.modern,
        session: exchange.session.clone(),
    };
    Some(match script(&call) {
        Answer::Result(result) => Ok(Some(jsonrpc::result(&exchange.id, &result).into())),
        Answer::Error(code, message, data) => Err((code, message, data)),
        Answer::Nothing => std::future::pending().await,
    })
}

fn big(exchange: &Exchange, bytes: u64) -> Message {
    let mut head = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"#, exchange.id);
    if exchange.modern {
        head.push_str(r#""resultType":"complete","#);
    }
    _ = write!(head, r#""content":[{{"type":"text","text":""#);
    let fill = usize::try_from(bytes).unwrap_or(usize::MAX);
    Message { head: head.into(), fill, tail: Bytes::from_static(br#""}]}}"#) }
}

async fn ask(core: &Core, exchange: &Exchange) -> Result<Option<Message>, RpcError> {
    let arguments = &exchange.params["arguments"];
    let kind = arguments["kind"].as_str().unwrap_or("elicitation");
    let message = arguments["message"].as_str().unwrap_or("What is your name?");
    let (method, capability, params) = match kind {
        "sampling" => (
            "sampling/createMessage",
            "sampling",
            json!({
                "messages": [{ "role": "user", "content": { "type": "text", "text": message } }], "maxTokens": 10,
            }),
        ),
        "roots" => ("roots/list", "roots", json!({})),
        _ => (
            "elicitation/create",
            "elicitation",
            json!({
                "mode": "form",
                "message": message,
                "requestedSchema": {
                    "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"],
                },
            }),
        ),
    };
    let declared = if exchange.modern {
        exchange.params["_meta"][jsonrpc::META_CAPABILITIES].clone()
    } else {
        let sessions = lock(&core.sessions);
        match exchange.session.as_ref().and_then(|id| sessions.get(id)) {
            Some(session) => session.capabilities.clone(),
            // Without a session nothing is known of the client, and it is asked all the same.
            None => json!({ capability: {} }),
        }
    };
    if declared[capability].is_null() && exchange.modern {
        let missing = json!({ "requiredCapabilities": { capability: {} } });
        return Err((-32021, "Missing required client capability".to_owned(), Some(missing)));
    }
    if declared[capability].is_null() {
        return Err((-32600, format!("the client did not declare {capability}"), None));
    }
    let answer = if !exchange.modern {
        core.ask(exchange, method, &params).await
    } else if let Some(answer) = exchange.params["inputResponses"].get("question") {
        if exchange.params["requestState"] != "state of the question" {
            return Err((-32602, "requestState is not what was sent".to_owned(), None));
        }
        answer.clone()
    } else {
        let result = json!({
            "resultType": "input_required",
            "inputRequests": { "question": { "method": method, "params": params } },
            "requestState": "state of the question",
        });
        return Ok(Some(jsonrpc::result(&exchange.id, &result.to_string()).into()));
    };
    let mut result = json!({ "content": [{ "type": "text", "text": answer.to_string() }] });
    if exchange.modern {
        result["resultType"] = "complete".into();
    }
    Ok(Some(jsonrpc::result(&exchange.id, &result.to_string()).into()))
}
