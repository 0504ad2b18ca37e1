//! The guard as a whole, with a clock of the test's own and without a database.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use time::OffsetDateTime;
use time::macros::datetime;

use super::scores::{BAD_NEIGHBOURS, LOOKS, MANY, PATIENCE};
use super::{Guard, Limit, Reason, Wrong, length};
use crate::config::{DotEnv, Settings};
use crate::telemetry::{Metrics, Recorder};

const NOW: OffsetDateTime = datetime!(2026-01-01 00:00:00 UTC);
const HOUR: Duration = Duration::from_hours(1);
const BAD: Wrong = Wrong::Credential(None);

fn guard_with_room(args: &[&str], most: usize) -> Guard {
    let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
    Guard::with_room(
        &settings.guard,
        &settings.listen,
        Duration::from_mins(5),
        Recorder::new(Arc::new(Metrics::new(10))),
        most,
    )
}

/// One that bans at ten refusals.
fn guard(args: &[&str]) -> Guard {
    guard_with_room(&[&["--ddos-detection-threshold=10"], args].concat(), 10_000)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v6(site: u16, network: u16, host: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, site, network, 0, 0, 0, host).into()
}

impl Guard {
    fn bad(&self, address: &str, count: usize, now: OffsetDateTime) {
        (0..count).for_each(|_| self.refused(ip(address), BAD, now));
    }

    fn bans(&self, address: &str, now: OffsetDateTime) -> bool {
        self.ban_of(ip(address), now).is_some()
    }
}

#[test]
fn an_address_is_banned_at_the_threshold_for_its_time_and_longer_each_time() {
    let guard = guard(&[]);
    guard.bad("192.0.2.1", 9, NOW);
    assert!(!guard.bans("192.0.2.1", NOW));
    guard.bad("192.0.2.1", 1, NOW);
    let ban = guard.ban_of(ip("192.0.2.1"), NOW).unwrap();
    assert_eq!((ban.reason, ban.refusals, ban.earlier), (Reason::Refusals, 10, 0));
    assert!(guard.bans("::ffff:192.0.2.1", NOW) && !guard.bans("192.0.2.2", NOW));
    let barred = guard.bars(&ban, NOW + Duration::from_mins(20));
    assert_eq!((barred.retry_after, barred.banned), (Duration::from_mins(40), true));
    let mut now = NOW + HOUR;
    assert!(!guard.bans("192.0.2.1", now), "it was served");
    for hours in [2, 4, 8, 16, 24, 24] {
        guard.bad("192.0.2.1", 10, now);
        let ban = guard.ban_of(ip("192.0.2.1"), now).unwrap();
        assert_eq!(ban.until - ban.since, 3_600_000_000 * hours);
        now += Duration::from_hours(u64::try_from(hours).unwrap());
    }
    now += Duration::from_hours(48);
    guard.bad("192.0.2.1", 10, now);
    assert_eq!(guard.ban_of(ip("192.0.2.1"), now).unwrap().earlier, 3, "two are forgotten for two days");
    assert_eq!((length(HOUR, 0), length(HOUR, 100)), (HOUR, 24 * HOUR));
}

#[test]
fn what_is_an_hour_ago_does_not_count_and_what_the_honest_do_counts_a_tenth() {
    let guard = guard(&[]);
    for hour in 0..20 {
        guard.bad("192.0.2.1", 9, NOW + HOUR * hour);
    }
    for wrong in [Wrong::Malformed, Wrong::Bare] {
        (0..49).for_each(|_| guard.refused(ip("192.0.2.2"), wrong, NOW));
    }
    assert!(!guard.bans("192.0.2.1", NOW + HOUR * 19) && !guard.bans("192.0.2.2", NOW));
    (0..2).for_each(|_| guard.refused(ip("192.0.2.2"), Wrong::Bare, NOW));
    assert!(guard.bans("192.0.2.2", NOW));
}

#[test]
fn one_bad_among_many_is_held_back_and_nobody_is_banned() {
    let guard = guard(&[]);
    (0..MANY).for_each(|who| guard.let_in(ip("192.0.2.1"), who, NOW));
    let bad = Wrong::Credential(Some(guard.fingerprint(b"Bearer bad")));
    let held = |now| guard.holds_back(ip("192.0.2.1"), b"Bearer bad", now);
    (0..10).for_each(|_| guard.refused(ip("192.0.2.1"), bad, NOW));
    // Tokens that have just expired, and were shown a few times each.
    for n in 0..100_u8 {
        let expired = Wrong::Credential(Some(guard.fingerprint(&[n])));
        (1..LOOKS).for_each(|_| guard.refused(ip("192.0.2.1"), expired, NOW));
        assert_eq!(guard.holds_back(ip("192.0.2.1"), &[n], NOW), None);
    }
    (1..LOOKS).for_each(|_| guard.refused(ip("192.0.2.1"), bad, NOW));
    assert_eq!(held(NOW), None, "it is looked at a few times");
    guard.refused(ip("192.0.2.1"), bad, NOW);
    let barred = held(NOW + Duration::from_secs(10)).unwrap();
    assert_eq!((barred.retry_after, barred.banned), (Duration::from_secs(50), false));
    assert_eq!(guard.holds_back(ip("192.0.2.1"), b"Bearer good", NOW), None, "others are looked at");
    assert_eq!(guard.holds_back(ip("192.0.2.2"), b"Bearer bad", NOW), None, "elsewhere too");
    assert_eq!(held(NOW + Duration::from_mins(1)), None, "it may have become good");
    guard.bad("192.0.2.1", 100_000, NOW);
    assert!(!guard.bans("192.0.2.1", NOW));
    assert_eq!(guard.figures(NOW).ddos_bans, 0);
    // Who was there more than an hour ago is there no more.
    guard.bad("192.0.2.1", 10, NOW + 2 * HOUR);
    assert!(guard.bans("192.0.2.1", NOW + 2 * HOUR));
}

