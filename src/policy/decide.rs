//! The one decision. What a list shows is what could be called: the same function decides both, and only rules that read arguments
//! are decided later than a list is made. Whatever goes wrong while deciding denies.

use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Effect, PolicyId, PolicySet, Response};

use super::compile::{Compiled, Rule, Rules, State};
use super::words::Wrong;
use super::{LONGEST_NAME, RuleName, Thing, What};
use crate::access::subject::Subject;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// Whether it is to be seen.
    Listing,
    /// Whether it may be called, with these `arguments` if any: checked JSON.
    Call(Option<&'a [u8]>),
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be.
    Allowed,
    /// It may not even be seen: to this caller it is not there.
    Hidden(Why),
    /// It may be seen, and not be called so.
    Refused(Why),
}

/// By which rule, and in which words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Why {
    /// The rule that decided; none where no rule permits it.
    pub rule: Option<RuleName>,
    /// What the rule says to who is refused (`@message`), or why it could not decide.
    pub message: Option<Arc<str>>,
}

/// How somebody stands to something before any argument is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be called, whatever the arguments.
    Allowed,
    /// It may not.
    Denied,
    /// That is decided when it is called.
    Depends,
}

impl Standing {
    /// In one word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Depends => "depends",
        }
    }
}

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What it is.
    pub standing: Standing,
    /// The rules that decided, in order of their names; none where no rule permits it.
    pub rules: Vec<RuleName>,
    /// Those that read arguments and could apply.
    pub late: Vec<RuleName>,
    why: Why,
    reads: Vec<PolicyId>,
}

impl Decided {
    fn denied(why: Why) -> Self {
        let rules = why.rule.clone().into_iter().collect();
        Self { standing: Standing::Denied, rules, late: Vec::new(), why, reads: Vec::new() }
    }

    fn failed(error: &Wrong) -> Self {
        let message = format!("the access rules could not be asked: {error}");
        Self::denied(Why { rule: None, message: Some(message.into()) })
    }

    /// Of what nobody can judge by its name.
    pub fn misnamed() -> Self {
        let message = "the server lists nothing of this name or URI, and it may be another spelling of something that rules speak of; \
                       write it in its plain form";
        Self::denied(Why { rule: None, message: Some(message.into()) })
    }

    /// How much memory it takes, about.
    pub(super) fn weight(&self) -> usize {
        let names = self.rules.len() + self.late.len();
        size_of::<Self>() + names * size_of::<RuleName>() + self.reads.len() * size_of::<PolicyId>()
    }

    /// What is to be said of it where it denies.
    pub fn why(&self) -> &Why {
        &self.why
    }
}

/// Whether `subject` may see, or call, `thing`.
pub fn decide(rules: &Rules, subject: &Subject, thing: &Thing<'_>, given: Given<'_>) -> Verdict {
    let compiled = match &rules.state {
        State::Open(_) => return Verdict::Allowed,
        State::Closed(_) => return Verdict::Hidden(rules.standing(subject, thing).why.clone()),
        State::Set(compiled) => compiled,
    };
    let decided = compiled.remembered(subject, thing);
    match (decided.standing, given) {
        (Standing::Denied, _) => Verdict::Hidden(decided.why.clone()),
        (Standing::Allowed, _) | (Standing::Depends, Given::Listing) => Verdict::Allowed,
        (Standing::Depends, Given::Call(arguments)) => {
            match compiled.with_arguments(subject, thing, &decided, arguments.unwrap_or(b"{}")) {
                Ok(_) => Verdict::Allowed,
                Err(why) => Verdict::Refused(why),
            }
        }
    }
}

/// A shorter URI under which a rule takes `thing` away, and what comes of it: of what is listed nowhere, only the server knows whether
/// it is the same. Where no rule permits the shorter one, that takes nothing away.
pub fn decide_shorter(
    rules: &Rules,
    subject: &Subject,
    thing: &Thing<'_>,
    given: Given<'_>,
) -> Option<(String, Verdict)> {
    thing.what.shorter().into_iter().find_map(|uri| {
        let verdict = decide(rules, subject, &Thing { what: What::Resource(&uri), ..*thing }, given);
        let by_rule = |why: &Why| why.rule.is_some();
        let taken = matches!(&verdict, Verdict::Hidden(why) | Verdict::Refused(why) if by_rule(why));
        taken.then_some((uri, verdict))
    })
}

impl Rules {
    /// How `subject` stands to `thing`, and why.
    pub fn standing(&self, subject: &Subject, thing: &Thing<'_>) -> Arc<Decided> {
        match &self.state {
            State::Open(name) => Arc::new(Decided {
                standing: Standing::Allowed,
                rules: vec![name.clone()],
                late: Vec::new(),
                why: Why::default(),
                reads: Vec::new(),
            }),
            State::Closed(_) => {
                let message =
                    "the access rules of this tenant cannot be read; until they can be, nobody may use anything";
                Arc::new(Decided::denied(Why { rule: None, message: Some(message.into()) }))
            }
            State::Set(compiled) => compiled.remembered(subject, thing),
        }
    }

