//! Days in the life of what providers gave, on a clock that tests move on: the gateway's own refreshing over its database, and providers
//! that count. Entra's stand-in has the rules; a plain provider has the crowds.

use std::time::Duration;

use mcp_registry_gateway::app::{App, Forced};
use mcp_registry_gateway::clock;
use mcp_registry_gateway::crypto::MasterKey;
use mcp_registry_gateway::grants::LoginState;
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::idp::{ENTRA, OIDC, ProviderTokens};
use mcp_registry_gateway::secret::Secret;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::entra::Entra;
use testkit::provider::Provider;
use uuid::Uuid;

use crate::refresh_world::{CALLBACK, account, behind, comes, gateway, is_live, keeps, live, login, use_now};
use crate::store_databases::Database;

const ALICE: &str = "alice@contoso.onmicrosoft.com";
const BOB: &str = "bob@contoso.onmicrosoft.com";
const TESS: &str = "tess@contoso.onmicrosoft.com";
const OWEN: &str = "owen@contoso.onmicrosoft.com";
const CAROL: &str = "carol@contoso.onmicrosoft.com";
/// Within so much time everybody is asked about: as long as Entra's tokens live.
const CYCLE: Duration = Duration::from_mins(66);

/// What the gateway tells of its refreshes.
#[derive(Debug, Default)]
struct Told {
    success: i64,
    failed: i64,
    proactive: i64,
    emergency: i64,
    retries: i64,
}

impl Told {
    async fn by(app: &App) -> Self {
        let mut told = Self::default();
        for sum in app.grants.refresh_figures(None, false, 24 * 30, now()).await.unwrap().sums {
            told.retries += sum.retries;
            if sum.result != "success" {
                told.failed += sum.count;
                continue;
            }
            told.success += sum.count;
            match sum.kind.as_str() {
                "proactive" => told.proactive += sum.count,
                "emergency" => told.emergency += sum.count,
                other => panic!("{other}"),
            }
        }
        told
    }

    /// Whether it is as good as it has to be when one question in twenty fails.
    #[expect(clippy::cast_precision_loss, reason = "counts of days")]
    fn is_good(&self) {
        let share = |part: i64, all: i64| part as f64 / all as f64;
        let (all, by_itself) = (self.success + self.failed, self.proactive + self.emergency);
        assert!(share(self.success, all) >= 0.999, "{self:?}");
        assert!(share(self.proactive, by_itself) > 0.95 && share(self.emergency, by_itself) < 0.05, "{self:?}");
        assert!(share(self.retries, all) < 0.2, "{self:?}");
        eprintln!(
            "{} refreshes: {:.5} succeed, {:.4} proactive, {:.4} emergencies, {:.4} retries each",
            all,
            share(self.success, all),
            share(self.proactive, by_itself),
            share(self.emergency, by_itself),
            share(self.retries, all)
        );
    }
}

/// Questions that have failed about people about whom none was answered since: no refresh has come out for them yet.
async fn pending(app: &App, logins: &[(Uuid, Uuid)]) -> i64 {
    let mut failures = 0;
    for (id, _) in logins {
        failures += i64::from(login(app, *id).await.failures);
    }
    failures
}

/// A gateway with one person who signs in many times; every login, with its session.
async fn crowd(provider: &Provider, database: &Database, people: usize) -> (App, Vec<(Uuid, Uuid)>) {
    let args = [
        format!("--oidc-issuer={}", provider.issuer()),
        "--oidc-client-id=gateway".to_owned(),
        "--oidc-client-secret=a-secret-of-the-gateway".to_owned(),
        "--oidc-role-user=*".to_owned(),
    ];
    let app = gateway(&database.url, &MasterKey::generate(), &args).await;
    let (tenant, mut logins) = (TenantId::default_tenant(), Vec::with_capacity(people));
    for person in 0..people {
        let user = account(&app, &format!("person-{person}")).await;
        let tokens = ProviderTokens {
            access: None,
            refresh: Secret::new(provider.token(person)),
            expires_at: now() + Duration::from_hours(1),
            scopes: Vec::new(),
            subject: format!("person-{person}"),
        };
        logins.push(keeps(&app, OIDC, (&tenant, user), &tokens, now()).await);
    }
    (app, logins)
}

