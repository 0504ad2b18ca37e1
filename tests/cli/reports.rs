//! Reports of a real gateway, as its administrators and those of a tenant read them.

use serde_json::{Value, json};
use testkit::client::{Client, Request};

use crate::real::Real;

/// The key of a tenant's administrator, who signs in.
async fn eve(gateway: &Real) -> String {
    gateway.run(&["tenants", "add", "acme"]).await.expect(0);
    let eve = ["users", "add", "eve", "--role", "tenant_admin", "--tenant", "acme", "--json"];
    let password = gateway.run(&eve).await.expect(0).json()["password"].take();
    let body = json!({"username": "acme/eve", "password": password}).to_string();
    let request = Request::new(http::Method::POST, body.into()).path("/api/v1/login");
    let url = gateway.folder.read("data/cli.json")["gateway"].as_str().unwrap().to_owned();
    let answer = Client::new(&url).send(request.header("content-type", "application/json")).await.unwrap();
    let signed_in: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    signed_in["key"].as_str().unwrap_or_else(|| panic!("{signed_in}")).to_owned()
}

#[tokio::test]
async fn status_tells_who_is_there_to_those_who_may_know() {
    let gateway = Real::start().await;
    let told = gateway.run(&["status"]).await.expect(0).out;
    for line in
        ["people   ", "limits   ", "pools    0 of ", "tokens   0 refreshed, 0 failed, - (>0.95)", "nobody is there"]
    {
        assert!(told.contains(line), "{line}: {told}");
    }
    let document = gateway.run(&["status", "--json"]).await.expect(0).json();
    assert!(document["now"]["tenants"].is_array() && document["health"]["status"] == "ok", "{document}");

    let eve = eve(&gateway).await;
    let own = gateway.run_as(&eve, &["status", "--json"]).await.expect(0).json();
    let tenants: Vec<&Value> = own["now"]["tenants"].as_array().unwrap().iter().map(|one| &one["tenant_id"]).collect();
    assert_eq!((tenants, &own["now"]["rate_limiting"]), (vec![&json!("acme")], &Value::Null));
    assert!(!gateway.run_as(&eve, &["status"]).await.expect(0).out.contains("limits "));

    let ada = gateway.run(&["keys", "create", "laptop", "--json"]).await.expect(0).json()["key"].take();
    let plain = gateway.run_as(ada.as_str().unwrap(), &["status", "--json"]).await.expect(0).json();
    assert_eq!((&plain["now"], &plain["me"]["role"]), (&Value::Null, &json!("user")));
}

#[tokio::test]
async fn capacity_and_the_daily_report_are_tables_pages_and_documents() {
    let gateway = Real::start().await;
    let told = gateway.run(&["capacity"]).await.expect(0);
    assert!(
        told.out.contains("recommendation  ") && told.out.contains("requests") && told.out.contains("memory"),
        "{}",
        told.out
    );
    let document = gateway.run(&["capacity", "--json"]).await.expect(0).json();
    assert_eq!(document["resource_projections"].as_array().unwrap().len(), 8, "{document}");

    let table = gateway.run(&["report", "daily"]).await.expect(0).out;
    assert!(
        table.starts_with("FIGURE") && table.contains("tenant isolation") && table.contains("\nincidents"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "no colours in a pipe: {table}");
    let page = gateway.run(&["report", "daily", "--format", "markdown"]).await.expect(0).out;
    assert!(page.starts_with("# Health of the gateway, ") && page.contains("## Incidents"), "{page}");
    for json in [&["report", "daily", "--format", "json"][..], &["report", "daily", "--json"]] {
        assert_eq!(gateway.run(json).await.expect(0).json()["kpis"].as_array().unwrap().len(), 15);
    }
    let before = gateway.run(&["report", "daily", "--day", "2026-01-02", "--json"]).await.expect(0).json();
    assert_eq!((&before["today"], &before["yesterday"]), (&json!("2026-01-02"), &json!("2026-01-01")));
    let wrong = gateway.run(&["report", "daily", "--day", "yesterday"]).await.expect(2).err;
    assert!(wrong.contains("give a day like"), "{wrong}");
    let wrong = gateway.run(&["report", "daily", "--day", "2999-01-01"]).await.expect(1).err;
    assert!(wrong.contains("a day that has begun"), "{wrong}");
}

#[tokio::test]
async fn every_report_is_read_by_its_name() {
    let gateway = Real::start().await;
    for (words, has) in [
        (&["multi-user-status"][..], "token_refresh.success_rate"),
        (&["capacity-status"], "bottleneck_analysis"),
        (&["connection-pool-status"], "avg_connection_wait_time  - "),
        (&["token-refresh-status"], "average_retries"),
        (&["rate-limit-analytics"], "rate_limit_accuracy.false_positive_rate"),
        (&["tenant-fairness", "default"], "fair_share.ratio"),
        (&["tenant-analytics", "default"], "logins_by_hour"),
        (&["user-activity", "admin"], "operations_today"),
        (&["user-token-status", "admin"], "credentials: none"),
        (&["resources"], "findings: none"),
        (&["auth-failures"], "by_reason: none"),
        (&["rate-limits"], "tenant_fairness_violations"),
        (&["memory"], "access_tokens"),
        (&["network"], "upstreams: none"),
    ] {
        let words = [&["report"], words].concat();
        let told = gateway.run(&words).await.expect(0).out;
        assert!(told.contains(has), "{words:?}: {told}");
        let document = gateway.run(&[&words[..], &["--json"]].concat()).await.expect(0).json();
        assert!(document["generated_at"].is_string() && document["targets"].is_object(), "{words:?}: {document}");
    }
    let none = gateway.run(&["report", "tenant-analytics", "nobody"]).await.expect(1).err;
    assert!(none.contains("there is no tenant `nobody`") && none.contains("tenants list"), "{none}");
    let eve = eve(&gateway).await;
    gateway.run_as(&eve, &["report", "tenant-analytics", "acme"]).await.expect(0);
    let other = gateway.run_as(&eve, &["report", "tenant-analytics", "default"]).await.expect(1).err;
    assert!(other.contains("there is no tenant `default`"), "{other}");
    let above = gateway.run_as(&eve, &["capacity"]).await.expect(1).err;
    assert!(above.contains("403"), "{above}");
    for (words, says) in [
        (&["report", "tenant-analytics"][..], "`mcp-gateway tenants list` shows"),
        (&["report", "memory", "acme"], "of the whole gateway"),
        (&["report", "memory", "--format", "markdown"], "only the daily report"),
        (&["report", "weather"], "possible values"),
    ] {
        let wrong = gateway.run(words).await.expect(2).err;
        assert!(wrong.contains(says), "{words:?}: {wrong}");
    }
}
