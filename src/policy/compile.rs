//! From the text of a set to what decides by it.
//!
//! Rules that read arguments (*late* ones) are decided when something is called; the rest (*early* ones) once for each caller and
//! thing. Of a late rule that part is decided early as well which reads no argument: a rule of which already that part does not hold
//! cannot apply, whatever is called. So a list holds what could be called with some arguments, and nothing else.

use std::collections::HashMap;
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::pst::{self, BinaryOp, Clause, Expr, Template, Var};
use cedar_policy::{Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};

use super::arguments::{Read, is_late, reads};
use super::cache::Cache;
use super::patterns::Patterns;
use super::text::{self, MOST_MISTAKES, Mistake};
use super::words::Words;
use super::{DEFAULT, RuleName, SCHEMA};
use crate::access::Role;
use crate::id::Slug;

/// Stack of the thread that reads a set, bytes.
const STACK: usize = 32 << 20;
/// Longest name of a rule and longest message, bytes.
const LONGEST: (usize, usize) = (100, 400);

/// A set that is in force, or is to be.
pub struct Rules {
    version: i64,
    text: Arc<str>,
    pub(super) state: State,
}

pub(super) enum State {
    /// Everything is permitted and nothing forbidden: nobody has to be asked.
    Open(RuleName),
    /// The set cannot be read.
    Closed(Arc<str>),
    Set(Box<Compiled>),
}

/// What a set is made of.
pub(super) struct Compiled {
    pub(super) words: Words,
    /// All of it.
    pub(super) whole: PolicySet,
    /// Rules that read no argument.
    pub(super) early: PolicySet,
    /// Of those that do, the part that does not; all of them as permits, so that each that holds is named.
    pub(super) shadows: Option<PolicySet>,
    pub(super) named: HashMap<PolicyId, Rule>,
    /// Whether being in a group could take something from somebody.
    pub(super) groups_take: bool,
    pub(super) cache: Cache,
}

/// What is to be known of a rule beside Cedar.
pub(super) struct Rule {
    pub(super) name: RuleName,
    pub(super) message: Option<Arc<str>>,
    pub(super) forbids: bool,
    pub(super) reads: Vec<Read>,
}

