//! The engine by itself: what wins, what is hidden, what depends on arguments, and which texts are refused.

use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::access::{Memberships, Role, SessionType, Subject};
use crate::id::TenantId;

const ADA: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
const OPS: Uuid = Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0001);
const CHANGING: Hints =
    Hints { read_only_hint: false, destructive_hint: true, idempotent_hint: false, open_world_hint: true };
const READING: Hints =
    Hints { read_only_hint: true, destructive_hint: false, idempotent_hint: true, open_world_hint: true };

fn rules(text: &str) -> Rules {
    match Rules::read(text, 1) {
        Ok((rules, _)) => rules,
        Err(mistakes) => panic!("{text}: {mistakes:?}"),
    }
}

fn wrong(text: &str) -> Vec<String> {
    Rules::read(text, 1).map(|_| ()).unwrap_err().iter().map(ToString::to_string).collect()
}

fn somebody(role: Role, client: &str, memberships: Memberships) -> Subject {
    let tenant = TenantId::default_tenant();
    Subject::new(&tenant, ADA, Some("ada"), role, &client.into(), SessionType::OAuth, &Arc::new(memberships))
}

fn ada() -> Subject {
    somebody(Role::User, "cli", Memberships::new(&[OPS], &["Mcp.Ops".to_owned()], false))
}

fn at<'a>(slug: &'a str, tags: &'a [String], what: What<'a>) -> Thing<'a> {
    Thing { place: Place { id: ServerId(Uuid::from_u128(slug.len() as u128)), revision: 1, slug, tags }, what }
}

fn tool(name: &str, hints: Hints) -> Thing<'_> {
    at("git", &[], What::Tool(name, hints))
}

fn sees(rules: &Rules, subject: &Subject, thing: &Thing<'_>) -> bool {
    decide(rules, subject, thing, Given::Listing) == Verdict::Allowed
}

fn call(rules: &Rules, thing: &Thing<'_>, arguments: &str) -> Verdict {
    decide(rules, &ada(), thing, Given::Call(Some(arguments.as_bytes())))
}

fn by(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Allowed => None,
        Verdict::Hidden(why) | Verdict::Refused(why) => why.rule.as_deref(),
    }
}

#[test]
fn the_default_set_permits_everything_and_asks_nobody() {
    let (own, read) = (Rules::default(), rules(DEFAULT));
    assert!(own.is_open() && read.is_open() && own.text() == DEFAULT);
    assert!(sees(&read, &ada(), &tool("push", CHANGING)));
    assert!(!rules("").is_open(), "what nothing permits is denied");
    assert!(!sees(&rules(""), &ada(), &tool("log", READING)));
    assert!(!rules("permit(principal, action, resource); forbid(principal, action, resource);").is_open());
}

#[test]
fn a_forbid_wins_and_is_named() {
    let rules = rules(
        r#"@id("all") permit(principal, action, resource);
           @id("no-push") @message("ask ops") forbid(principal, action, resource == Tool::"git/push");"#,
    );
    let verdict = call(&rules, &tool("push", CHANGING), "{}");
    assert!(matches!(&verdict, Verdict::Hidden(why) if why.message.as_deref() == Some("ask ops")), "{verdict:?}");
    assert_eq!(by(&verdict), Some("no-push"));
    assert_eq!(call(&rules, &tool("pull", CHANGING), "{}"), Verdict::Allowed);
}

#[test]
fn a_set_that_cannot_be_read_denies_everything() {
    let closed = Rules::closed("nonsense", 3, "it is nonsense");
    assert!(!sees(&closed, &ada(), &tool("log", READING)) && !closed.is_open());
    assert_eq!(closed.trouble(), Some("it is nonsense"));
}

