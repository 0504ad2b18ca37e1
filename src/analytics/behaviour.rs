//! How tools are used in a session, from its last three steps: a step is a call of a tool, or a listing. Names are compared; arguments and
//! results are never read.

use std::time::Duration;

use ahash::{AHashMap, RandomState};

use crate::audit::Brief;

/// Most sessions that are remembered; beyond it the one that did nothing for longest begins anew.
const MOST: usize = 50_000;
/// After how long without a step a session begins anew.
const IDLE: Duration = Duration::from_mins(30);

/// What three steps look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// The same tool three times.
    Repetitive,
    /// A listing, then a tool.
    BrowseThenAction,
    /// Three different tools.
    Diverse,
    /// Anything else.
    Standard,
}

impl Pattern {
    /// As it is told.
    pub fn label(self) -> &'static str {
        match self {
            Self::Repetitive => "repetitive_usage",
            Self::BrowseThenAction => "browse_then_action",
            Self::Diverse => "diverse_exploration",
            Self::Standard => "standard_workflow",
        }
    }

    fn of([first, second, third]: [Step; 3]) -> Self {
        let browsed = |one: Step, next: Step| one == Step::Listing && next != Step::Listing;
        if first == second && second == third {
            Self::Repetitive
        } else if browsed(first, second) || browsed(second, third) {
            Self::BrowseThenAction
        } else if first != second && second != third && first != third {
            Self::Diverse
        } else {
            Self::Standard
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Listing,
    /// By the hash of its server and name.
    Tool(u64),
}

/// The last two steps of a session, the newer one behind, and when that was, microseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Last {
    steps: [Option<Step>; 2],
    at: i64,
}

/// What a batch changes.
pub(super) type Moves = AHashMap<u64, LastSteps>;

/// See [`Last`]; what is in it is nobody else's affair.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastSteps(Last);

/// Sessions by the hash of their tenant and name.
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    hasher: RandomState,
    sessions: AHashMap<u64, Last>,
}

impl Behaviour {
    /// Takes a step into `moves`; the pattern if it is the third or a later one, and the call of a tool. A session is that of MCP; where
    /// there is none, what one credential does.
    pub(super) fn step(&self, moves: &mut Moves, record: &Brief<'_>) -> Option<Pattern> {
        let step = match record.action {
            "tools/call" => {
                let name = record.name.filter(|name| !name.is_empty())?;
                Step::Tool(self.hasher.hash_one((record.server, name)))
            }
            "tools/list" | "resources/list" | "prompts/list" => Step::Listing,
            _ => return None,
        };
        let (tenant, session) = (record.tenant?, record.session);
        let credential = record.credential.or(record.user).filter(|_| session.is_none());
        if session.is_none() && credential.is_none() {
            return None;
        }
        let session = self.hasher.hash_one((tenant, session, credential));
        let idle = i64::try_from(IDLE.as_micros()).unwrap_or(i64::MAX);
        let before = moves.get(&session).map(|last| last.0).or_else(|| self.sessions.get(&session).copied());
        let [first, second] = before.filter(|last| record.at - last.at < idle).map_or([None; 2], |last| last.steps);
        let at = before.map_or(record.at, |last| last.at.max(record.at));
        moves.insert(session, LastSteps(Last { steps: [second, Some(step)], at }));
        let steps = [first?, second?, step];
        matches!(step, Step::Tool(_)).then(|| Pattern::of(steps))
    }

    /// What a batch changed is stored.
    pub(super) fn settle(&mut self, moves: Moves) {
        self.sessions.extend(moves.into_iter().map(|(session, last)| (session, last.0)));
        if self.sessions.len() <= MOST {
            return;
        }
        // A tenth more than must go, so that this is not done for every batch.
        let mut times: Vec<i64> = self.sessions.values().map(|last| last.at).collect();
        let (_, bound, _) = times.select_nth_unstable(self.sessions.len() - MOST + MOST / 10);
        let bound = *bound;
        self.sessions.retain(|_, last| last.at > bound);
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_wrap, reason = "numbers of a test")]
mod tests {
    use super::*;

    #[test]
    fn three_steps_are_one_of_four_patterns() {
        let steps = |text: &str| -> [Step; 3] {
            let all: Vec<Step> =
                text.bytes().map(|byte| if byte == b'-' { Step::Listing } else { Step::Tool(byte.into()) }).collect();
            all.try_into().unwrap()
        };
        for (text, pattern) in [
            ("aaa", Pattern::Repetitive),
            ("-ab", Pattern::BrowseThenAction),
            ("--a", Pattern::BrowseThenAction),
            ("a-b", Pattern::BrowseThenAction),
            ("-aa", Pattern::BrowseThenAction),
            ("abc", Pattern::Diverse),
            ("aab", Pattern::Standard),
            ("aba", Pattern::Standard),
            ("abb", Pattern::Standard),
        ] {
            assert_eq!(Pattern::of(steps(text)), pattern, "{text}");
        }
    }

    #[test]
    fn of_too_many_sessions_those_go_that_did_nothing_for_longest() {
        let mut behaviour = Behaviour::default();
        let last = |at| LastSteps(Last { steps: [None; 2], at });
        behaviour.settle((0..MOST as u64).map(|session| (session, last(session as i64))).collect());
        assert_eq!(behaviour.sessions.len(), MOST);
        behaviour.settle([(u64::MAX, last(i64::MAX))].into_iter().collect());
        assert!(behaviour.sessions.len() < MOST && behaviour.sessions.contains_key(&u64::MAX));
        assert!(!behaviour.sessions.contains_key(&0) && behaviour.sessions.contains_key(&(MOST as u64 - 1)));
    }
}
