//! Reports of what was counted: what they say of records that are known, and to whom.

use std::time::Duration;

use mcp_registry_gateway::audit::Record;
use mcp_registry_gateway::clock;
use mcp_registry_gateway::store::samples::Sample;
use mcp_registry_gateway::store::{micros, now};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::store_databases::Database;
use crate::store_rest::World;

/// It is half past noon from now on, far from the ends of minutes, hours and days.
fn noon() {
    let past = (now() - time::Duration::seconds(12 * 3_600 + 1_820)).unix_timestamp().rem_euclid(86_400);
    clock::move_on(Duration::from_secs((86_400 - past).unsigned_abs()));
}

impl World {
    /// These records are in the trail.
    async fn happened(&self, records: &[Record]) {
        self.app.store.add_increments(&self.app.analytics.fold(records)).await.unwrap();
        self.app.analytics.settle();
    }

    async fn told(&self, key: &str, path: &str) -> Value {
        self.with_key(key, &format!("GET /admin/{path}"), Value::Null).await.expect(200).json()
    }

    /// The account that a key is of.
    async fn account(&self, key: &str) -> Uuid {
        let me = self.with_key(key, "GET /me", Value::Null).await.expect(200).json();
        me["user_id"].as_str().unwrap().parse().unwrap()
    }
}

/// Something of this hour, so many seconds before now at most.
fn record(action: &str, tenant: &str, more: &Value) -> Record {
    let surface = if action.contains("/api/") { "admin" } else { "mcp" };
    let mut record = json!({
        "id": Uuid::now_v7(), "at": micros(now()), "instance": Uuid::nil(), "surface": surface, "action": action,
        "outcome": "success", "tenant": tenant,
    });
    if action.contains('.') {
        record["surface"] = "background".into();
    }
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(record).unwrap()
}

fn call(tenant: &str, user: Uuid, tool: &str, more: &Value) -> Record {
    let mut fields = json!({
        "user": user, "credential": user, "session_type": "api_key", "session": "0badcafe", "server": "files", "name": tool,
        "total_us": 20_000, "upstream_us": 15_000, "request_bytes": 10, "response_bytes": 20,
    });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    record("tools/call", tenant, &fields)
}

/// A fraction, as it is told.
#[track_caller]
fn close(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!((value - expected).abs() <= expected.abs() / 64.0 + 1e-9, "{value} for {expected}");
}

on_both! {
    async fn a_tenants_report_tells_what_it_did_and_nobody_else_reads_it(db) {
        noon();
        let world = World::open(db).await;
        let eve = world.acme().await;
        let user = world.account(&eve).await;
        let day = 24 * 3_600_000_000_u64;
        world.happened(&[
            call("acme", user, "read", &json!({})),
            call("acme", user, "read", &json!({"outcome": "error", "reason": "timeout", "total_us": 4_000_000})),
            call("acme", user, "read", &json!({})),
            call("acme", user, "write", &json!({"outcome": "tool_error", "total_us": 80_000})),
            call("default", user, "secret", &json!({})),
            record("auth.login", "acme", &json!({"user": user, "name": "entra"})),
            record("session.end", "acme", &json!({"reason": "logout", "total_us": day})),
            record("session.end", "acme", &json!({"reason": "logout", "total_us": 3 * day})),
        ]).await;
        for key in [&eve, &world.admin] {
            let told = world.told(key, "tenant-analytics/acme").await;
            assert_eq!((&told["tenant_id"], &told["scope"], &told["active_users"]), (&"acme".into(), &"cluster".into(), &1.into()));
            let all = &told["performance_metrics"];
            assert_eq!(all["requests"], 4, "{told}");
            close(&all["error_rate"], 0.25);
            close(&all["p50"], 20.0);
            close(&all["p95"], 4_000.0);
            close(&all["p99"], 4_000.0);
            let tools = told["top_tools"].as_array().unwrap();
            assert_eq!(tools.len(), 2, "{told}");
            assert_eq!((&tools[0]["server"], &tools[0]["tool"], &tools[0]["calls"]), (&"files".into(), &"read".into(), &3.into()));
            close(&tools[0]["error_rate"], 1.0 / 3.0);
            close(&tools[0]["mean"], 4_040.0 / 3.0);
            close(&tools[1]["error_rate"], 1.0);
            assert_eq!(told["behavior_patterns"], json!({"repetitive_usage": 1, "standard_workflow": 1}), "{told}");
            let logins = told["logins_by_hour"].as_array().unwrap();
            assert_eq!((logins.len(), logins[usize::from(now().hour())].as_i64()), (24, Some(1)), "{told}");
            let ended = &told["session_durations"][0];
            assert_eq!((&ended["end_reason"], &ended["count"]), (&"logout".into(), &2.into()));
            close(&ended["mean"], 2.0 * 86_400_000.0);
            close(&ended["p95"], 3.0 * 86_400_000.0);
            assert!(told["resource_utilization"]["cpu_seconds"].is_null());
            assert!(!told.to_string().contains("secret"), "{told}");
        }
        for path in ["tenant-analytics/default", "tenant-analytics/none"] {
            world.with_key(&eve, &format!("GET /admin/{path}"), Value::Null).await.expect(404);
        }
        let asked = world.told(&world.admin, "tenant-analytics/acme?scope=replica").await;
        assert_eq!(asked["scope"], "cluster", "it is of all, whatever is asked for");
        let world = world.restarted().await;
        let again = world.told(&world.admin, "tenant-analytics/acme").await;
        for counted in ["performance_metrics", "top_tools", "logins_by_hour", "session_durations", "behavior_patterns"] {
            assert_eq!(again[counted], asked[counted], "no count goes back");
        }
    }
}