#[test]
fn people_are_meant_by_id_role_group_app_role_client_and_the_name_that_was_given() {
    let log = tool("log", READING);
    for (condition, holds) in [
        (format!(r#"principal == User::"{ADA}""#), true),
        (format!(r#"principal in Group::"{OPS}""#), true),
        (r#"principal in Group::"bbbb0000-0000-4000-8000-000000000001""#.to_owned(), false),
        (r#"principal in AppRole::"Mcp.Ops""#.to_owned(), true),
        (r#"principal in Role::"user""#.to_owned(), true),
        (r#"principal in Role::"server_owner""#.to_owned(), false),
        (r#"principal.role == "user""#.to_owned(), true),
        (r#"principal has name && principal.name == "ada""#.to_owned(), true),
        (r#"context.client == Client::"cli""#.to_owned(), true),
        (r#"context.client == Client::"other""#.to_owned(), false),
        (r#"context.credential == "oauth""#.to_owned(), true),
        (r#"principal.tenant == "default""#.to_owned(), true),
    ] {
        let rules = rules(&format!("permit(principal, action, resource) when {{ {condition} }};"));
        assert_eq!(sees(&rules, &ada(), &log), holds, "{condition}");
    }
    let greater = rules(r#"permit(principal in Role::"server_owner", action, resource);"#);
    assert!(sees(&greater, &somebody(Role::Admin, "cli", Memberships::default()), &log), "a greater role is in it");
    assert!(!sees(&greater, &ada(), &log));
}

#[test]
fn things_are_meant_by_server_tag_name_and_what_tools_say_of_themselves() {
    let tags = ["finance".to_owned()];
    for (condition, thing, holds) in [
        (r#"resource in Server::"git""#, tool("log", READING), true),
        (r#"resource in Server::"git""#, at("git", &[], What::Server), true),
        (r#"resource in Server::"git""#, at("files", &[], What::Tool("log", READING)), false),
        (r#"resource == Resource::"git/file:///a""#, at("git", &[], What::Resource("file:///a")), true),
        (
            r#"resource is Resource && resource.uri like "file:///etc/*""#,
            at("git", &[], What::Resource("file:///a")),
            false,
        ),
        (r#"resource == Prompt::"git/review""#, at("git", &[], What::Prompt("review")), true),
        (
            r#"resource is Tool && resource.server.tags.contains("finance")"#,
            at("git", &tags, What::Tool("x", READING)),
            true,
        ),
        (r#"resource is Tool && resource.server.tags.contains("finance")"#, tool("x", READING), false),
        ("resource is Tool && resource.readOnlyHint", tool("log", READING), true),
        ("resource is Tool && resource.readOnlyHint", tool("log", CHANGING), false),
        ("resource is Tool && !resource.destructiveHint", tool("log", READING), true),
        ("resource is Tool && resource.idempotentHint && resource.openWorldHint", tool("log", READING), true),
        (r#"resource is Tool && resource.name like "get_*""#, tool("get_x", READING), true),
    ] {
        let rules = rules(&format!("permit(principal, action, resource) when {{ {condition} }};"));
        assert_eq!(sees(&rules, &ada(), &thing), holds, "{condition} {thing:?}");
    }
}

#[test]
fn a_tool_that_says_nothing_is_taken_for_a_dangerous_one() {
    assert_eq!(Hints::of(br#"{"name":"x"}"#), CHANGING);
    let reading = Hints::of(br#"{"name":"x","annotations":{"readOnlyHint":true}}"#);
    assert!(reading.read_only_hint && !reading.destructive_hint, "what only reads destroys nothing");
    assert!(Hints::of(br#"{"annotations":{"readOnlyHint":true,"destructiveHint":true}}"#).destructive_hint);
    assert_eq!(
        Hints::of(br#"{"annotations":{"readOnlyHint":"yes"}}"#),
        CHANGING,
        "what is no truth value says nothing"
    );
}

const LIMIT: &str = r#"
@id("all") permit(principal, action, resource);
@id("limit") @message("over the limit")
forbid(principal, action, resource == Tool::"git/pay")
when { context.number.hasTag("amount") && context.number.getTag("amount") > 100 };
@id("etc")
forbid(principal, action, resource in Server::"git")
when { resource is Tool && context.text.hasTag("/file/path") && context.text.getTag("/file/path") like "/etc/*" };
"#;

#[test]
fn what_depends_on_arguments_is_listed_and_decided_when_it_is_called() {
    let rules = rules(LIMIT);
    let pay = tool("pay", CHANGING);
    assert!(sees(&rules, &ada(), &pay));
    assert_eq!(rules.standing(&ada(), &pay).standing, Standing::Depends);
    assert_eq!(call(&rules, &pay, r#"{"amount":100}"#), Verdict::Allowed);
    assert_eq!(call(&rules, &pay, "{}"), Verdict::Allowed);
    let refused = call(&rules, &pay, r#"{"amount":101}"#);
    assert!(
        matches!(&refused, Verdict::Refused(why) if why.message.as_deref() == Some("over the limit")),
        "{refused:?}"
    );
    assert_eq!(by(&refused), Some("limit"));
    assert_eq!(by(&call(&rules, &pay, r#"{"file":{"path":"/etc/passwd"}}"#)), Some("etc"));
    assert_eq!(call(&rules, &pay, r#"{"file":{"path":"/home/x"}}"#), Verdict::Allowed);
    assert_eq!(rules.standing(&ada(), &at("files", &[], What::Tool("x", CHANGING))).standing, Standing::Allowed);
}

#[test]
fn no_argument_slips_past_a_rule_by_its_type_or_its_name() {
    let rules = rules(LIMIT);
    let pay = tool("pay", CHANGING);
    for arguments in [
        r#"{"amount":"1000"}"#,
        r#"{"amount":1e9}"#,
        r#"{"amount":1000.0}"#,
        r#"{"amount":99999999999999999999}"#,
        r#"{"amount":[1000]}"#,
        r#"{"Amount":1000}"#,
        r#"{"amount":1,"AMOUNT":1000}"#,
        r#"{"file":{"Path":"/etc/passwd"}}"#,
        r#"{"file":{"path":["/etc/passwd"]}}"#,
    ] {
        let verdict = call(&rules, &pay, arguments);
        assert!(matches!(verdict, Verdict::Refused(_)), "{arguments}: {verdict:?}");
    }
    assert_eq!(by(&call(&rules, &pay, "{\"amou\\u006et\":101}")), Some("limit"), "an escaped name is the same name");
    assert_eq!(
        call(&rules, &tool("other", CHANGING), r#"{"amount":"x"}"#),
        Verdict::Allowed,
        "the rule is not about it"
    );
}

#[test]
fn a_rule_that_already_fails_without_arguments_lists_nothing() {
    let rules = rules(
        r#"permit(principal, action, resource is Tool)
           when { principal in Role::"admin" && context.flag.hasTag("dry") && context.flag.getTag("dry") };"#,
    );
    let thing = tool("deploy", CHANGING);
    assert!(!sees(&rules, &ada(), &thing), "only admins could ever call it");
    let admin = somebody(Role::Admin, "cli", Memberships::default());
    assert!(sees(&rules, &admin, &thing));
    let call = |arguments: &'static str| decide(&rules, &admin, &thing, Given::Call(Some(arguments.as_bytes())));
    assert_eq!(call(r#"{"dry":true}"#), Verdict::Allowed);
    assert!(matches!(call(r#"{"dry":false}"#), Verdict::Refused(why) if why.rule.is_none()));
    assert!(matches!(call("{}"), Verdict::Refused(_)));
}

#[test]
fn a_rule_that_cannot_be_decided_by_denies() {
    let rules = rules(
        r#"@id("all") permit(principal, action, resource);
           @id("sum") forbid(principal, action, resource)
           when { context.number.hasTag("n") && context.number.getTag("n") + 1 > 10 };"#,
    );
    assert_eq!(by(&call(&rules, &tool("x", READING), r#"{"n":9223372036854775807}"#)), Some("sum"));
    assert_eq!(call(&rules, &tool("x", READING), r#"{"n":3}"#), Verdict::Allowed);
}

#[test]
fn groups_that_nobody_knows_of_help_nobody() {
    let taking = rules(&format!(
        r#"permit(principal, action, resource); forbid(principal in Group::"{OPS}", action, resource);"#
    ));
    let unknown = somebody(Role::User, "cli", Memberships::unheard());
    let out = somebody(Role::User, "cli", Memberships::default());
    let log = tool("log", READING);
    assert!(!sees(&taking, &unknown, &log) && sees(&taking, &out, &log) && !sees(&taking, &ada(), &log));
    let unless = rules(&format!(r#"permit(principal, action, resource) unless {{ principal in Group::"{OPS}" }};"#));
    assert!(!sees(&unless, &unknown, &log) && sees(&unless, &out, &log));
    let giving = rules(&format!(
        r#"permit(principal in Group::"{OPS}", action, resource); permit(principal, action, resource == Tool::"git/log");"#
    ));
    assert!(sees(&giving, &unknown, &log), "a group that only gives takes nothing from who is not known to be in it");
}

#[test]
fn mistakes_are_told_by_line_and_column_with_what_to_do() {
    for (text, expected) in [
        ("permit(principal, action, resource)", "line 1, column"),
        (
            "permit(principal, action, resource);\npermit(principal, action, resource) when { resource.colour };",
            "line 2, column",
        ),
        ("permit(principal, action, resource) when { resource.readOnlyHint };", "line 1, column"),
        ("permit(principal == ?principal, action, resource);", "line 1, column 21: a rule has no slots"),
        (
            "\npermit(principal == User::\"ada\", action, resource);",
            "line 2, column 21: User::\"ada\": an account is named by its id",
        ),
        (
            "permit(principal in Role::\"boss\", action, resource);",
            "the roles are user, server_owner, tenant_admin and admin",
        ),
        ("permit(principal, action, resource == Tool::\"push\");", "write the server's slug, a slash"),
        ("permit(principal, action == Action::\"see\", resource);", "line 1"),
        (
            "permit(principal, action, resource) when { context.text.hasTag(principal.role) };",
            "name the argument as a text",
        ),
        (
            "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") permit(principal, action, resource);",
            "line 2, column 1: another rule is called `a`",
        ),
    ] {
        let told = wrong(text).join("\n");
        assert!(told.contains(expected), "{text}\n{told}");
    }
}

#[test]
fn no_text_is_deeper_or_longer_than_it_may_be() {
    let deep = |count: usize| {
        format!("permit(principal, action, resource) when {{ {}true{} }};", "(".repeat(count), ")".repeat(count))
    };
    assert!(wrong(&deep(100_000))[0].contains("nested"));
    assert!(Rules::read(&deep(20), 1).is_ok());
    let chain =
        |count: usize| format!("permit(principal, action, resource) when {{ true{} }};", " && true".repeat(count));
    assert!(wrong(&chain(30_000))[0].contains("operators"));
    assert!(Rules::read(&chain(90), 1).is_ok());
    assert!(sees(&rules(&chain(90)), &ada(), &tool("x", READING)));
    let ifs =
        format!("permit(principal, action, resource) when {{ {} true }};", "if true then true else ".repeat(5_000));
    assert!(wrong(&ifs)[0].contains("operators"));
    let many = "permit(principal, action, resource);\n".repeat(MOST_RULES + 1);
    assert!(wrong(&many)[0].contains("more than 1000 rules"));
    assert!(wrong(&" ".repeat(MOST_TEXT + 1))[0].contains("longer than"));
    let set: Vec<String> = (0..5_000).map(|n| format!("\"t{n}\"")).collect();
    let set =
        format!("permit(principal, action, resource is Tool) when {{ [{}].contains(resource.name) }};", set.join(","));
    assert!(sees(&rules(&set), &ada(), &tool("t4999", READING)), "a long set is no deep one");
    let quoted = format!("// {}\n{}", "(".repeat(500), DEFAULT);
    assert!(Rules::read(&quoted, 1).is_ok(), "what is no rule does not count");
}

#[test]
fn decisions_are_remembered_within_bounds_and_by_all_that_tells_them_apart() {
    let rules = rules("permit(principal, action, resource is Tool) when { resource.readOnlyHint };");
    let (ada, reading, changing) = (ada(), tool("x", READING), tool("x", CHANGING));
    assert!(sees(&rules, &ada, &reading) && !sees(&rules, &ada, &changing), "the same name, another tool");
    assert!(sees(&rules, &ada, &reading));
    assert_eq!(rules.remembered(), 2);
    for number in 0..40_000 {
        sees(&rules, &ada, &tool(&format!("tool-{number}"), READING));
    }
    assert!(rules.remembered() <= 16 * 1_024);
    let before = rules.remembered();
    sees(&rules, &ada, &tool(&"n".repeat(600), READING));
    assert_eq!(rules.remembered(), before, "a long name is not kept");
}

/// Rules of every form that matters here, over few names.
fn a_rule() -> impl Strategy<Value = String> {
    let effect = prop::sample::select(vec!["permit", "forbid"]);
    let principal =
        prop::sample::select(vec!["principal", r#"principal in Role::"user""#, r#"principal in Role::"admin""#]);
    let resource = prop::sample::select(vec![
        "resource",
        "resource is Tool",
        r#"resource in Server::"git""#,
        r#"resource == Tool::"git/a""#,
        r#"resource in Server::"files""#,
    ]);
    let condition = prop::sample::select(vec![
        "",
        " when { resource is Tool && resource.readOnlyHint }",
        " unless { resource is Tool && resource.destructiveHint }",
        r#" when { context.text.hasTag("p") && context.text.getTag("p") like "x*" }"#,
        r#" when { principal in Role::"admin" && context.flag.hasTag("f") && context.flag.getTag("f") }"#,
        r#" unless { context.flag.hasTag("f") && context.flag.getTag("f") }"#,
    ]);
    (effect, principal, resource, condition).prop_map(|(effect, principal, resource, condition)| {
        format!("{effect}({principal}, action, {resource}){condition};")
    })
}

fn a_thing() -> impl Strategy<Value = (&'static str, &'static str, Hints)> {
    (
        prop::sample::select(vec!["git", "files"]),
        prop::sample::select(vec!["a", "b"]),
        prop::sample::select(vec![READING, CHANGING]),
    )
}

const ARGUMENTS: [&str; 6] =
    ["{}", r#"{"p":"xy"}"#, r#"{"p":"no"}"#, r#"{"f":true}"#, r#"{"f":false,"p":"x"}"#, r#"{"f":true,"p":"no"}"#];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is listed can be called with some arguments or depends on them; what is not listed can be called with none.
    #[test]
    fn listing_and_calling_never_differ(set in prop::collection::vec(a_rule(), 0..6), (slug, name, hints) in a_thing()) {
        let rules = rules(&set.join("\n"));
        let thing = at(slug, &[], What::Tool(name, hints));
        let subject = ada();
        let listed = sees(&rules, &subject, &thing);
        let standing = rules.standing(&subject, &thing).standing;
        for arguments in ARGUMENTS {
            let verdict = call(&rules, &thing, arguments);
            prop_assert_eq!(matches!(verdict, Verdict::Hidden(_)), !listed);
            match standing {
                Standing::Allowed => prop_assert_eq!(verdict, Verdict::Allowed),
                Standing::Denied => prop_assert!(verdict != Verdict::Allowed),
                Standing::Depends => prop_assert!(listed),
            }
        }
    }

    /// One more `forbid` never permits anything, one more `permit` never denies anything that was permitted.
    #[test]
    fn a_forbid_only_takes_and_a_permit_only_gives(
        set in prop::collection::vec(a_rule(), 0..5),
        more in a_rule(),
        (slug, name, hints) in a_thing(),
    ) {
        let (before, after) = (rules(&set.join("\n")), rules(&[set.join("\n"), more.clone()].join("\n")));
        let thing = at(slug, &[], What::Tool(name, hints));
        for arguments in ARGUMENTS {
            let (was, is) = (call(&before, &thing, arguments), call(&after, &thing, arguments));
            if more.starts_with("forbid") {
                prop_assert!(is != Verdict::Allowed || was == Verdict::Allowed, "{} {}", more, arguments);
            } else {
                prop_assert!(was != Verdict::Allowed || is == Verdict::Allowed, "{} {}", more, arguments);
            }
        }
    }
}

#[test]
fn what_rules_compare_is_bounded() {
    let like = |pattern: &str| {
        format!("permit(principal, action, resource is Tool) when {{ resource.name like \"{pattern}\" }};")
    };
    assert!(Rules::read(&like(&"a*".repeat(8)), 1).is_ok());
    assert!(wrong(&like(&"a*".repeat(9)))[0].contains("8 wildcards"));
    assert!(Rules::read(&like(&"\\*".repeat(9)), 1).is_ok(), "a star that means itself is none");
    assert!(Rules::read(&like(&"a".repeat(1_024)), 1).is_ok());
    assert_eq!(wrong(&like(&"a".repeat(1_025))), ["line 1, column 71: this text is longer than 1024 bytes"]);
    let many = |count: usize| like(&"a".repeat(1_000)).repeat(count);
    assert!(Rules::read(&many(16), 1).is_ok());
    assert!(wrong(&many(17))[0].contains("together"));

    let resources =
        rules("permit(principal, action, resource) when { resource is Resource && resource.uri like \"a*b\" };");
    let uri = |length: usize| format!("a{}b", "a".repeat(length - 2));
    for (length, may) in [(2_048, true), (2_049, false)] {
        assert_eq!(sees(&resources, &ada(), &at("git", &[], What::Resource(&uri(length)))), may, "{length}");
    }
    let late = rules(
        "permit(principal, action, resource) when { context.list.hasTag(\"l\") && context.list.getTag(\"l\").contains(\"a\") };",
    );
    for (count, may) in [(1_000, true), (20_000, false)] {
        let list = format!("{{\"l\":[{}]}}", vec!["\"a\""; count].join(","));
        assert_eq!(call(&late, &tool("push", CHANGING), &list) == Verdict::Allowed, may, "{count}");
    }
}

#[tokio::test]
async fn a_set_is_read_beside_the_thread_that_serves() {
    let mut reading = std::pin::pin!(kept::read_aside(DEFAULT, 1));
    assert!(futures_util::poll!(&mut reading).is_pending(), "nothing is read here");
    assert!(reading.await.unwrap().0.is_open());
    let texts = [DEFAULT, "permit(", DEFAULT, "permit("];
    let read = futures_util::future::join_all(texts.map(|text| kept::read_aside(text, 1))).await;
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, false], "one after the other");
}

#[test]
fn the_first_mistakes_are_told_in_their_order() {
    let line = "permit(principal, action, resource) when { principal.age > 3 };\n";
    let told = wrong(&line.repeat(200));
    let lines: Vec<String> = (1..=20).map(|number| format!("line {number}, column")).collect();
    assert!(told.len() == 20 && told.iter().zip(&lines).all(|(said, line)| said.starts_with(line)), "{told:?}");
    let line = "permit(principal == User::\"ada\", action, resource);\n";
    assert_eq!(wrong(&line.repeat(200)).len(), 20);
}
