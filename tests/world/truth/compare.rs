//! A document against what it must say, leaf by leaf: a leaf of which nothing is said is a fault, and so is one that is missing.

use std::collections::BTreeMap;

use serde_json::Value;

/// Milliseconds.
const HOUR: f64 = 3_600_000.0;

/// What a leaf must be.
#[derive(Clone, Debug)]
pub enum Expect {
    /// This.
    Is(Value),
    /// A number within these bounds.
    Within(f64, f64),
    /// Nothing, or a number within these bounds.
    MayBe(f64, f64),
    /// A text of this sort.
    Text(fn(&str) -> bool),
    /// Yes, no, or not known.
    Perhaps,
    /// Nothing at all.
    Empty,
    /// A word, or null.
    Code,
}

impl<T: Into<Value>> From<T> for Expect {
    fn from(value: T) -> Self {
        Self::Is(value.into())
    }
}

impl Expect {
    /// This fraction, or null where there is nothing of which it is one.
    pub fn ratio(part: i64, whole: i64) -> Self {
        if whole == 0 { Self::Is(Value::Null) } else { Self::Is((part as f64 / whole as f64).into()) }
    }

    /// Whether a leaf is as it must be.
    pub fn holds(&self, value: &Value) -> bool {
        let within = |low: &f64, high: &f64| value.as_f64().is_some_and(|number| (*low..=*high).contains(&number));
        match self {
            Self::Is(expected) => match (expected.as_f64(), value.as_f64()) {
                (Some(expected), Some(value)) => (expected - value).abs() <= 1e-9 * expected.abs().max(1.0),
                _ => expected == value,
            },
            Self::Within(low, high) => within(low, high),
            Self::MayBe(low, high) => value.is_null() || within(low, high),
            Self::Text(is) => value.as_str().is_some_and(is),
            Self::Code => value.is_null() || value.as_str().is_some_and(|code| !code.is_empty()),
            Self::Empty => value.as_array().is_some_and(Vec::is_empty),
            Self::Perhaps => value.is_null() || value.is_boolean(),
        }
    }
}

/// What the leaves of a document must be, by their paths: `tenants[0].sessions`.
pub type Expected = BTreeMap<String, Expect>;

/// What a workload cannot know of a leaf: `*` stands for any index or name.
pub struct Elsewhere(pub &'static str, pub &'static str, pub Expect);

/// The leaves of a document by their paths; an empty list or object is one.
pub fn leaves(document: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    collect(String::new(), document, &mut all);
    all
}

fn collect(path: String, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(path, member, into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(at, item)| collect(format!("{path}[{at}]"), item, into));
        }
        leaf => _ = into.insert(path, leaf.clone()),
    }
}

/// Where a report says otherwise of a target than the value does: `target`, `met` and the value to each.
pub fn misjudged(document: &Value) -> Vec<String> {
    let none = serde_json::Map::new();
    let targets = document["targets"].as_object().unwrap_or(&none).iter().map(|(path, target)| {
        let value = path.split('.').fold(document, |at, part| &at[part]);
        (path.clone(), &target["target"], &target["met"], value)
    });
    let kpis = document["kpis"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|kpi| (kpi["name"].to_string(), &kpi["target"], &kpi["today"]["met"], &kpi["today"]["value"]));
    let wrong = targets.chain(kpis).filter(|(_, target, met, value)| **met != is_met(target, value));
    wrong.map(|(path, target, met, value)| format!("{path}: {value} of {target} is said to be {met}")).collect()
}

fn is_met(target: &Value, value: &Value) -> Value {
    let (Some(target), Some(value)) = (target.as_str(), value.as_f64()) else { return Value::Null };
    let bound = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{target}"));
    match target.split_at(1) {
        ("<", most) => (value < bound(most)).into(),
        (">", least) => (value > bound(least)).into(),
        _ if target == "2 to 4 h" => (2.0 * HOUR..=4.0 * HOUR).contains(&value).into(),
        // So many must be possible, which is known when there were as many.
        _ if target == "500" => {
            if value >= 500.0 {
                true.into()
            } else {
                Value::Null
            }
        }
        _ => ((value - bound(target)).abs() < 1e-12).into(),
    }
}

/// What is wrong with the document.
pub fn faults(document: &Value, expected: &Expected, elsewhere: &[Elsewhere]) -> Vec<String> {
    let all = leaves(document);
    let mut wrong = Vec::new();
    for (path, value) in &all {
        let told = expected.get(path).map(|rule| ("of what was done", rule));
        let told = told.or_else(|| elsewhere.iter().find(|one| fits(one.0, path)).map(|one| (one.1, &one.2)));
        match told {
            None => wrong.push(format!("{path} = {value}: nobody says what it must be")),
            Some((why, rule)) if !rule.holds(value) => {
                wrong.push(format!("{path} = {value}, which must be {rule:?} ({why})"));
            }
            Some(_) => {}
        }
    }
    let missing = expected.keys().filter(|path| !all.contains_key(*path));
    wrong.extend(missing.map(|path| format!("{path} is missing")));
    wrong
}

/// Whether a path is one of those that the pattern stands for.
fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((before, after)) => path.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .any(|end| rest.is_char_boundary(end) && !rest[..end].contains(']') && fits(after, &rest[end..]))
        }),
    }
}

#[test]
fn a_leaf_of_which_nothing_is_said_is_a_fault_and_so_is_one_that_is_missing() {
    let document = serde_json::json!({"a": 1, "b": [{"c": 0.5}], "d": {}, "e": null});
    let said =
        |paths: &[(&str, Expect)]| paths.iter().map(|(path, expect)| ((*path).to_owned(), expect.clone())).collect();
    let whole: Expected = said(&[("a", 1.into()), ("d", serde_json::json!({}).into()), ("e", Expect::MayBe(0.0, 1.0))]);
    let elsewhere = [Elsewhere("b[*].c", "it moves", Expect::Within(0.0, 1.0))];
    assert_eq!(faults(&document, &whole, &elsewhere), Vec::<String>::new());
    assert_eq!(faults(&document, &whole, &[]).len(), 1);
    let more: Expected = said(&[("a", 2.into()), ("f", 1.into())]);
    assert_eq!(faults(&document, &more, &elsewhere).len(), 4);
    assert!(fits("b[*].c", "b[10].c") && !fits("b[*].c", "b[1].d") && !fits("b[*].c", "b[1].x[2].c"));
}