#[test]
fn where_one_is_known_more_is_borne_and_not_without_end() {
    let guard = guard(&[]);
    // One account, however many of its keys and requests.
    (0..1000).for_each(|_| guard.let_in(ip("192.0.2.1"), "ada", NOW));
    guard.bad("192.0.2.1", 10 * PATIENCE as usize - 1, NOW);
    assert!(!guard.bans("192.0.2.1", NOW));
    guard.bad("192.0.2.1", 1, NOW);
    assert!(guard.bans("192.0.2.1", NOW));
}

#[test]
fn a_household_of_ipv6_is_one_and_a_customer_who_changes_networks_is_banned_whole() {
    let guard = guard(&[]);
    (0..10).for_each(|host| guard.refused(v6(1, 0, host), BAD, NOW));
    assert!(guard.ban_of(v6(1, 0, 99), NOW).is_some() && guard.ban_of(v6(1, 1, 0), NOW).is_none());
    // Never ten from one network.
    (0..39).for_each(|network| guard.refused(v6(2, network, 0), BAD, NOW));
    assert!(guard.ban_of(v6(2, 0, 0), NOW).is_none());
    guard.refused(v6(2, 39, 0), BAD, NOW);
    let ban = guard.ban_of(v6(2, 9_999, 0), NOW).unwrap();
    assert_eq!((ban.network.to_string().as_str(), ban.reason), ("2001:db8:2::/48", Reason::Neighbours));
    assert!(guard.ban_of(v6(3, 0, 0), NOW).is_none());
}

#[test]
fn a_neighbourhood_is_not_banned_for_one_of_it_nor_over_the_heads_of_the_good() {
    let one = guard(&[]);
    // However much, from however few.
    for round in 0..20 {
        one.bad("192.0.2.1", 1000, NOW + HOUR * round);
        one.bad("192.0.2.2", 3, NOW + HOUR * round);
    }
    assert!(!one.bans("192.0.2.3", NOW + HOUR * 19));
    // However often it is banned, and though its neighbours err, too.
    let short = guard(&["--ddos-ban-duration=1"]);
    (2..5).for_each(|host| short.bad(&format!("192.0.2.{host}"), 1, NOW));
    for round in 0..20 {
        short.bad("192.0.2.1", 10, NOW + Duration::from_secs(30) * round);
        assert!(short.bans("192.0.2.1", NOW + Duration::from_secs(30) * round));
    }
    assert!(!short.bans("192.0.2.9", NOW + Duration::from_secs(570)));
    let bad = |guard: &Guard| (0..8).for_each(|host| guard.bad(&format!("192.0.2.{host}"), 10, NOW));
    let all = guard(&[]);
    bad(&all);
    assert!(all.bans("192.0.2.200", NOW));
    let some = guard(&[]);
    for host in 100..=100 + 8 / BAD_NEIGHBOURS {
        some.let_in(ip(&format!("192.0.2.{host}")), host, NOW);
    }
    bad(&some);
    assert!(some.bans("192.0.2.0", NOW) && !some.bans("192.0.2.200", NOW));
}

#[test]
fn this_machine_proxies_and_who_is_allowed_are_never_banned() {
    let proxied =
        ["--behind-proxy", "--trusted-proxies=198.51.100.0/24", "--ddos-allowed-networks=192.0.2.7,2001:db8::/32"];
    let guard = guard(&proxied);
    for spared in ["127.0.0.1", "127.9.9.9", "::1", "::", "198.51.100.1", "192.0.2.7", "2001:db8::1"] {
        guard.bad(spared, 1000, NOW);
        assert!(!guard.bans(spared, NOW), "{spared}");
    }
    assert_eq!(guard.entries(), 0);
    (0..8).for_each(|host| guard.bad(&format!("192.0.2.{host}"), 10, NOW));
    assert!(guard.bans("192.0.2.99", NOW) && !guard.bans("192.0.2.7", NOW), "not with its neighbours either");
}