on_both! {
    async fn who_is_there_is_told_by_tenant_to_whom_it_concerns(db) {
        noon();
        let world = World::open(db).await;
        let eve = world.acme().await;
        let (user, admin) = (world.account(&eve).await, world.account(&world.admin).await);
        let minute = json!({"at": micros(now()) - 60_000_000});
        world.happened(&[
            call("acme", user, "read", &minute),
            call("acme", user, "read", &minute),
            call("default", admin, "read", &minute),
            call("default", admin, "read", &json!({"at": micros(now()) - 3_600_000_000_i64})),
            call("default", Uuid::from_u128(9), "read", &json!({"at": micros(now()) - 3_600_000_000_i64})),
        ]).await;
        let before = world.told(&world.admin, "multi-user-status").await;
        assert!(before["resource_utilization"]["memory_bytes"].is_null(), "no sample yet: {before}");
        world.app.sample(now()).await.unwrap();
        let told = world.told(&world.admin, "multi-user-status").await;
        assert_eq!(told["active_users"], 2, "{told}");
        let tenants = told["tenants"].as_array().unwrap();
        let named: Vec<(&str, i64, i64)> = tenants.iter().map(|tenant| (
            tenant["tenant_id"].as_str().unwrap(),
            tenant["active_users"].as_i64().unwrap(),
            tenant["requests_last_minute"].as_i64().unwrap(),
        )).collect();
        assert_eq!(named, [("acme", 1, 2), ("default", 1, 1)], "{told}");
        let resources = &told["resource_utilization"];
        for part in ["memory", "file_descriptors", "cpu", "connections"] {
            assert!((0.0..=1.5).contains(&resources[part].as_f64().unwrap()), "{part}: {told}");
        }
        assert!(resources["memory_bytes"].as_i64().unwrap() > 100_000);
        let rates = &told["rate_limiting"];
        assert_eq!((&rates["global_rpm"], &rates["used_last_minute"], &rates["banned_addresses"]), (&10_000.into(), &3.into(), &0.into()));
        assert_eq!(rates["hits"]["tenant"], 0, "{told}");
        assert_eq!(told["token_refresh"], json!({"success_rate": null, "successful": 0, "failed": 0}));
        assert_eq!(told["targets"]["token_refresh.success_rate"]["met"], Value::Null);
        let own = world.told(&eve, "multi-user-status").await;
        assert_eq!((&own["active_users"], own["tenants"].as_array().unwrap().len()), (&1.into(), 1), "{own}");
        assert_eq!((&own["tenants"][0]["tenant_id"], &own["resource_utilization"]), (&"acme".into(), &Value::Null), "{own}");
        assert!(own["rate_limiting"].is_null(), "{own}");
    }
}