impl Default for Rules {
    /// The set of a tenant for which nobody wrote one.
    fn default() -> Self {
        Self { version: 0, text: DEFAULT.into(), state: State::Open("default".into()) }
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Rules {
    /// Reads a set and checks it against the schema; with it what does no harm and may be a mistake.
    ///
    /// # Errors
    ///
    /// The mistakes, by their places; those that are told at once at most.
    pub fn read(text: &str, version: i64) -> Result<(Self, Vec<Mistake>), Vec<Mistake>> {
        text::check(text).map_err(|mistake| vec![mistake])?;
        // Cedar's reader goes as deep as the text; on a stack of its own, within the bounds just checked, it comes back.
        std::thread::scope(|scope| {
            let reading = std::thread::Builder::new().stack_size(STACK);
            let reading = reading.spawn_scoped(scope, || Self::read_checked(text, version));
            let reading = reading.map_err(|error| broken(&error))?;
            reading.join().unwrap_or_else(|_| Err(broken(&"they made the reader fail")))
        })
    }

    fn read_checked(text: &str, version: i64) -> Result<(Self, Vec<Mistake>), Vec<Mistake>> {
        let whole = PolicySet::from_str(text).map_err(|errors| text::unreadable(text, &errors))?;
        if let Some(template) = whole.templates().next() {
            let slot = template.slots().next().map_or_else(|| "?principal".to_owned(), ToString::to_string);
            let message = "a rule has no slots; write the account, group or server in its place";
            return Err(vec![Mistake::about(text, &slot, 0, message)]);
        }
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| broken(&error))?;
        let checked = Validator::new(schema).validate(&whole, ValidationMode::Strict);
        let errors: Vec<_> = checked.validation_errors().collect();
        let warnings: Vec<_> = checked.validation_warnings().collect();
        let mut wrong = text::first(text, errors.into_iter());
        let warnings = text::first(text, warnings.into_iter());
        let compiled = Compiled::new(text, whole, &mut wrong);
        if !wrong.is_empty() {
            return Err(text::some(wrong));
        }
        let state = match compiled.map_err(|error| broken(&error))? {
            (_, Some(open)) => State::Open(open),
            (compiled, None) => State::Set(Box::new(compiled)),
        };
        Ok((Self { version, text: text.into(), state }, text::some(warnings)))
    }

    /// A set that was kept and cannot be read any more: it denies everything.
    pub fn closed(text: &str, version: i64, why: impl Into<Arc<str>>) -> Self {
        Self { version, text: text.into(), state: State::Closed(why.into()) }
    }

    /// Counts changes, from 1; 0 for a set that nobody wrote.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Why it denies everything, if it cannot be read.
    pub fn trouble(&self) -> Option<&str> {
        match &self.state {
            State::Closed(why) => Some(why),
            _ => None,
        }
    }

    /// Whether it permits everything to everybody: what remains are the visibility of servers and the scopes of keys.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// How many decisions it remembers.
    pub fn remembered(&self) -> usize {
        match &self.state {
            State::Set(compiled) => compiled.cache.len(),
            _ => 0,
        }
    }
}

/// What is ours to get right.
pub(super) fn broken(error: &dyn std::fmt::Display) -> Vec<Mistake> {
    vec![Mistake { line: 0, column: 0, message: format!("the rules cannot be prepared: {error}") }]
}

impl Compiled {
    /// With it the name of the rule by which everything is permitted, where nothing is forbidden.
    fn new(
        text: &str,
        whole: PolicySet,
        wrong: &mut Vec<Mistake>,
    ) -> Result<(Self, Option<RuleName>), super::words::Wrong> {
        let (mut early, mut shadows) = (PolicySet::new(), PolicySet::new());
        let mut named = HashMap::new();
        let (mut open, mut forbids, mut groups_take) = (None, false, false);
        let mut names: HashMap<RuleName, usize> = HashMap::new();
        let (mut literals, mut patterns) = (HashMap::new(), Patterns::default());
        for policy in whole.policies() {
            if wrong.len() >= MOST_MISTAKES {
                break;
            }
            let pst::Policy::Static(rule) = policy.to_pst()? else { continue };
            let body = rule.body();
            let name = name_of(policy);
            let count = names.entry(name.clone()).or_default();
            if policy.annotation("id").is_some() {
                check_name(text, &name, *count, wrong);
            }
            *count += 1;
            let message = policy.annotation("message").map(Into::into);
            if let Some(long) = policy.annotation("message").filter(|message| message.len() > LONGEST.1) {
                wrong.push(Mistake::about(text, long, 0, format!("a message has at most {} bytes", LONGEST.1)));
            }
            for literal in policy.entity_literals() {
                let (kind, id) = (literal.type_name().basename(), literal.id().unescaped());
                if let Some(message) = unlikely(kind, id) {
                    let written = format!("{kind}::{}", crate::json::quote(id));
                    let nth = literals.entry(written.clone()).or_insert(0_usize);
                    wrong.push(Mistake::about(text, &written, *nth, format!("{written}: {message}")));
                    *nth += 1;
                }
            }
            if let Err(message) = patterns.take(body) {
                let name = policy.annotation("id").unwrap_or("like");
                wrong.push(Mistake::about(text, name, 0, format!("in the rule `{}`: {message}", name_of(policy))));
            }
            let read = match reads(body) {
                Ok(read) => read,
                Err(message) => {
                    let name = policy.annotation("id").map_or("context", |id| id);
                    wrong.push(Mistake::about(text, name, 0, format!("in the rule `{}`: {message}", name_of(policy))));
                    continue;
                }
            };
            forbids |= policy.effect() == Effect::Forbid;
            groups_take |= groups_take_by(body);
            if read.is_empty() {
                early.add(policy.clone())?;
                if policy.effect() == Effect::Permit && is_for_all(body) {
                    open.get_or_insert_with(|| name.clone());
                }
            } else {
                shadows.add(shadow(body)?)?;
            }
            let forbids = policy.effect() == Effect::Forbid;
            named.insert(policy.id().clone(), Rule { name, message, forbids, reads: read });
        }
        let shadows = (!shadows.is_empty()).then_some(shadows);
        let open = open.filter(|_| !forbids);
        let words = Words::new()?;
        Ok((Self { words, whole, early, shadows, named, groups_take, cache: Cache::default() }, open))
    }
}

/// What people call a rule: its `@id`, or its place among the others.
fn name_of(policy: &Policy) -> RuleName {
    if let Some(id) = policy.annotation("id").filter(|id| !id.is_empty()) {
        return id.into();
    }
    let id = policy.id().to_string();
    let place = id.strip_prefix("policy").and_then(|number| number.parse::<usize>().ok());
    place.map_or(id.clone(), |number| format!("rule {}", number + 1)).into()
}

fn check_name(text: &str, name: &str, nth: usize, wrong: &mut Vec<Mistake>) {
    let written = format!("@id({})", crate::json::quote(name));
    if nth > 0 {
        wrong.push(Mistake::about(text, &written, nth, format!("another rule is called `{name}` already")));
    }
    if name.len() > LONGEST.0 || name.contains(char::is_control) {
        let message = format!("the name of a rule has at most {} bytes and no control characters", LONGEST.0);
        wrong.push(Mistake::about(text, &written, nth, message));
    }
}

/// Why nobody and nothing has that id; a rule about it would never apply, and a `forbid` least of all may be mistaken.
fn unlikely(kind: &str, id: &str) -> Option<&'static str> {
    let plain_uuid = |id: &str| uuid::Uuid::try_parse(id).is_ok_and(|uuid| uuid.to_string() == id);
    let of_server =
        |id: &str| id.split_once('/').is_some_and(|(slug, name)| Slug::parse(slug).is_ok() && !name.is_empty());
    match kind {
        "User" if !plain_uuid(id) => Some(
            "an account is named by its id, in lower case; `mcp-gateway users list` shows it, or use principal.name",
        ),
        "Role" if Role::parse(id).is_none() => Some("the roles are user, server_owner, tenant_admin and admin"),
        "Group" if uuid::Uuid::try_parse(id).is_ok() && !plain_uuid(id) => {
            Some("write the id of a group in lower case")
        }
        "Server" if Slug::parse(id).is_err() => Some("a server is named by its slug"),
        "Tool" | "Prompt" | "Resource" if !of_server(id) => {
            Some("write the server's slug, a slash, and the server's own name for it")
        }
        "Text" | "Number" | "Flag" | "List" => Some("arguments are read as context.text, context.number and so on"),
        _ => None,
    }
}