#[test]
fn a_flood_from_ever_new_addresses_washes_nothing_away() {
    let guard = guard_with_room(&["--ddos-detection-threshold=100"], 1600);
    (0..MANY).for_each(|who| guard.let_in(ip("192.0.2.1"), who, NOW));
    guard.bad("198.51.100.1", 60, NOW);
    guard.bad("192.0.2.1", 60, NOW);
    for n in 0..200_000_u32 {
        guard.refused(IpAddr::from((0x0a00_0000 + n * 211).to_be_bytes()), BAD, NOW);
    }
    assert!(guard.entries() <= 1600 + 400, "{}", guard.entries());
    guard.bad("198.51.100.1", 40, NOW);
    assert!(guard.bans("198.51.100.1", NOW), "its own score is kept");
    guard.bad("192.0.2.1", 1000, NOW);
    assert!(!guard.bans("192.0.2.1", NOW), "who is known there is, too");
    let shed = guard.0.recorder.metrics().guard_shed.with([]).get();
    assert!(shed > 100_000, "it is said: {shed}");
    guard.sweep(NOW + 2 * HOUR);
    assert_eq!(guard.entries(), 0);
}

#[test]
fn a_site_of_ipv6_takes_no_more_than_its_share_of_the_room() {
    let guard = guard_with_room(&["--ddos-detection-threshold=1000000"], 16_000);
    (0..10_000).for_each(|network| guard.refused(v6(1, network, 0), BAD, NOW));
    assert!(guard.entries() <= 65, "{}", guard.entries());
}

#[test]
fn a_ban_is_wrong_once_and_looked_at_seldom() {
    let guard = guard(&[]);
    guard.bad("192.0.2.1", 10, NOW);
    let ban = guard.ban_of(ip("192.0.2.1"), NOW).unwrap();
    let at = crate::store::micros(NOW);
    let looks = (0..1000).filter(|step| ban.may_look(at + step * 1_000)).count();
    assert_eq!(looks, 20, "of a thousand in a second");
    (0..3).for_each(|_| guard.was_good(&ban, NOW));
    assert!(!ban.may_look(at + 10_000_000), "what is known is known");
    (0..5).for_each(|_| _ = guard.bars(&ban, NOW));
    guard.hit(Limit::Tenant, NOW);
    let figures = guard.figures(NOW + Duration::from_secs(299));
    assert_eq!((figures.ddos_bans, figures.ddos_false_positives, figures.ddos_blocks_prevented), (1, 1, 5));
    assert_eq!((figures.hits_by_type.ddos, figures.hits_by_type.tenant, figures.hits_by_type.ip), (5, 1, 0));
    assert_eq!(guard.figures(NOW + Duration::from_secs(306)), super::Figures::default());
}

#[test]
fn a_banned_peer_may_connect_a_few_times_a_second() {
    let guard = guard(&[]);
    let came = |now| (0..100).filter(|_| guard.may_connect(ip("192.0.2.1"), now).is_ok()).count();
    assert_eq!(came(NOW), 100);
    guard.bad("192.0.2.1", 10, NOW);
    assert_eq!((came(NOW), came(NOW), came(NOW + Duration::from_secs(1))), (1, 0, 1));
    let again = NOW + Duration::from_secs(1);
    assert_eq!(guard.may_connect(ip("192.0.2.1"), again), Err(Duration::from_secs(3599)));
    assert_eq!(came(NOW + HOUR), 100);
}

proptest! {
    #[test]
    fn nobody_is_banned_who_stays_under_the_threshold_within_every_hour(
        pauses in proptest::collection::vec(0_u64..1200, 1..400),
    ) {
        let guard = guard(&[]);
        let (mut times, mut now): (Vec<OffsetDateTime>, _) = (Vec::new(), NOW);
        for pause in pauses {
            now += Duration::from_secs(pause);
            let within = times.iter().filter(|time| now - **time < HOUR).count();
            if within < 9 {
                times.push(now);
                guard.refused(ip("192.0.2.1"), BAD, now);
            }
            prop_assert!(!guard.bans("192.0.2.1", now));
        }
    }

    #[test]
    fn whoever_keeps_at_it_is_banned_and_only_that_one(
        addresses in proptest::collection::vec(0_u8..3, 60..200),
    ) {
        // In three different neighbourhoods.
        let guard = guard(&[]);
        let name = |one: u8| format!("10.0.{one}.1");
        let mut counts = [0; 3];
        for (step, one) in addresses.iter().enumerate() {
            let now = NOW + Duration::from_secs(step as u64);
            if !guard.bans(&name(*one), now) {
                counts[usize::from(*one)] += 1;
                guard.refused(ip(&name(*one)), BAD, now);
            }
            for each in 0..3_u8 {
                prop_assert_eq!(guard.bans(&name(each), now), counts[usize::from(each)] >= 10);
            }
        }
    }
}