on_both! {
    async fn what_an_account_did_is_told_to_its_administrators(db) {
        noon();
        let world = World::open(db).await;
        let eve = world.acme().await;
        let (user, admin) = (world.account(&eve).await, world.account(&world.admin).await);
        let yesterday = micros(now()) - 86_400_000_000;
        world.happened(&[
            call("acme", user, "read", &json!({"at": yesterday})),
            call("acme", user, "read", &json!({})),
            call("acme", user, "write", &json!({"outcome": "error", "reason": "timeout"})),
            record("GET /api/v1/me", "acme", &json!({"user": user})),
            record("auth.login", "acme", &json!({"user": user, "name": "local"})),
            call("default", admin, "hidden", &json!({})),
        ]).await;
        for key in [&eve, &world.admin] {
            let told = world.told(key, &format!("user-activity/{user}")).await;
            assert_eq!((&told["tenant_id"], &told["user_id"]), (&"acme".into(), &user.to_string().into()));
            let counts = ["operations", "operations_today", "tool_calls", "errors", "sessions"].map(|name| told[name].as_i64().unwrap());
            assert_eq!(counts, [4, 3, 3, 1, 0], "{told}");
            assert_eq!(told["tools"][0], json!({"server": "files", "tool": "read", "calls": 2}), "{told}");
            assert_eq!(told["errors_by_reason"], json!({"timeout": 1}));
            assert_eq!(told["logins_by_hour"][usize::from(now().hour())], 1, "{told}");
            assert!(told["last_seen"].is_string() && !told.to_string().contains("hidden"), "{told}");
        }
        world.with_key(&eve, &format!("GET /admin/user-activity/{admin}"), Value::Null).await.expect(404);
        let never = world.told(&eve, &format!("user-activity/{user}")).await;
        assert_eq!(never["behavior_patterns"], json!({}), "a day apart is no session: {never}");
    }
}

on_both! {
    async fn failures_to_come_in_are_told_by_reason_with_what_helps(db) {
        noon();
        let world = World::open(db).await;
        let eve = world.acme().await;
        let failed = |tenant: Option<&str>, reason: &str| {
            let mut one = record("auth.login", "acme", &json!({"outcome": "denied", "reason": reason}));
            one.tenant = tenant.map(Into::into);
            one
        };
        let refused = |reason: &str| {
            let mut one = record("tools/call", "acme", &json!({"outcome": "denied", "reason": reason}));
            one.tenant = None;
            one
        };
        world.happened(&[
            failed(Some("acme"), "AADSTS50057"),
            failed(Some("acme"), "AADSTS50057"),
            failed(None, "provider_timeout"),
            refused("unknown"),
            refused("ended_token"),
            refused("missing"),
            record("GET /api/v1/me", "acme", &json!({"credential": Uuid::nil(), "session_type": "api_key"})),
        ]).await;
        let told = world.told(&world.admin, "diagnostics/auth-failures").await;
        assert_eq!((&told["login_timeout_errors"], &told["invalid_token_errors"]), (&1.into(), &2.into()), "{told}");
        let reasons = told["by_reason"].as_array().unwrap();
        assert_eq!(reasons.len(), 4, "{told}");
        assert_eq!((&reasons[0]["code"], &reasons[0]["count"], &reasons[0]["method"]), (&"AADSTS50057".into(), &2.into(), &"login".into()));
        assert!(reasons[0]["advice"].as_str().unwrap().contains("disabled") && reasons[0]["last_at"].is_string());
        assert_eq!(told["targets"]["token_refresh_failures"], json!({"target": "<0.05", "met": null}));
        let own = world.told(&eve, "diagnostics/auth-failures").await;
        assert_eq!((own["by_reason"].as_array().unwrap().len(), &own["invalid_token_errors"]), (1, &0.into()), "{own}");
    }
}

fn figure<'a>(told: &'a Value, name: &str) -> &'a Value {
    told["kpis"].as_array().unwrap().iter().find(|kpi| kpi["name"] == name).unwrap_or_else(|| panic!("{name}: {told}"))
}