/// Whether a rule is about everybody, everything, always.
fn is_for_all(rule: &Template) -> bool {
    matches!(rule.principal, pst::PrincipalConstraint::Any)
        && matches!(rule.resource, pst::ResourceConstraint::Any)
        && rule.clauses().is_empty()
}

/// Whether somebody could be worse off by being in a group that nobody knows of.
fn groups_take_by(rule: &Template) -> bool {
    let names_groups = |text: String| text.contains("Group::") || text.contains("AppRole::");
    if rule.effect == pst::Effect::Forbid {
        return names_groups(rule.to_string());
    }
    rule.clauses().iter().any(|clause| match clause {
        Clause::When(condition) => !only_gives(condition, &names_groups),
        Clause::Unless(condition) => names_groups(condition.to_string()),
    })
}

fn only_gives(expression: &Expr, names_groups: &impl Fn(String) -> bool) -> bool {
    match expression {
        Expr::BinaryOp { op: BinaryOp::And | BinaryOp::Or, left, right } => {
            only_gives(left, names_groups) && only_gives(right, names_groups)
        }
        Expr::BinaryOp { op: BinaryOp::In, left, .. } if matches!(**left, Expr::Var(Var::Principal)) => true,
        other => !names_groups(other.to_string()),
    }
}

/// What of a rule reads no argument, as a permit.
fn shadow(rule: &Template) -> Result<Policy, super::words::Wrong> {
    let mut kept = Vec::new();
    for clause in rule.clauses() {
        let (op, condition) = match clause {
            Clause::When(condition) => (BinaryOp::And, condition),
            Clause::Unless(condition) => (BinaryOp::Or, condition),
        };
        let mut parts = Vec::new();
        split(condition, op, &mut parts);
        kept.extend(parts.into_iter().filter(|part| !is_late(part)).map(|part| match op {
            BinaryOp::And => Clause::When(part),
            _ => Clause::Unless(part),
        }));
    }
    let body = Template::new(
        rule.id.clone(),
        pst::Effect::Permit,
        rule.principal.clone(),
        rule.action.clone(),
        rule.resource.clone(),
    );
    let body = pst::StaticPolicy::try_from(body.try_with_clauses(kept)?)?;
    Ok(Policy::from_pst(pst::Policy::Static(body))?)
}

/// The parts that are joined by `op`, in their order.
fn split(expression: &Arc<Expr>, op: BinaryOp, parts: &mut Vec<Arc<Expr>>) {
    match &**expression {
        Expr::BinaryOp { op: other, left, right } if *other == op => {
            split(left, op, parts);
            split(right, op, parts);
        }
        _ => parts.push(expression.clone()),
    }
}
