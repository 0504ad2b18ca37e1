//! The rules, dashboards and runbooks of `examples/monitoring` and `docs/runbooks` against the gateway: what they name is there, each
//! alert is tested and has its page, and every command of a page is one that the program has.

mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use mcp_registry_gateway::router;
use serde_json::Value;

const MANUAL: &str = "https://manual.example/runbooks/";
/// What each runbook says.
const SAYS: &[&str] = &["- **Means**:", "- **Affected**:", "- **Look**:", "- **Do**:", "- **Over when**:"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn monitoring(file: &str) -> PathBuf {
    root().join("examples/monitoring").join(file)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(&monitoring(file))).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The rules of a file, each with the name of its group.
fn rules(file: &str) -> Vec<(String, Value)> {
    let groups = yaml(file)["groups"].as_array().unwrap().clone();
    let of = |group: &Value| {
        let name = text(&group["name"]).to_owned();
        list(&group["rules"]).iter().map(move |rule| (name.clone(), rule.clone())).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of).collect()
}

fn alerts() -> Vec<(String, Value)> {
    rules("rules/alerts.yml")
}

type Labels = BTreeSet<String>;

/// What Prometheus has of the gateway: names of series, with their labels.
struct Series(BTreeMap<String, Labels>);

impl Series {
    /// Those of the list of metrics, and what rules record of them.
    fn all() -> Self {
        let mut all = Self(BTreeMap::new());
        let from_prometheus =
            ["up", "ALERTS", "ALERTS_FOR_STATE"].map(|name| (name, vec!["alertname", "alertstate", "severity"]));
        for (name, labels) in from_prometheus.into_iter().chain([("mcp_metrics_series_dropped_total", vec!["family"])])
        {
            all.add(name, labels);
        }
        for line in read(&root().join("tests/it/snapshots/it__snapshots__metrics.snap")).lines() {
            let Some((name, rest)) = line.split_once(' ').filter(|(name, _)| name.starts_with("mcp_")) else {
                continue;
            };
            let (kind, labels) = rest.trim_end_matches(']').split_once('[').unwrap();
            let labels = labels.split(", ");
            for label in labels.clone() {
                assert!(!["job", "instance"].contains(&label), "{name}: Prometheus keeps `{label}` for the scrape");
            }
            if kind == "Histogram" {
                all.add(&format!("{name}_bucket"), labels.clone().chain(["le"]));
                all.add(&format!("{name}_sum"), labels.clone());
                all.add(&format!("{name}_count"), labels);
            } else {
                all.add(name, labels);
            }
        }
        let process = read(&root().join("src/telemetry/process.rs"));
        process.split("one(\"").skip(1).for_each(|rest| all.add(rest.split('"').next().unwrap(), []));
        assert!(all.0.len() > 60, "the list of metrics is there");
        for (_, rule) in rules("rules/recording.yml") {
            let mut labels = all.check(text(&rule["expr"]), text(&rule["record"]));
            labels.extend(rule["labels"].as_object().into_iter().flatten().map(|(label, _)| label.clone()));
            all.add(text(&rule["record"]), labels.iter().map(String::as_str));
        }
        all
    }

    fn add<'a>(&mut self, name: &str, labels: impl IntoIterator<Item = &'a str>) {
        let labels = labels.into_iter().chain(["job", "instance"]).filter(|label| !label.is_empty());
        self.0.entry(name.to_owned()).or_default().extend(labels.map(str::to_owned));
    }

    /// That what an expression names is there; all labels of it.
    fn check(&self, expression: &str, place: &str) -> Labels {
        let named = promql::named(expression);
        assert!(!named.selected.is_empty(), "{place}: `{expression}` names nothing");
        let mut known = Labels::new();
        for (name, labels) in named.selected {
            let Some(own) = self.0.get(&name) else { panic!("{place}: there is no `{name}`") };
            for label in labels {
                assert!(own.contains(&label), "{place}: `{name}` has no label `{label}`");
            }
            known.extend(own.iter().cloned());
        }
        for label in named.grouped {
            assert!(known.contains(&label), "{place}: nothing in `{expression}` has a label `{label}`");
        }
        known
    }
}

/// The words between `before` and `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split_once(after)).map(|(word, _)| word.trim()).collect()
}

#[test]
fn alerts_name_what_is_there() {
    let series = Series::all();
    for (_, alert) in alerts() {
        let name = text(&alert["alert"]);
        series.check(text(&alert["expr"]), name);
        let annotations = &alert["annotations"];
        assert!(!text(&annotations["summary"]).contains("{{"), "{name}: a summary is the same for all");
        assert!(["critical", "warning", "info"].contains(&text(&alert["labels"]["severity"])), "{name}: severity");
        assert!(
            text(&annotations["description"]).contains("$labels.job") || name == "McpGatewayAbsent",
            "{name}: whose"
        );
    }
}

