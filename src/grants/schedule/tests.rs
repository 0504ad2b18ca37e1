use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const TERMS: Schedule = Schedule {
    recheck: Duration::from_mins(15),
    proactive: Duration::from_mins(10),
    margin: Duration::from_mins(5),
    max_retries: 4,
};

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds)
}

fn life(seconds: i64) -> Life {
    Life { issued_at: at(0), expires_at: at(seconds) }
}

#[test]
fn tokens_are_due_some_time_before_their_end_and_not_before_half_of_their_life() {
    for (seconds, luck, due) in [
        (3_600, 0.0, 3_000),
        (3_600, 1.0, 2_940),
        (3_600, -1.0, 3_060),
        (3_600, 7.0, 2_940),
        (900, 0.0, 450),
        (300, 0.0, 150),
        // However short they live, and even if they were born dead.
        (20, 0.0, 30),
        (0, 0.0, 30),
        (-60, 0.0, 30),
    ] {
        assert_eq!(TERMS.due(life(seconds), luck), at(due), "{seconds} {luck}");
    }
}

#[test]
fn who_comes_is_asked_about_when_the_word_is_old_or_the_tokens_are_due() {
    assert!(!TERMS.is_due_when_used(life(3_600), at(0), at(900)));
    assert!(TERMS.is_due_when_used(life(3_600), at(0), at(901)));
    assert!(TERMS.is_due_when_used(life(3_600), at(2_990), at(3_000)));
    assert!(TERMS.is_due_when_used(life(600), at(0), at(300)));
}

#[test]
fn a_refresh_within_the_margin_is_an_emergency() {
    assert_eq!(TERMS.kind(life(3_600), at(3_299)), Kind::Proactive);
    assert_eq!(TERMS.kind(life(3_600), at(3_300)), Kind::Emergency);
    assert_eq!(TERMS.kind(life(3_600), at(9_000)), Kind::Emergency);
    assert_eq!(TERMS.kind(life(300), at(150)), Kind::Proactive, "they live for minutes, and it is not late");
    assert_eq!(TERMS.kind(life(300), at(225)), Kind::Emergency);
}

#[test]
fn pauses_grow_to_a_bound_and_are_never_shorter_than_was_asked_for() {
    let seconds = |failures, luck| TERMS.pause(failures, None, luck).as_secs();
    assert_eq!([1, 2, 3, 4, 5, 99].map(|failures| seconds(failures, 0.0)), [30, 60, 120, 300, 300, 300]);
    assert_eq!((seconds(1, -1.0), seconds(1, 1.0), seconds(4, 1.0)), (15, 45, 450));
    let asked = |seconds| TERMS.pause(1, Some(Duration::from_secs(seconds)), 0.0).as_secs();
    assert_eq!((asked(5), asked(200), asked(86_400)), (30, 200, 900));
    assert_eq!([1, 4, 5, 6].map(|failures| TERMS.is_given_up(failures)), [false, false, true, true]);
    let failed = |failures, seconds| TERMS.has_failed(failures, life(3_600), at(seconds));
    assert_eq!([failed(0, 9_000), failed(1, 3_599), failed(1, 3_600), failed(5, 10)], [false, false, true, true]);
}

/// Numbers that are the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    /// From 0 to 1.
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
    }

    fn luck(&mut self) -> f64 {
        self.roll() * 2.0 - 1.0
    }

    /// Of tokens that come now: Entra's live 60 to 90 minutes.
    fn life(&mut self, issued_at: OffsetDateTime) -> Life {
        Life {
            issued_at,
            expires_at: issued_at + time::Duration::minutes(60) + time::Duration::minutes(30) * self.roll(),
        }
    }
}

#[derive(Default)]
struct Counts {
    success: f64,
    failure: f64,
    proactive: f64,
    emergency: f64,
    retries: f64,
    /// Seconds in which somebody's token had ended.
    without: f64,
}

/// What becomes of so many people in so many days, if `fails` says at which time which question fails.
fn days(people: usize, days: i64, mut fails: impl FnMut(i64, &mut Dice) -> bool) -> Counts {
    let (mut dice, mut counts, mut due) = (Dice(0x9e37_79b9_7f4a_7c15), Counts::default(), BinaryHeap::new());
    let mut lives = vec![(life(0), 0_u32, false); people];
    for (person, (life, ..)) in lives.iter_mut().enumerate() {
        // All of them sign in within the same hour.
        let signed_in = at(0) + time::Duration::hours(1) * dice.roll();
        *life = dice.life(signed_in);
        due.push(Reverse((TERMS.due(*life, dice.luck()), person)));
    }
    while let Some(Reverse((now, person))) = due.pop() {
        if now > at(days * 86_400) {
            return counts;
        }
        let (life, failures, counted) = &mut lives[person];
        if fails(now.unix_timestamp(), &mut dice) {
            *failures += 1;
            let failed = TERMS.has_failed(*failures, *life, now);
            if failed && !std::mem::replace(counted, failed) {
                counts.failure += 1.0;
            }
            due.push(Reverse((now + TERMS.pause(*failures, None, dice.luck()), person)));
            continue;
        }
        match TERMS.kind(*life, now) {
            Kind::Emergency => counts.emergency += 1.0,
            _ => counts.proactive += 1.0,
        }
        counts.success += 1.0;
        counts.retries += f64::from(*failures);
        counts.without += (now - life.expires_at).max(time::Duration::ZERO).as_seconds_f64();
        (*failures, *counted) = (0, false);
        *life = dice.life(now);
        due.push(Reverse((TERMS.due(*life, dice.luck()), person)));
    }
    counts
}

#[test]
fn ten_thousand_people_keep_their_tokens_fresh_for_days_though_one_question_in_twenty_fails() {
    let counts = days(10_000, 3, |_, dice| dice.roll() < 0.05);
    assert!(counts.success > 600_000.0, "{}", counts.success);
    let (success, all) = (counts.success / (counts.success + counts.failure), counts.proactive + counts.emergency);
    assert!(success >= 0.999, "{success}");
    assert!(counts.proactive / all > 0.95 && counts.emergency / all < 0.05, "{}", counts.emergency / all);
    assert!(counts.retries / counts.success < 0.2, "{}", counts.retries / counts.success);
}

#[test]
fn a_provider_that_is_away_for_two_hours_is_not_pressed_and_everybody_is_back_soon_after() {
    let mut asked = vec![0_u32; 86_400];
    let counts = days(1_000, 1, |now, _| {
        asked[usize::try_from(now).unwrap().min(86_399)] += 1;
        (36_000..43_200).contains(&now)
    });
    let minutes: Vec<u32> = asked.chunks(60).map(|minute| minute.iter().sum()).collect();
    let most = minutes[600..].iter().max().unwrap();
    assert!(*most < 400, "at the longest pause, apart from each other: {most} of 1,000 in the worst minute");
    let (away, after) = (minutes[600..720].iter().sum::<u32>(), minutes[720..728].iter().sum::<u32>());
    assert!(away < 30_000, "{away}");
    assert!(after >= 900, "within eight minutes: {after}");
    assert!(counts.failure > 0.0 && counts.without > 0.0);
}
