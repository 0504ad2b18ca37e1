//! A client that others wrote, the Rust SDK, with the gateway itself: each era, at either endpoint, before servers of either era
//! and transport. What it makes of the gateway's answers it reads with types that nobody here wrote.

use rmcp::model::{CallToolRequestParams, ClientConfig, ProtocolVersion, SubscriptionFilter};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _};
use serde_json::json;
use testkit::upstream::{Eras, LegacySse, Plain};

use crate::world::{KEY, World, stdio_server, within};

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_lists_calls_and_listens_through_the_gateway() {
    let world = World::process(&[]).await;
    let (modern, legacy) =
        (Plain::with(Eras::Modern).await.unwrap(), Plain::with(Eras::Legacy("2025-06-18".into())).await.unwrap());
    let old = LegacySse::start().await.unwrap();
    world.register("modern", &modern.url()).await;
    world.register("legacy", &legacy.url()).await;
    world.register_as(&json!({"slug": "old", "transport": "sse", "replicas": [{"url": old.url()}]})).await;
    world.register_as(&json!({"slug": "child", "transport": "stdio", "command": {"program": stdio_server()}})).await;
    let newest = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for mode in [newest, ClientLifecycleMode::Initialize] {
        let stateless = matches!(mode, ClientLifecycleMode::Discover { .. });
        for (path, prefixes) in [
            ("/mcp", &["modern__", "legacy__", "old__", "child__"][..]),
            ("/mcp/modern", &[""]),
            ("/mcp/legacy", &[""]),
            ("/mcp/old", &[""]),
            ("/mcp/child", &[""]),
        ] {
            let mut config = StreamableHttpClientTransportConfig::with_uri(format!("{}{path}", world.url()));
            config.auth_header = Some(KEY.to_owned());
            let transport = StreamableHttpClientTransport::from_config(config);
            let client =
                within(Box::pin(ClientConfig::default().serve_with_lifecycle(transport, mode.clone()))).await.unwrap();
            let tools = within(client.list_all_tools()).await.unwrap();
            for prefix in prefixes {
                let name = format!("{prefix}echo");
                assert!(tools.iter().any(|tool| *tool.name == *name), "{path}: {name} of {tools:?}");
                let arguments = json!({"message": "é"}).as_object().cloned().unwrap_or_default();
                let called = within(client.call_tool(CallToolRequestParams::new(name).with_arguments(arguments)));
                let called = called.await.unwrap();
                assert!(called.content[0].as_text().unwrap().text.contains("é"), "{path}: {called:?}");
            }
            if path == "/mcp" && stateless {
                let mut changes =
                    within(client.listen(SubscriptionFilter::builder().tools_list_changed().build())).await.unwrap();
                assert!(legacy.wait_listeners(1).await);
                legacy.set(|shown| shown.tools.push(json!({"name": "new", "inputSchema": {"type": "object"}})));
                assert!(legacy.tools_changed() > 0);
                assert!(within(changes.next()).await.unwrap().is_some());
            }
            within(client.cancel()).await.unwrap();
        }
    }
}
