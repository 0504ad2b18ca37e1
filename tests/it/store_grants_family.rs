//! The rule of a family, against chance: whatever the order in which tokens are shown, used, stolen and given back, one refresh
//! token is live at most, and none comes of a token whose successor was used.

use std::collections::{BTreeMap, BTreeSet};

use mcp_registry_gateway::grants::Tokens;
use mcp_registry_gateway::secret::Secret;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::store_grants::House;

/// What somebody does.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Shows the refresh token that was given so many before the last.
    Show(usize),
    /// Calls with such an access token.
    Use(usize),
    /// Gives such a refresh token back.
    Revoke(usize),
    /// Lets seconds go by.
    Wait(u64),
    /// Forgets what is past its use.
    Sweep,
}

/// How many tokens ago it was given: mostly one of the last, where the rule is decided.
fn ago() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0_usize..2, 1 => 0_usize..8]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => ago().prop_map(Act::Show),
        4 => ago().prop_map(Act::Use),
        1 => (2_usize..8).prop_map(Act::Revoke),
        1 => Just(Act::Sweep),
        6 => prop_oneof![Just(1_u64), Just(59), Just(61), Just(1_000)].prop_map(Act::Wait),
    ]
}

/// What is remembered of a family beside the database.
struct Story {
    given: Vec<Tokens>,
    /// Which token's showing gave the answer.
    parent: BTreeMap<usize, usize>,
    used: BTreeSet<usize>,
    rotated: BTreeSet<usize>,
    dead: bool,
    time: u64,
}

impl Story {
    fn at(&self, ago: usize) -> usize {
        (self.given.len() - 1).saturating_sub(ago)
    }

    fn refresh(&self, at: usize) -> &Secret {
        self.given[at].refresh.as_ref().unwrap()
    }

    /// Whether the answer, or what came of it, was put to use.
    fn was_used(&self, at: usize) -> bool {
        self.used.contains(&at) || self.rotated.contains(&at)
    }
}

async fn live(house: &House, grant: uuid::Uuid) -> i64 {
    house.store.count_active_refresh_tokens(grant).await.unwrap()
}

async fn play(house: &House, acts: &[Act]) {
    let first = house.tokens("mcp offline_access").await;
    let grant = first.grant;
    let mut story = Story {
        given: vec![first],
        parent: BTreeMap::new(),
        used: BTreeSet::new(),
        rotated: BTreeSet::new(),
        dead: false,
        time: 1,
    };
    for act in acts {
        match *act {
            Act::Wait(seconds) => story.time += seconds,
            Act::Sweep => assert!(house.grants.sweep(house.after(story.time), |_| {}).await.unwrap().ended.is_empty()),
            Act::Use(ago) => {
                let at = story.at(ago);
                if house.is_live(&story.given[at].access, story.time).await {
                    assert!(!story.dead, "{acts:?}");
                    house.was_used(&story.given[at].access, story.time).await;
                    story.used.insert(at);
                }
            }
            Act::Revoke(ago) => {
                let at = story.at(ago);
                let now = house.after(story.time);
                let ended = house.grants.revoke(story.refresh(at).expose(), "client", now).await.unwrap();
                assert_eq!(ended.len(), usize::from(!story.dead), "{acts:?}");
                story.dead = true;
            }
            Act::Show(ago) => {
                let at = story.at(ago);
                let token = story.refresh(at).clone();
                let newest_of =
                    |parent: usize| story.parent.iter().filter(|(_, p)| **p == parent).map(|(c, _)| *c).max();
                let successor = newest_of(at);
                match house.refresh(&token, story.time).await {
                    Err(refusal) => {
                        assert_eq!(refusal.ended.is_some(), !story.dead, "{refusal:?} {acts:?}");
                        story.dead = true;
                    }
                    Ok(tokens) => {
                        assert!(!story.dead, "{acts:?}");
                        if let Some(child) = successor.filter(|child| story.given[*child] == tokens) {
                            // Given again: only what is still the newest, and nobody has gone on from it.
                            assert!(!story.rotated.contains(&child), "{acts:?}");
                        } else {
                            assert!(!successor.is_some_and(|child| story.was_used(child)), "{acts:?}");
                            story.rotated.insert(at);
                            story.parent.insert(story.given.len(), at);
                            story.given.push(tokens);
                        }
                    }
                }
            }
        }
        assert!(live(house, grant).await <= i64::from(!story.dead), "{acts:?}");
    }
}

on_both! {
    async fn chance_never_makes_two_live_tokens_of_one(db) {
        let house = House::open(db).await;
        let mut runner = TestRunner::deterministic();
        for _ in 0..100 {
            let acts = prop::collection::vec(act(), 1..24).new_tree(&mut runner).unwrap().current();
            play(&house, &acts).await;
        }
    }
}
