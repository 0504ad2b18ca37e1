//! The SDK's client against the stand-ins: it reads what they say with types that nobody here wrote.

use rmcp::{
    ClientLifecycleMode, ClientServiceExt as _,
    model::{CallToolRequestParams, ClientConfig, ProtocolVersion, SubscriptionFilter},
    transport::{
        StreamableHttpClientTransport, TokioChildProcess, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::json;
use testkit::upstream::{Eras, Plain, ReplyForm};

fn modes() -> [(Eras, ClientLifecycleMode); 4] {
    let modern = || ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    [
        (Eras::Dual, modern()),
        (Eras::Dual, ClientLifecycleMode::Initialize),
        (Eras::Modern, modern()),
        (Eras::Legacy("2025-03-26".to_owned()), ClientLifecycleMode::Initialize),
    ]
}

#[tokio::test]
async fn the_sdk_speaks_with_every_era() -> anyhow::Result<()> {
    for (eras, mode) in modes() {
        for form in [ReplyForm::Auto, ReplyForm::Sse] {
            let server = Plain::with(eras.clone()).await?;
            server.reply(form);
            let config = StreamableHttpClientTransportConfig::with_uri(server.url());
            let transport = StreamableHttpClientTransport::from_config(config);
            let client = ClientConfig::default().serve_with_lifecycle(transport, mode.clone()).await?;
            assert_eq!(client.list_all_tools().await?.len(), 10);
            let arguments = json!({ "message": "é" }).as_object().cloned().unwrap_or_default();
            let called = client.call_tool(CallToolRequestParams::new("echo").with_arguments(arguments)).await?;
            assert_eq!(called.structured_content, Some(json!({ "message": "é" })));
            assert_eq!(client.list_all_prompts().await?.len(), 1);
            assert_eq!(client.list_all_resources().await?.len(), 1);
            if matches!(mode, ClientLifecycleMode::Discover { .. }) {
                let mut changes = client.listen(SubscriptionFilter::builder().tools_list_changed().build()).await?;
                assert!(server.wait_listeners(1).await);
                server.tools_changed();
                assert!(changes.next().await?.is_some());
            }
            client.cancel().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_sdk_speaks_with_the_program() -> anyhow::Result<()> {
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for (arguments, mode) in [
        (vec![], modern.clone()),
        (vec![], ClientLifecycleMode::Initialize),
        (vec!["--modern"], modern),
        (vec!["--legacy", "2024-11-05"], ClientLifecycleMode::Initialize),
    ] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_stdio_server"));
        command.args(&arguments);
        let client = ClientConfig::default().serve_with_lifecycle(TokioChildProcess::new(command)?, mode).await?;
        assert_eq!(client.list_all_tools().await?.len(), 15);
        let called = client.call_tool(CallToolRequestParams::new("echo")).await?;
        assert!(called.content[0].as_text().is_some());
        client.cancel().await?;
    }
    Ok(())
}