on_both! {
    async fn a_day_is_told_by_its_figures_and_by_what_went_wrong(db) {
        noon();
        let world = World::open(db).await;
        let eve = world.acme().await;
        let user = world.account(&eve).await;
        let empty = world.told(&world.admin, "daily-health-report").await;
        for kpi in empty["kpis"].as_array().unwrap() {
            assert!(kpi["today"]["value"].is_null() && kpi["today"]["met"].is_null() && kpi["change"].is_null(), "{kpi}");
        }
        let (store, day) = (&world.app.store, now().unix_timestamp() / 86_400 - 1);
        let at = |second: i64| json!({"at": (day * 86_400 + second) * 1_000_000});
        let denied = |second: i64| json!({"outcome": "denied", "reason": "AADSTS50057", "at": (day * 86_400 + second) * 1_000_000});
        let mut records: Vec<Record> = (0..3).map(|second| call("acme", user, "read", &at(second))).collect();
        records.push(call("acme", user, "read", &json!({"at": day * 86_400_000_000, "total_us": 2_000_000, "upstream_us": 0})));
        records.push(record("auth.login", "acme", &denied(9)));
        records.push(record("session.end", "acme", &json!({"reason": "logout", "total_us": 3 * 3_600_000_000_u64, "at": day * 86_400_000_000})));
        records.push(record("GET /api/v1/admin/tenants/{id}", "acme", &json!({
            "role": "tenant_admin", "outcome": "error", "name": "/api/v1/admin/tenants/default", "at": day * 86_400_000_000,
        })));
        records.push(call("default", user, "read", &json!({})));
        world.happened(&records).await;
        // Ten minutes of yesterday, two of them without a process.
        for minute in [0, 1, 2, 5, 6, 7, 8, 9] {
            store.beat((day + 1) * 1_440 - 10 + minute).await.unwrap();
        }
        for (second, users, in_use, unwell) in [(0, 7, 5, ""), (60, 9, 15, "database"), (120, 3, 10, "database,breaker files")] {
            let sample = Sample {
                at: day * 86_400 + second, instance: Uuid::from_u128(5), seconds: 60.0, users, pool_in_use: in_use, pool_limit: 20,
                fairness: Some(1.0), answered: 100 + second, recorded: 100 + second, unwell: unwell.into(), ..Sample::default()
            };
            store.add_sample(&sample).await.unwrap();
        }
        let told = world.told(&world.admin, "daily-health-report").await;
        let yesterday = |name: &str| &figure(&told, name)["yesterday"]["value"];
        // Four calls and an answer of the REST API went in; one sign-in did not.
        close(yesterday("authentication_success"), 4.0 / 5.0);
        close(yesterday("authentication_failures"), 1.0 / 5.0);
        close(yesterday("uptime"), 0.8);
        close(yesterday("mean_response"), (3.0 * 20.0 + 2_000.0) / 5.0);
        close(yesterday("mean_gateway_overhead"), (3.0 * 5.0 + 2_000.0) / 5.0);
        close(yesterday("pool_utilization"), 0.5);
        close(yesterday("peak_concurrent_users"), 9.0);
        close(yesterday("mean_session"), 3.0 * 3_600_000.0);
        close(yesterday("satisfaction"), 1.0 + 4.0 * (3.0 + 0.5) / 5.0);
        close(yesterday("fairness"), 1.0);
        close(yesterday("audit_completeness"), 1.0);
        close(yesterday("tenant_isolation"), 1.0);
        close(yesterday("tenants_active"), 1.0);
        close(&figure(&told, "tenants_active")["today"]["value"], 1.0);
        for unknown in ["token_refresh_success", "ddos_false_positives"] {
            assert!(yesterday(unknown).is_null(), "{unknown}");
        }
        assert_eq!(figure(&told, "mean_session")["yesterday"]["met"], true);
        assert_eq!(figure(&told, "uptime")["yesterday"]["met"], false);
        assert_eq!(figure(&told, "peak_concurrent_users")["yesterday"]["met"], Value::Null);
        close(&figure(&told, "satisfaction")["change"], 5.0 - 3.8);
        let kinds: Vec<&str> = told["incidents"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["unwell", "unwell", "down", "down"], "{told}");
        assert!(told["incidents"][0]["what"].as_str().unwrap().contains("database"), "{told}");

        let text = world.call("GET /admin/daily-health-report?format=markdown", Value::Null).await.expect(200);
        assert_eq!(text.headers["content-type"], "text/markdown; charset=utf-8");
        assert!(text.text.contains("| uptime | >0.999 | 0.8000 ✗ |") && text.text.contains("## Incidents"), "{}", text.text);

        world.app.tidy_analytics(now()).await.unwrap();
        let kept = store.kpis(day..day + 1).await.unwrap();
        assert!(kept.iter().any(|(_, name, value)| name == "uptime" && (*value - 0.8).abs() < 1e-9), "{kept:?}");
        // Of a day that is asked for, and of the one before; what was kept is told when what it was made of is gone.
        let date = told["yesterday"].as_str().unwrap();
        let earlier = world.told(&world.admin, &format!("daily-health-report?day={date}")).await;
        assert_eq!((&earlier["today"], &earlier["window_seconds"]), (&told["yesterday"], &(2 * 86_400).into()));
        close(&figure(&earlier, "uptime")["today"]["value"], 0.8);
        assert!(figure(&earlier, "uptime")["yesterday"]["value"].is_null(), "{earlier}");
        store.keep_kpis(day - 1, &[("uptime", 0.75)]).await.unwrap();
        let earlier = world.told(&world.admin, &format!("daily-health-report?day={date}")).await;
        assert_eq!(figure(&earlier, "uptime")["yesterday"], json!({"value": 0.75, "met": false}));
        for wrong in ["format=pdf", "history=5000", "days=3", "day=2999-01-01", "day=yesterday", "day=1900-01-01"] {
            world.call(&format!("GET /admin/daily-health-report?{wrong}"), Value::Null).await.expect(422);
        }
        world.with_key(&eve, "GET /admin/daily-health-report", Value::Null).await.expect(403);
    }
}