    /// The rules that permit a call with these arguments, or why it is refused.
    ///
    /// # Errors
    ///
    /// Why, where it is refused.
    pub fn calling(&self, subject: &Subject, thing: &Thing<'_>, arguments: &[u8]) -> Result<Vec<RuleName>, Why> {
        let decided = self.standing(subject, thing);
        match (&self.state, decided.standing) {
            (_, Standing::Denied) => Err(decided.why.clone()),
            (State::Set(compiled), Standing::Depends) => compiled.with_arguments(subject, thing, &decided, arguments),
            _ => Ok(decided.rules.clone()),
        }
    }
}

impl Compiled {
    fn remembered(&self, subject: &Subject, thing: &Thing<'_>) -> Arc<Decided> {
        self.cache.get(subject, thing, || self.early(subject, thing).unwrap_or_else(|error| Decided::failed(&error)))
    }

    /// What can be decided without arguments.
    fn early(&self, subject: &Subject, thing: &Thing<'_>) -> Result<Decided, Wrong> {
        if thing.what.name().len() > LONGEST_NAME {
            let message = format!("access rules judge no name or URI of more than {LONGEST_NAME} bytes");
            return Ok(Decided::denied(Why { rule: None, message: Some(message.into()) }));
        }
        if self.groups_take && subject.memberships().unknown {
            let message = "the access rules go by groups, and the identity provider has not said all the groups of this account; \
                           sign in again";
            return Ok(Decided::denied(Why { rule: None, message: Some(message.into()) }));
        }
        let (request, entities) = self.words.ask(subject, thing, &[])?;
        let ask = |rules: &PolicySet| Authorizer::new().is_authorized(&request, rules, &entities);
        let answer = ask(&self.early);
        if let Some(why) = self.failure(&answer) {
            return Ok(Decided::denied(why));
        }
        let reasons: Vec<&Rule> = answer.diagnostics().reason().filter_map(|id| self.named.get(id)).collect();
        if answer.decision() == Decision::Deny && !reasons.is_empty() {
            return Ok(Decided { rules: names(&reasons), ..Decided::denied(why(&reasons)) });
        }
        let mut late: Vec<PolicyId> = Vec::new();
        if let Some(shadows) = &self.shadows {
            let answer = ask(shadows);
            let failed = answer.diagnostics().errors().map(failed_rule);
            late.extend(answer.diagnostics().reason().chain(failed).cloned());
        }
        let could = |effect: Effect| {
            late.iter().filter_map(|id| self.named.get(id)).any(|rule| rule.forbids == (effect == Effect::Forbid))
        };
        let standing = match answer.decision() {
            Decision::Allow if !could(Effect::Forbid) => Standing::Allowed,
            Decision::Deny if !could(Effect::Permit) => return Ok(Decided::denied(Why::default())),
            _ => Standing::Depends,
        };
        let names_of_late: Vec<&Rule> = late.iter().filter_map(|id| self.named.get(id)).collect();
        Ok(Decided {
            standing,
            rules: names(&reasons),
            late: names(&names_of_late),
            why: Why::default(),
            reads: if standing == Standing::Depends { late } else { Vec::new() },
        })
    }

    /// What is decided when it is called.
    fn with_arguments(
        &self,
        subject: &Subject,
        thing: &Thing<'_>,
        decided: &Decided,
        arguments: &[u8],
    ) -> Result<Vec<RuleName>, Why> {
        let mut given = Vec::new();
        for rule in decided.reads.iter().filter_map(|id| self.named.get(id)) {
            for read in &rule.reads {
                match read.take(arguments) {
                    Ok(argument) => given.extend(argument),
                    Err(message) => return Err(Why { rule: Some(rule.name.clone()), message: Some(message.into()) }),
                }
            }
        }
        let asked = self.words.ask(subject, thing, &given);
        let (request, entities) = asked.map_err(|error| Decided::failed(&error).why)?;
        let answer = Authorizer::new().is_authorized(&request, &self.whole, &entities);
        if let Some(why) = self.failure(&answer) {
            return Err(why);
        }
        let reasons: Vec<&Rule> = answer.diagnostics().reason().filter_map(|id| self.named.get(id)).collect();
        match answer.decision() {
            Decision::Allow => Ok(names(&reasons)),
            Decision::Deny if reasons.is_empty() => {
                let message = "no access rule permits it with these arguments";
                Err(Why { rule: None, message: Some(message.into()) })
            }
            Decision::Deny => Err(why(&reasons)),
        }
    }

    /// A rule that could not be decided by denies: Cedar would go on without it, a `forbid` as well.
    fn failure(&self, answer: &Response) -> Option<Why> {
        let error = answer.diagnostics().errors().next()?;
        let rule = self.named.get(failed_rule(error)).map(|rule| rule.name.clone());
        Some(Why { rule, message: Some("the access rule could not be decided by".into()) })
    }
}

fn failed_rule(error: &cedar_policy::AuthorizationError) -> &PolicyId {
    let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
    error.policy_id()
}

/// The first of the rules by name speaks for all that decided.
fn why(rules: &[&Rule]) -> Why {
    let first = rules.iter().min_by_key(|rule| (rule.message.is_none(), rule.name.clone()));
    Why { rule: first.map(|rule| rule.name.clone()), message: first.and_then(|rule| rule.message.clone()) }
}

fn names(rules: &[&Rule]) -> Vec<RuleName> {
    let mut names: Vec<RuleName> = rules.iter().map(|rule| rule.name.clone()).collect();
    names.sort_unstable();
    names
}