/// Every alert has a test in which it does not fire at first and then does, with the labels that its description names.
#[test]
fn every_alert_is_tested() {
    let tests = ["rules/tests.yml", "rules/tests-budget.yml"].map(yaml);
    let mut tested: BTreeMap<&str, &Value> = BTreeMap::new();
    for test in tests.iter().flat_map(|tests| list(&tests["tests"])) {
        assert!(tested.insert(text(&test["name"]), test).is_none(), "{} is there twice", test["name"]);
    }
    for (_, alert) in alerts() {
        let name = text(&alert["alert"]);
        let test = tested.remove(name).unwrap_or_else(|| panic!("{name} has no test"));
        let expected = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
        let looks = list(&test["promql_expr_test"]);
        assert!(looks.iter().all(|look| look["expr"] == expected.as_str()), "{name}: looks at itself");
        let (firing, silent): (Vec<_>, Vec<_>) = looks.iter().partition(|look| !list(&look["exp_samples"]).is_empty());
        assert!(!firing.is_empty() && !silent.is_empty(), "{name}: a test sees it fire, and not fire");
        let samples = firing.iter().flat_map(|look| list(&look["exp_samples"])).map(|sample| text(&sample["labels"]));
        for labels in samples {
            for label in between(text(&alert["annotations"]["description"]), "$labels.", " ") {
                assert!(labels.contains(&format!("{label}=\"")), "{name}: says `{label}`, and has {labels}");
            }
        }
    }
    assert_eq!(tested.into_keys().collect::<Vec<_>>(), ["all is well"], "tests without an alert");
}

/// The headings of a page, each with what stands below it.
fn sections(page: &str) -> Vec<(&str, &str)> {
    page.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect()
}

fn pages() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(root().join("docs/runbooks")).unwrap();
    let page = |path: PathBuf| (path.file_stem().unwrap().to_str().unwrap().to_owned(), read(&path));
    let mut pages: Vec<_> = folder.map(|entry| page(entry.unwrap().path())).collect();
    pages.sort();
    pages
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let mut missing: BTreeSet<(String, String)> = BTreeSet::new();
    for (group, alert) in alerts() {
        let name = text(&alert["alert"]);
        let url = format!("{MANUAL}{group}.html#{}", name.to_lowercase());
        assert_eq!(text(&alert["annotations"]["runbook_url"]), url, "{name}");
        assert!(missing.insert((group, name.to_owned())), "{name} is there twice");
    }
    for (page, content) in pages().iter().filter(|(page, _)| page != "README") {
        for (heading, said) in sections(content) {
            assert!(missing.remove(&(page.clone(), heading.to_owned())), "{page}: no alert is called {heading}");
            let mut rest = said;
            for part in SAYS {
                rest =
                    rest.split_once(part).unwrap_or_else(|| panic!("{heading} does not say `{part}`, or not here")).1;
            }
        }
    }
    assert!(missing.is_empty(), "no runbook: {missing:?}");
}

/// What a runbook has somebody type: lines of their own, and words within a sentence.
fn typed(page: &str) -> Vec<String> {
    let (mut within, mut words) = (false, Vec::new());
    for line in page.lines() {
        if line.starts_with("```") {
            within = line == "```sh";
        } else if within {
            words.push(line.to_owned());
        } else {
            words.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    words
}

#[test]
fn commands_of_runbooks_are_those_of_the_program() {
    let (mut helped, mut asked) = (BTreeMap::new(), 0);
    let paths = router::paths();
    for (page, content) in pages() {
        for line in &typed(&content) {
            if let Some(command) = line.strip_prefix("mcp-gateway ") {
                let words: Vec<_> = command.split(' ').collect();
                let is_verb = |word: &&&str| {
                    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !word.starts_with('-')
                };
                // A noun and its verb; the third word of `signins show last` is neither.
                let verbs: Vec<_> = words.iter().take_while(is_verb).take(2).copied().collect();
                let help = helped.entry(verbs.join(" ")).or_insert_with(|| help_of(&verbs));
                let known: BTreeSet<_> = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
                for option in words.iter().filter(|word| word.starts_with("--")) {
                    assert!(known.contains(option), "{page}: `{line}`: no {option}");
                }
                asked += 1;
            }
            let asked_for = between(line, "$MREG_GATEWAY_URL", "\"");
            for url in asked_for.into_iter().chain(line.split("localhost:8001").skip(1)) {
                assert!(paths.iter().any(|path| fits(path, url)), "{page}: `{line}`: no route of {url}");
                asked += 1;
            }
        }
    }
    assert!(asked > 60, "the commands were found: {asked}");
}

fn help_of(verbs: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mcp-gateway")).args(verbs).arg("--help").output().unwrap();
    assert!(output.status.success(), "mcp-gateway {verbs:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a path of the router answers there.
fn fits(path: &str, url: &str) -> bool {
    let (wanted, is): (Vec<_>, Vec<_>) = (path.split('/').collect(), url.split('/').collect());
    wanted.len() == is.len() && wanted.iter().zip(is).all(|(wanted, is)| wanted.starts_with('{') || *wanted == is)
}

fn dashboards() -> Vec<(String, Value)> {
    let folder = std::fs::read_dir(monitoring("grafana/dashboards")).unwrap();
    let mut all: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), serde_json::from_str(&read(&path)).unwrap())
        })
        .collect();
    all.sort_by(|a: &(String, Value), b| a.0.cmp(&b.0));
    all
}