/// So many live so long while one question in twenty fails, and what the gateway tells is what the provider counted.
async fn crowd_lives(people: usize, time: Duration) {
    let (provider, database) = (Provider::start().await.unwrap(), Database::sqlite());
    let (app, logins) = crowd(&provider, &database, people).await;
    provider.fail(Some(20));
    let mut left = time;
    while !left.is_zero() {
        let some = left.min(Duration::from_hours(1));
        live(&app, None, some).await;
        left -= some;
        provider.counts();
    }
    let (told, counts) = (Told::by(&app).await, provider.counts());
    told.is_good();
    let failed = told.retries + pending(&app, &logins).await;
    assert_eq!((i64::try_from(counts.given), i64::try_from(counts.failed)), (Ok(told.success), Ok(failed)), "{told:?}");
    assert_eq!((counts.asked, counts.spent), (counts.given + counts.failed, 0), "no token is shown that was replaced");
    assert!(counts.most <= 16, "{counts:?}");
    for (id, grant) in logins {
        let kept = login(&app, id).await;
        assert!(kept.state == LoginState::Active && kept.life.expires_at > now() && is_live(&app, grant).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_keeps_its_tokens_fresh_though_one_question_in_twenty_fails() {
    crowd_lives(500, Duration::from_hours(8)).await;
}

/// How many are wanted.
fn of(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// `just refresh-days`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes for each day"]
async fn ten_thousand_keep_their_tokens_fresh_for_days_though_one_question_in_twenty_fails() {
    crowd_lives(usize::try_from(of("PEOPLE", 10_000)).unwrap(), Duration::from_hours(24 * of("DAYS", 2))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_leaves_a_provider_alone_that_throttles_and_comes_back_a_few_at_a_time() {
    let (provider, database) = (Provider::start().await.unwrap(), Database::sqlite());
    let (app, logins) = crowd(&provider, &database, 200).await;
    live(&app, None, Duration::from_mins(30)).await;
    assert_eq!(provider.counts().asked, 0, "nobody is due yet");
    provider.throttle(Some(300));
    // Everybody's tokens end meanwhile.
    let mut minutes = Vec::new();
    for _ in 0..60 {
        let before = provider.counts().asked;
        live(&app, None, Duration::from_mins(1)).await;
        minutes.push(provider.counts().asked - before);
    }
    assert!(
        minutes.iter().all(|asked| *asked <= 1),
        "one question, and none while it wants to be left alone: {minutes:?}"
    );
    let asked: u64 = minutes.iter().sum();
    assert!((6..=13).contains(&asked), "once in five minutes: {minutes:?}");
    for (id, grant) in &logins {
        assert!(
            login(&app, *id).await.state == LoginState::Active && is_live(&app, *grant).await,
            "nobody is signed out"
        );
    }
    provider.throttle(None);
    let before = provider.counts();
    live(&app, None, Duration::from_mins(20)).await;
    let after = provider.counts();
    assert_eq!((after.given, after.asked - before.asked), (200, 200), "each once");
    assert!(after.most <= 16, "no stampede: {after:?}");
    for (id, _) in logins {
        assert!(login(&app, id).await.life.expires_at > now());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_answered_slowly_keeps_nobody_waiting() {
    let (provider, database) = (Provider::start().await.unwrap(), Database::sqlite());
    let (app, logins) = crowd(&provider, &database, 90).await;
    clock::move_on(Duration::from_hours(1));
    provider.hold(Some(7));
    let running = tokio::spawn({
        let app = app.clone();
        async move { app.refresh_all().await }
    });
    while provider.counts().given < 89 {
        assert!(!running.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(provider.open(), 1, "it is waited for still");
    provider.hold(None);
    running.await.unwrap().unwrap();
    assert_eq!(provider.counts().given, 90);
    assert!(login(&app, logins[7].0).await.life.expires_at > now());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wants_it_while_another_has_it_done_is_told_what_comes_of_that() {
    let (provider, database) = (Provider::start().await.unwrap(), Database::sqlite());
    let (app, logins) = crowd(&provider, &database, 1).await;
    let tenant = TenantId::default_tenant();
    let user = login(&app, logins[0].0).await.user;
    let tokens = ProviderTokens {
        access: None,
        refresh: Secret::new(provider.token(1)),
        expires_at: now() + Duration::from_hours(1),
        scopes: Vec::new(),
        subject: "person-0".to_owned(),
    };
    keeps(&app, OIDC, (&tenant, user), &tokens, now()).await;
    provider.hold(Some(0));
    let release = async {
        while provider.open() == 0 || provider.counts().given == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        provider.hold(None);
    };
    let (one, two, ()) = tokio::join!(app.refresh_now(&tenant, user), app.refresh_now(&tenant, user), release);
    assert_eq!((one.unwrap(), two.unwrap()), (Forced::Done, Forced::Done));
    let counts = provider.counts();
    assert_eq!((counts.asked, counts.most), (2, 1), "each once, and one after the other");
    assert!(matches!(app.refresh_now(&tenant, user).await.unwrap(), Forced::TooSoon(_)), "that one was done");
}

/// A gateway with sessions of these people, so many of each, which Entra gave now.
async fn of_entra(entra: &Entra, database: &Database, people: &[&str], each: usize) -> (App, Vec<Vec<(Uuid, Uuid)>>) {
    let app = gateway(&database.url, &MasterKey::generate(), &behind(entra.base_url())).await;
    let mut all = Vec::new();
    for person in people {
        let (tenant, user, tokens) = comes(&app, entra, person).await;
        let mut own = Vec::new();
        for _ in 0..each {
            own.push(keeps(&app, ENTRA, (&tenant, user), &tokens, now()).await);
        }
        all.push(own);
    }
    forget(entra, "log").await;
    (app, all)
}

async fn forget(entra: &Entra, what: &str) {
    let request = Request::new(http::Method::DELETE, "".into()).path(&format!("/_sim/{what}"));
    assert!(Client::new(entra.base_url()).send(request).await.unwrap().status.is_success());
}

async fn fault(entra: &Entra, probability: f64, action: Value) {
    let rule = json!({
        "match": {"endpoint": "token", "grant_type": "refresh_token"}, "times": -1, "probability": probability, "action": action,
    });
    entra.post("/_sim/faults", rule).await.unwrap();
}

/// How the stand-in answered questions to refresh, oldest first.
async fn answers(entra: &Entra) -> Vec<Value> {
    let asked = entra.log("/token").await.unwrap();
    asked
        .into_iter()
        .filter(|asked| asked["grant_type"] == "refresh_token")
        .map(|asked| asked["status"].clone())
        .collect()
}

/// So many sessions of each of four people live so long while one question in twenty fails, and what the gateway tells is what Entra noted.
async fn entra_lives(each: usize, hours: u64) {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let database = Database::sqlite();
    let (app, people) = of_entra(&entra, &database, &[ALICE, BOB, TESS, OWEN], each).await;
    for action in [json!({"status": 503}), json!({"status": 500}), json!({"drop": true})] {
        fault(&entra, 0.017, action).await;
    }
    let (mut well, mut not) = (0, 0);
    for _ in 0..hours {
        live(&app, Some(&entra), Duration::from_hours(1)).await;
        // It keeps the latest only.
        for status in answers(&entra).await {
            if status == 200 { well += 1 } else { not += 1 }
        }
        forget(&entra, "log").await;
    }
    let (told, logins) = (Told::by(&app).await, people.concat());
    told.is_good();
    let failed = told.retries + pending(&app, &logins).await;
    assert_eq!((well, not), (told.success, failed), "{told:?}");
    for (id, grant) in logins {
        let kept = login(&app, id).await;
        assert!(kept.state == LoginState::Active && kept.life.expires_at > now() && is_live(&app, grant).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_with_entra_keeps_everybody_signed_in_though_one_question_in_twenty_fails() {
    entra_lives(20, 24).await;
}

/// `just refresh-days`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn days_with_entra_keep_hundreds_signed_in_though_one_question_in_twenty_fails() {
    entra_lives(75, 24 * of("DAYS", 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_longer_let_in_is_out_within_one_cycle_and_nobody_else_is_touched() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let database = Database::sqlite();
    let (app, people) = of_entra(&entra, &database, &[ALICE, BOB, TESS, OWEN, CAROL], 8).await;
    live(&app, Some(&entra), CYCLE).await;
    for (person, what) in [(BOB, "revoke"), (TESS, "disable"), (OWEN, "require-mfa")] {
        entra.post(&format!("/_sim/users/{person}/{what}"), json!({})).await.unwrap();
    }
    entra.post("/_sim/refresh-tokens/expire", json!({"user": CAROL})).await.unwrap();
    live(&app, Some(&entra), CYCLE).await;
    let states =
        [LoginState::Active, LoginState::Dead, LoginState::Dead, LoginState::NeedsInteraction, LoginState::Dead];
    for ((own, state), person) in people.iter().zip(states).zip([ALICE, BOB, TESS, OWEN, CAROL]) {
        let mut so = 0;
        for (id, grant) in own {
            assert_eq!(is_live(&app, *grant).await, person == ALICE, "{person}");
            so += usize::from(login(&app, *id).await.state == state);
        }
        // With the first word that an account is disabled all of it ends, and nobody asks about the rest.
        assert!(so == own.len() || (person == TESS && so > 0), "{person}: {so}");
    }
    let asked = answers(&entra).await.len();
    live(&app, Some(&entra), CYCLE).await;
    let later = answers(&entra).await.split_off(asked);
    assert!(later.len() >= 8 && later.iter().all(|status| *status == 200), "who is out is not asked about: {later:?}");
    let failed = Told::by(&app).await.failed;
    assert!((25..=32).contains(&failed), "each once, and of the disabled account at least one: {failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lives_on_beyond_an_outage_is_back_within_minutes() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let database = Database::sqlite();
    let (app, people) = of_entra(&entra, &database, &[ALICE], 12).await;
    live(&app, Some(&entra), Duration::from_mins(40)).await;
    fault(&entra, 1.0, json!({"status": 503})).await;
    live(&app, Some(&entra), Duration::from_hours(2)).await;
    forget(&entra, "faults").await;
    live(&app, Some(&entra), Duration::from_mins(10)).await;
    for (id, grant) in &people[0] {
        let kept = login(&app, *id).await;
        assert!(kept.failures == 0 && kept.life.expires_at > now() && is_live(&app, *grant).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tokens_are_stored_before_the_directory_is_asked() {
    let Some(entra) = Entra::start(&[CALLBACK]).await.unwrap() else { return };
    let database = Database::sqlite();
    let mut args = behind(entra.base_url());
    args.push("--azure-role-server-owner=99990000-0000-4000-8000-000000001249".to_owned());
    let app = gateway(&database.url, &MasterKey::generate(), &args).await;
    let (tenant, user, tokens) = comes(&app, &entra, CAROL).await;
    let (id, grant) = keeps(&app, ENTRA, (&tenant, user), &tokens, now() - time::Duration::hours(1)).await;
    use_now(&app, &[grant]).await;
    entra.post("/_sim/config", json!({"rotation": "strict"})).await.unwrap();
    let rule = json!({"match": {"endpoint": "graph"}, "times": 2, "action": {"status": 503}});
    entra.post("/_sim/faults", rule).await.unwrap();
    let before = answers(&entra).await.len();
    for failures in 1..=2 {
        app.refresh_all().await.unwrap();
        let kept = login(&app, id).await;
        assert_eq!((kept.failures, kept.state), (failures, LoginState::Active), "the directory does not answer");
        // Within the pause nobody asks; whoever asks then shows what came last, or it would be refused.
        clock::move_on(Duration::from_mins(2));
    }
    app.refresh_all().await.unwrap();
    let kept = login(&app, id).await;
    assert_eq!((kept.failures, kept.cut_off_at, kept.state), (0, None, LoginState::Active));
    assert_eq!(
        answers(&entra).await.split_off(before),
        [200; 6],
        "two of each: one for the gateway, one for the directory"
    );
}
