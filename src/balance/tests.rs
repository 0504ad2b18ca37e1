use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::breaker::{FAILURES_TO_OPEN, OPEN_FOR};
use super::*;

fn replicas(weights: &[u32], policy: Policy) -> Replicas {
    Replicas::new(&specs(weights), policy, Room::ENDLESS, None, Instant::now())
}

fn specs(weights: &[u32]) -> Vec<Replica> {
    let one = |(index, weight): (usize, &u32)| Replica { url: format!("http://replica-{index}/mcp"), weight: *weight };
    weights.iter().enumerate().map(one).collect()
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn shares(replicas: &Replicas, calls: u64) -> Vec<f64> {
    let mut chosen = vec![0.0; replicas.len()];
    let (mut rng, now) = (rng(), Instant::now());
    for call in 0..calls {
        chosen[replicas.order(call, &mut rng, now).unwrap().first().unwrap()] += 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    chosen.iter().map(|count| count / calls as f64).collect()
}

fn dropped() -> Fault {
    Fault::upstream(Kind::Dropped, Retry::MaybeSent, "the connection ended")
}

fn break_replica(replicas: &Replicas, index: usize, now: Instant) {
    for _ in 0..FAILURES_TO_OPEN {
        replicas.enter(index, now).unwrap().report(Err(&dropped()), now);
    }
}

#[test]
fn round_robin_gives_each_its_turn_and_the_others_as_failover() {
    let replicas = replicas(&[1, 1, 1], Policy::RoundRobin);
    let (mut rng, now) = (rng(), Instant::now());
    let orders: Vec<Vec<usize>> = (0..3).map(|_| replicas.order(0, &mut rng, now).unwrap().collect()).collect();
    assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
}

#[test]
fn a_sick_replica_stands_last_and_its_load_is_shared_by_all_others() {
    let replicas = replicas(&[1, 1, 1, 1], Policy::RoundRobin);
    let now = Instant::now();
    replicas.checked(1, Err("answered 503".into()), now);
    let shares = shares(&replicas, 300);
    for index in [0, 2, 3] {
        assert!((shares[index] - 1.0 / 3.0).abs() < 1e-9, "{shares:?}");
    }
    assert_eq!(replicas.order(0, &mut rng(), now).unwrap().last(), Some(1));
    assert_eq!(replicas.status(now)[1].health.as_ref().map(|health| health.healthy), Some(false));
    replicas.checked(1, Ok(()), now);
    assert!(self::shares(&replicas, 400).iter().all(|share| (share - 0.25).abs() < 1e-9));
}

#[test]
fn the_fewest_calls_under_way_go_first_and_a_dropped_guard_gives_its_place_back() {
    let replicas = replicas(&[1, 1, 1], Policy::LeastInFlight);
    let (mut rng, now) = (rng(), Instant::now());
    let _two = [replicas.enter(0, now).unwrap(), replicas.enter(0, now).unwrap()];
    let one = replicas.enter(2, now).unwrap();
    for _ in 0..3 {
        assert_eq!(replicas.order(0, &mut rng, now).unwrap().collect::<Vec<_>>(), [1, 2, 0]);
    }
    drop(one);
    let firsts: Vec<_> = (0..4).map(|_| replicas.order(0, &mut rng, now).unwrap().first().unwrap()).collect();
    assert!(firsts.contains(&1) && firsts.contains(&2) && !firsts.contains(&0), "{firsts:?}");
}

#[test]
fn an_open_breaker_takes_a_replica_out_and_open_ones_only_leave_a_fault_with_a_time() {
    let replicas = replicas(&[1, 1], Policy::RoundRobin);
    let (mut rng, now) = (rng(), Instant::now());
    break_replica(&replicas, 0, now);
    for _ in 0..4 {
        assert_eq!(replicas.order(0, &mut rng, now).unwrap().collect::<Vec<_>>(), [1]);
    }
    let later = now + Duration::from_secs(20);
    break_replica(&replicas, 1, later);
    let fault = replicas.order(0, &mut rng, later).unwrap_err();
    assert_eq!((fault.kind, fault.whose), (Kind::BreakerOpen, crate::fault::Whose::Upstream));
    assert_eq!(fault.retry_after, Some(Duration::from_secs(40)));
    assert!(!fault.counts_against_replica());
    assert!(fault.detail.contains("the connection ended") && fault.detail.contains("40 s"), "{}", fault.detail);
    assert_eq!(replicas.order(0, &mut rng, now + OPEN_FOR).unwrap().collect::<Vec<_>>(), [0]);
}

#[test]
fn a_probe_whose_caller_went_away_leaves_its_place_to_the_next() {
    let replicas = replicas(&[1], Policy::RoundRobin);
    let now = Instant::now();
    break_replica(&replicas, 0, now);
    let later = now + OPEN_FOR;
    let probe = replicas.enter(0, later).unwrap();
    assert!(probe.is_probe());
    assert!(replicas.enter(0, later).is_none());
    assert_eq!(replicas.order(0, &mut rng(), later).unwrap_err().retry_after, Some(Duration::from_secs(1)));
    drop(probe);
    for _ in 0..3 {
        let mut probe = replicas.enter(0, later).unwrap();
        probe.report(Ok(()), later);
    }
    assert_eq!(replicas.status(later)[0].breaker, BreakerState::Closed);
    assert_eq!(replicas.status(later)[0].in_flight, 0);
}

#[test]
fn what_is_not_the_replicas_fault_never_opens_its_breaker() {
    let replicas = replicas(&[1], Policy::RoundRobin);
    let now = Instant::now();
    let not_its_fault = [
        Fault::client(Kind::Cancelled, "the client went away"),
        Fault::gateway(Kind::Full, "too many calls"),
        Fault::upstream(Kind::Status(429), Retry::NotSent, "throttled"),
        Fault::upstream(Kind::Refused, Retry::NotSent, "401"),
    ];
    for fault in not_its_fault.iter().cycle().take(40) {
        replicas.enter(0, now).unwrap().report(Err(fault), now);
    }
    assert_eq!(replicas.status(now)[0].breaker, BreakerState::Closed);
    break_replica(&replicas, 0, now);
    assert_eq!(replicas.status(now)[0].breaker, BreakerState::Open);
}

#[test]
fn new_settings_keep_what_is_known_of_a_replica_that_stays() {
    let now = Instant::now();
    let before = replicas(&[1, 1], Policy::RoundRobin);
    break_replica(&before, 1, now);
    let _call = before.enter(0, now);
    let mut changed = specs(&[5, 5, 5]);
    changed.swap(0, 1);
    let after = Replicas::new(&changed, Policy::Weighted, Room::ENDLESS, Some(&before), now);
    let status = after.status(now);
    assert_eq!(status[0].breaker, BreakerState::Open);
    assert_eq!((status[1].in_flight, status[1].weight), (1, 5));
    assert_eq!(status[2].breaker, BreakerState::Closed);
}

#[test]
fn the_same_url_twice_is_two_replicas() {
    let twice = vec![Replica { url: "http://one/mcp".into(), weight: 1 }; 2];
    let replicas = Replicas::new(&twice, Policy::ConsistentHash, Room::ENDLESS, None, Instant::now());
    assert!(shares(&replicas, 10_000).iter().all(|share| (share - 0.5).abs() < 0.02));
}

#[test]
fn a_server_without_replicas_says_so() {
    let none = Replicas::new(&[], Policy::RoundRobin, Room::ENDLESS, None, Instant::now());
    assert_eq!(none.order(0, &mut rng(), Instant::now()).unwrap_err().kind, Kind::Setup);
    assert!(none.enter(0, Instant::now()).is_none());
}

#[test]
fn random_and_hash_spread_evenly() {
    for policy in [Policy::Random, Policy::ConsistentHash] {
        let shares = shares(&replicas(&[1; 5], policy), 100_000);
        assert!(shares.iter().all(|share| (share - 0.2).abs() < 0.01), "{policy:?} {shares:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn weights_are_respected_within_one_percent(weights in prop::collection::vec(1..100_u32, 1..9)) {
        let sum = f64::from(weights.iter().sum::<u32>());
        for policy in [Policy::Weighted, Policy::ConsistentHash] {
            let shares = shares(&replicas(&weights, policy), 60_000);
            for (share, weight) in shares.iter().zip(&weights) {
                prop_assert!((share - f64::from(*weight) / sum).abs() < 0.01, "{:?} {:?} {:?}", policy, weights, shares);
            }
        }
    }

    #[test]
    fn a_replica_that_comes_takes_its_share_of_callers_and_moves_no_other(weights in prop::collection::vec(1..10_u32, 1..8)) {
        let all = replicas(&weights, Policy::ConsistentHash);
        let mut more = weights.clone();
        more.push(3);
        let one_more = replicas(&more, Policy::ConsistentHash);
        let (mut rng, now, mut moved) = (rng(), Instant::now(), 0.0);
        for caller in 0..20_000_u64 {
            let before = all.order(caller, &mut rng, now).unwrap().first();
            let after = one_more.order(caller, &mut rng, now).unwrap().first();
            if before != after {
                prop_assert_eq!(after, Some(weights.len()), "a caller moved to a replica that was there before");
                moved += 1.0;
            }
        }
        let fair = 3.0 / f64::from(more.iter().sum::<u32>());
        prop_assert!((moved / 20_000.0 - fair).abs() < 0.02, "{} of {}", moved / 20_000.0, fair);
    }

    #[test]
    fn when_a_replica_breaks_each_of_its_callers_goes_to_the_one_that_stood_second(broken in 0..5_usize) {
        let replicas = replicas(&[1, 2, 3, 2, 1], Policy::ConsistentHash);
        let (mut rng, now) = (rng(), Instant::now());
        let before: Vec<Vec<usize>> = (0..2_000).map(|key| replicas.order(key, &mut rng, now).unwrap().collect()).collect();
        break_replica(&replicas, broken, now);
        for (key, before) in (0..2_000).zip(before) {
            let without: Vec<usize> = before.into_iter().filter(|index| *index != broken).collect();
            prop_assert_eq!(replicas.order(key, &mut rng, now).unwrap().collect::<Vec<_>>(), without);
        }
    }
}

fn narrow(most: usize, queue: usize, patience: Duration) -> Replicas {
    Replicas::new(&specs(&[1]), Policy::RoundRobin, Room { most, queue, patience }, None, Instant::now())
}

#[tokio::test]
async fn what_finds_no_place_waits_in_a_queue_that_is_bounded_in_number_and_time() {
    let replicas = narrow(1, 1, Duration::from_hours(1));
    let first = replicas.enter(0, Instant::now()).unwrap();
    assert!(replicas.enter(0, Instant::now()).is_none());
    let mut second = std::pin::pin!(replicas.enter_in_turn(0, None));
    assert!(futures_util::poll!(&mut second).is_pending());
    let full = replicas.enter_in_turn(0, None).await.unwrap_err();
    assert_eq!((full.kind, full.whose, full.retry), (Kind::Full, crate::fault::Whose::Gateway, Retry::NotSent));
    assert!(full.retry_after.is_some() && !full.counts_against_replica());
    drop(first);
    assert!(replicas.enter(0, Instant::now()).is_none(), "the place is for who waits");
    let second = second.await.unwrap();
    assert_eq!(replicas.status(Instant::now())[0].in_flight, 1);
    drop(second);
    assert!(replicas.enter(0, Instant::now()).is_some());

    let replicas = narrow(1, 1, Duration::from_millis(1));
    let _first = replicas.enter(0, Instant::now()).unwrap();
    assert_eq!(replicas.enter_in_turn(0, None).await.unwrap_err().kind, Kind::Full);
    assert_eq!(replicas.enter_in_turn(0, Some(Instant::now())).await.unwrap_err().kind, Kind::Full);
}

#[tokio::test]
async fn who_goes_away_while_it_waits_leaves_its_turn_to_the_next() {
    let replicas = narrow(1, 2, Duration::from_hours(1));
    let first = replicas.enter(0, Instant::now()).unwrap();
    let mut second = Box::pin(replicas.enter_in_turn(0, None));
    let mut third = Box::pin(replicas.enter_in_turn(0, None));
    assert!(futures_util::poll!(&mut second).is_pending() && futures_util::poll!(&mut third).is_pending());
    drop(first);
    drop(second);
    drop(third.await.unwrap());
    assert!(replicas.enter(0, Instant::now()).is_some());
}

#[tokio::test]
async fn who_comes_last_is_served_last_even_when_a_place_has_just_become_free() {
    let replicas = narrow(1, 9, Duration::from_hours(1));
    let mut place = replicas.enter(0, Instant::now()).unwrap();
    let mut waiting = std::collections::VecDeque::new();
    for _ in 0..3 {
        waiting.push_back(Box::pin(replicas.enter_in_turn(0, None)));
        assert!(futures_util::poll!(waiting.back_mut().unwrap()).is_pending());
    }
    for _ in 0..5 {
        drop(place);
        // Comes after the place was given back, and before who waits for it has looked.
        waiting.push_back(Box::pin(replicas.enter_in_turn(0, None)));
        for late in waiting.iter_mut().rev().take(3) {
            assert!(futures_util::poll!(late).is_pending());
        }
        place = waiting.pop_front().unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_calls_through_three_places_leave_all_three_free() {
    let replicas = Arc::new(narrow(3, 1_000, Duration::from_hours(1)));
    let call = |replicas: Arc<Replicas>| async move {
        let place = replicas.enter_in_turn(0, None).await.unwrap();
        assert!(replicas.status(Instant::now())[0].in_flight <= 3);
        tokio::task::yield_now().await;
        drop(place);
    };
    let calls: Vec<_> = (0..1_000).map(|_| tokio::spawn(call(replicas.clone()))).collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(replicas.status(Instant::now())[0].in_flight, 0);
}

#[test]
fn a_call_given_up_after_it_was_due_is_a_timeout_and_before_it_nothing() {
    let replicas = replicas(&[1], Policy::RoundRobin);
    let now = Instant::now();
    let give_up = |due: Instant, begun: bool| {
        let mut call = replicas.enter(0, now).unwrap();
        call.due_by(Some(due));
        if begun {
            call.begun();
        }
    };
    for _ in 0..9 {
        give_up(now + Duration::from_hours(1), false);
        give_up(now, true);
    }
    assert_eq!(replicas.status(now)[0].breaker, BreakerState::Closed);
    for _ in 0..FAILURES_TO_OPEN {
        give_up(now, false);
    }
    let status = replicas.status(Instant::now()).remove(0);
    assert_eq!((status.breaker, status.last_fault.unwrap().kind), (BreakerState::Open, Kind::Timeout));
    assert_eq!(replicas.trouble().unwrap().kind, Kind::Timeout);
}

#[test]
fn a_stream_at_rest_takes_no_place() {
    let replicas = narrow(1, 0, Duration::ZERO);
    let mut stream = replicas.enter(0, Instant::now()).unwrap();
    stream.rest();
    let call = replicas.enter(0, Instant::now());
    assert!(call.is_some());
    drop(stream);
    assert_eq!(replicas.status(Instant::now())[0].in_flight, 1, "a place is given back once");
}