/// Every expression of a dashboard, with where it is and how its lines are called.
fn expressions(dashboard: &Value) -> Vec<(String, String, String)> {
    let of = |panel: &Value| {
        let title = text(&panel["title"]).to_owned();
        let one = |target: &Value| {
            (title.clone(), text(&target["expr"]).to_owned(), text(&target["legendFormat"]).to_owned())
        };
        list(&panel["targets"]).iter().map(one).collect::<Vec<_>>()
    };
    list(&dashboard["panels"]).iter().flat_map(of).collect()
}

#[test]
fn dashboards_name_what_is_there() {
    let series = Series::all();
    for (file, dashboard) in dashboards() {
        let variables = list(&dashboard["templating"]["list"]);
        let variables: BTreeSet<_> = variables.iter().map(|variable| text(&variable["name"])).collect();
        for (title, expression, legend) in expressions(&dashboard) {
            let labels = series.check(&expression, &format!("{file}: {title}"));
            for variable in expression.split('$').skip(1) {
                let variable = variable.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap();
                let known = variables.contains(variable) || ["__range", "__rate_interval"].contains(&variable);
                assert!(known, "{file}: {title}: nobody chooses ${variable}");
            }
            for label in between(&legend, "{{", "}}") {
                assert!(labels.contains(label), "{file}: {title}: no label {label}");
            }
        }
    }
}

#[test]
fn dashboards_are_whole() {
    let (mut uids, all) = (BTreeSet::new(), dashboards());
    let names: Vec<_> = all.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(names, ["authentication", "limits", "overview", "performance", "security", "tenants"]);
    for (file, dashboard) in all {
        assert!(uids.insert(text(&dashboard["uid"]).to_owned()), "{file}: its uid is another one's");
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard["panels"]) {
            let title = text(&panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: {title}: its id is another one's");
            let (x, width) = (panel["gridPos"]["x"].as_u64().unwrap(), panel["gridPos"]["w"].as_u64().unwrap());
            assert!(x + width <= 24, "{file}: {title}: beyond the grid");
            if !["row", "text"].contains(&text(&panel["type"])) {
                assert!(!text(&panel["description"]).is_empty(), "{file}: {title}: what it shows");
                assert_eq!(panel["datasource"]["uid"], "${datasource}", "{file}: {title}");
                assert!(!list(&panel["fieldConfig"]["defaults"]["thresholds"]["steps"]).is_empty(), "{file}: {title}");
            }
        }
    }
}

/// Runs a program that need not be there, but in CI.
fn run(program: &str, args: &[&str]) -> bool {
    let Ok(output) = Command::new(program).args(args).current_dir(monitoring("")).output() else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} is not installed");
        eprintln!("skipped: {program} is not installed");
        return false;
    };
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    assert!(output.status.success(), "{program} {args:?}: {said}");
    true
}

#[test]
fn dashboards_are_what_their_generator_writes() {
    run("python3", &["-B", "grafana/dashboards.py", "--check"]);
}

#[test]
fn promtool_takes_the_configuration_and_every_expression_of_a_dashboard() {
    if !run("promtool", &["check", "config", "prometheus.yml"]) {
        return;
    }
    let mut rules = Vec::new();
    for (_, dashboard) in dashboards() {
        for (_, expression, _) in expressions(&dashboard) {
            let expression = expression.replace("$__rate_interval", "2m").replace("$__range", "6h");
            let name = format!("dashboards:{}", rules.len());
            rules.push(serde_json::json!({"record": name, "expr": expression}));
        }
    }
    let file = tempfile_of(&serde_json::json!({"groups": [{"name": "dashboards", "rules": rules}]}).to_string());
    run("promtool", &["check", "rules", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
}

/// JSON is YAML.
fn tempfile_of(text: &str) -> PathBuf {
    let file = std::env::temp_dir().join(format!("mcp-gateway-dashboards-{}.yml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn promtool_sees_every_alert_fire_and_not_fire() {
    run("promtool", &["test", "rules", "rules/tests.yml", "rules/tests-budget.yml"]);
}