on_both! {
    async fn capacity_is_told_from_samples_of_all_processes(db) {
        noon();
        let world = World::open(db).await;
        let eve = world.acme().await;
        let nothing = world.told(&world.admin, "capacity-status").await;
        assert_eq!((&nothing["current_utilization"], &nothing["scaling_recommendation"]), (&Value::Null, &Value::Null));
        assert!(nothing["resource_projections"][0]["slope_per_hour"].is_null());
        let end = now().unix_timestamp();
        for minute in 0..240_i64 {
            for instance in 1..=2_u128 {
                // Of 1,000 sessions of both together, two more are held each minute.
                let sample = Sample {
                    at: end - 60 * minute, instance: Uuid::from_u128(instance), seconds: 60.0, requests: 50,
                    sessions: 480 - minute, sessions_limit: 500, memory: Some(100), memory_limit: Some(1_000),
                    ..Sample::default()
                };
                world.app.store.add_sample(&sample).await.unwrap();
            }
        }
        let told = world.told(&world.admin, "capacity-status").await;
        close(&told["current_utilization"], 0.96);
        assert_eq!(told["scaling_recommendation"], "scale_up", "{told}");
        let first = &told["bottleneck_analysis"][0];
        assert_eq!((&first["resource"], first["limit"].as_f64(), first["headroom"].as_f64()), (&"users".into(), Some(1_000.0), Some(40.0)));
        let projection = |name: &str| {
            told["resource_projections"].as_array().unwrap().iter().find(|one| one["resource"] == name).unwrap().clone()
        };
        close(&projection("users")["slope_per_hour"], 0.12);
        assert!(projection("users")["reaches_80_percent_at"].is_string());
        close(&projection("requests")["needed_at_double_load"], 200.0);
        assert_eq!(projection("memory")["slope_per_hour"], 0.0, "{told}");
        assert!(projection("memory")["reaches_80_percent_at"].is_null() && projection("cpu")["slope_per_hour"].is_null());
        world.with_key(&eve, "GET /admin/capacity-status", Value::Null).await.expect(403);
    }
}

#[tokio::test]
async fn memory_is_told_by_what_is_kept_for_people() {
    let database = Database::sqlite();
    let world = World::open(&database).await;
    let eve = world.acme().await;
    let told = world.told(&world.admin, "diagnostics/memory").await;
    assert!(told["session_cache_hit_rate"].is_null() && told["heap_bytes"].is_null(), "{told}");
    assert_eq!(told["token_cache_utilization"].as_f64(), Some(0.0), "{told}");
    let keys = told["components"].as_array().unwrap().iter().find(|one| one["component"] == "api_keys").unwrap();
    assert!(keys["count"].as_i64().unwrap() >= 2 && keys["bytes"].as_i64().unwrap() > 200, "{told}");
    assert!(told["user_context_memory"].as_f64().unwrap() > 100.0 && told["resident_bytes"].as_f64().unwrap() > 1e5);
    assert_eq!(told["targets"]["user_context_memory"]["met"], true);
    world.with_key(&eve, "GET /admin/diagnostics/memory", Value::Null).await.expect(403);
}

#[tokio::test]
async fn two_processes_on_one_database_tell_the_same() {
    let Some(database) = Database::postgresql().await else { return };
    noon();
    let one = World::open(&database).await;
    let eve = one.acme().await;
    let other = one.beside(&database).await;
    let user = one.account(&eve).await;
    one.happened(&[call("acme", user, "read", &json!({})), call("acme", user, "read", &json!({}))]).await;
    other.happened(&[call("acme", user, "write", &json!({"total_us": 9}))]).await;
    one.app.sample(now()).await.unwrap();
    other.app.sample(now()).await.unwrap();
    for path in ["tenant-analytics/acme", "diagnostics/auth-failures", "daily-health-report", "capacity-status"] {
        let [mut here, mut there] = [one.told(&one.admin, path).await, other.told(&one.admin, path).await];
        for told in [&mut here, &mut there] {
            for own in ["generated_at", "instance_id", "window_seconds"] {
                told.as_object_mut().unwrap().remove(own);
            }
            // A moment passed between the two.
            told.as_object_mut().unwrap().remove("resource_projections");
        }
        assert_eq!(here, there, "{path}");
    }
    let told = one.told(&one.admin, "tenant-analytics/acme").await;
    assert_eq!(told["performance_metrics"]["requests"], 3, "{told}");
}
