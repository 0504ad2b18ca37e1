//! Sixty tenants with ten users each, all at once, through the real process to a real server of each: every tenant is served what it is due
//! to within a hundredth, sees nothing of another, and limits that change or a process that is started anew change none of that.
//!
//! Nothing is assumed of the machine: what is due is reckoned from what was really sent, by `theory`, which shares no code with the
//! product, and no time is asserted but that of the limits themselves.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_precision_loss, missing_docs, reason = "tests")]
#![allow(clippy::print_stdout, reason = "the figures are what people run it for")]

mod load;
mod theory;
mod world;

use std::ops::Range;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use testkit::client::Client;

use crate::load::{Asked, Became, Load};
use crate::world::{TENANTS, Tenant, Terms, World};

/// The capacity, in requests a minute and a second: what a debug build carries on a busy machine.
const RPM: f64 = 12_000.0;
const CAPACITY: f64 = RPM / 60.0;
/// The weights of the tenants, in turn.
const WEIGHTS: [f64; 3] = [1.0, 2.0, 4.0];

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn share(weight: f64) -> f64 {
    CAPACITY * weight / (WEIGHTS.iter().sum::<f64>() * (TENANTS / WEIGHTS.len()) as f64)
}

/// Of every twenty tenants of a weight six ask for less than their share, which is lent; one has a cap below its share, one may borrow
/// nothing, and the others ask for 2 to 2.75 times their share.
fn terms(number: usize) -> Terms {
    let weight = WEIGHTS[number % WEIGHTS.len()];
    let usual = Terms { weight, base_rpm: None, burst: 1.5, asks: 2.0 };
    match number / WEIGHTS.len() {
        0..6 => Terms { asks: 0.6, ..usual },
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
        6 => Terms { base_rpm: Some((share(weight) * 0.6 * 60.0) as u32), ..usual },
        7 => Terms { burst: 1.0, ..usual },
        row => Terms { asks: 2.0 + (row % 4) as f64 / 4.0, ..usual },
    }
}

/// Uses up what a tenant with a cap may have at once, a minute's worth: from then on it has what comes.
async fn spend(world: &World, tenant: &Tenant) {
    let Some(rpm) = tenant.terms.base_rpm else { return };
    let spending = tenant.keys.iter().map(async |key| {
        let client = Client::new(&format!("{}/mcp/it", world.url)).bearer(key).keep_alive();
        loop {
            let said = client.tool("whose", json!({"tenant": tenant.name, "call": 0})).await.unwrap();
            let data = &said.response["error"]["data"];
            if (&data["limit"], &data["rpm"]) == (&json!("tenant"), &json!(rpm)) {
                return;
            }
        }
    });
    join_all(spending).await;
}

fn served(asked: &[Asked]) -> Vec<Asked> {
    asked.iter().filter(|asked| asked.became == Became::Served).copied().collect()
}

fn of(tenant: usize, asked: &[Asked]) -> f64 {
    asked.iter().filter(|asked| asked.tenant == tenant).count() as f64
}

/// What each tenant was served of what it sent in some time, beside what it was due.
struct Comparison {
    /// Its number, what it sent, had and was due.
    rows: Vec<(usize, f64, f64, f64)>,
}

impl Comparison {
    fn new(load: &Load, tenants: &[Tenant], time: &Range<Duration>, anew: impl Fn(usize) -> bool) -> Self {
        let asked = load.sent_in(time);
        let (given, span) = (served(&asked), time.end.saturating_sub(time.start));
        let claims: Vec<_> = tenants
            .iter()
            .enumerate()
            .map(|(number, tenant)| tenant.claim(of(number, &asked), span, anew(number)))
            .collect();
        let due = theory::fair(&claims, CAPACITY * span.as_secs_f64());
        let row = |number: usize| (number, claims[number].sent, of(number, &given), due[number]);
        Self { rows: (0..tenants.len()).map(row).collect() }
    }

    fn sum(&self, which: impl Fn(usize) -> bool) -> (f64, f64) {
        let rows = self.rows.iter().filter(|(number, ..)| which(*number));
        rows.fold((0.0, 0.0), |(had, due), (_, _, more, right)| (had + more, due + right))
    }

    /// Nobody among `which` is off by more than a hundredth and two requests: one that began or ended just outside of the time at each
    /// end of it. The gateway's own reserve, a 400th of its capacity, is in the hundredth.
    #[track_caller]
    fn holds(&self, what: &str, which: impl Fn(usize) -> bool) {
        let off = |had: f64, due: f64| (had - due).abs() - due / 100.0;
        let rows = || self.rows.iter().filter(|(number, ..)| which(*number));
        let worst = rows().map(|(_, _, had, due)| off(*had, *due)).fold(f64::MIN, f64::max);
        let (had, due) = self.sum(&which);
        println!("{what}: {had} of {due:.1} requests; the worst is off by a hundredth and {worst:.2}");
        let list = || {
            let line = |(number, sent, had, due): &(usize, f64, f64, f64)| {
                let off = off(*had, *due);
                format!("tenant-{number:02} {:?}: sent {sent}, had {had}, due {due:.1}, off {off:.2}\n", terms(*number))
            };
            rows().map(line).collect::<String>()
        };
        assert!(worst <= 2.0, "{what}:\n{}", list());
    }
}

/// Tenants that ask for more than they have.
fn greedy() -> impl Iterator<Item = usize> {
    (0..TENANTS).filter(|number| terms(*number).asks > 1.0)
}

/// Tenants that ask for more than they have and have no cap, of the weight in this place.
fn hungry(weight: usize) -> impl Fn(usize) -> bool {
    move |number| number % WEIGHTS.len() == weight && number / WEIGHTS.len() >= 8
}

/// Since then a tenant had no more than its cap allows: a minute's worth at once, and then what comes.
#[track_caller]
fn is_capped(load: &Load, number: usize, tenant: &Tenant, since: Duration) {
    let (rpm, until) = (f64::from(tenant.terms.base_rpm.unwrap()), load.now());
    let asked = load.sent_in(&(since..until));
    let (sent, had) = (of(number, &asked), of(number, &served(&asked)));
    let may = rpm + rpm / 60.0 * until.saturating_sub(since).as_secs_f64();
    println!("capped to {rpm} a minute: {had} of {sent} were served, {may:.1} may be");
    assert!(had > 0.0 && had <= may, "{had} of {may}");
    assert!(sent > 4.0 * may, "without the cap it would have more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_tenants_have_what_they_are_due_and_nothing_of_each_other() {
    let began = Instant::now();
    let mut world = World::start(&[&format!("--rate-limit-global-rpm={RPM}")]).await;
    let mut tenants = world.tenants((0..TENANTS).map(terms)).await;
    assert_eq!(tenants.iter().map(|tenant| tenant.keys.len()).sum::<usize>(), 600);
    join_all(tenants.iter().map(|tenant| spend(&world, tenant))).await;
    println!("60 tenants and 600 users were made in {:?}", began.elapsed());
    let before: Vec<u64> = tenants.iter().map(Tenant::calls).collect();
    let mut load = Load::start(&world.url, &tenants, |tenant| tenant.terms.asks * share(tenant.terms.weight));

    // By then is used up what each may make up for at first, and for the same reason none has a minute's worth of its cap left.
    let even = load.refused(greedy(), seconds(1)).await;
    let time = even..even + seconds(30);
    load.until(time.end + seconds(1)).await;
    let steady = Comparison::new(&load, &tenants, &time, |_| false);
    steady.holds("30 s of load", |_| true);
    for (number, sent, had, _) in steady.rows.iter().filter(|(number, ..)| terms(*number).asks < 1.0) {
        assert!(had >= sent, "tenant-{number:02} asks for less than its share and had {had} of {sent}");
    }
    for (place, weight) in WEIGHTS.iter().enumerate() {
        let (had, due) = steady.sum(hungry(place));
        println!("of weight {weight} together: {had} of {due:.1}");
        assert!((had - due).abs() <= due / 100.0, "of weight {weight}: {had} of {due}");
    }
    let (had, due) = steady.sum(|_| true);
    assert!((had - due).abs() <= due / 100.0, "{had} of {due}");

    // Of weights 2, 4 and 4; each asks for far more than it will have.
    let (riser, faller, small) = (34, 35, 47);
    world.limit(&mut tenants[riser], json!({"fairness_weight": 3})).await;
    world.limit(&mut tenants[faller], json!({"fairness_weight": 1})).await;
    world.limit(&mut tenants[small], json!({"base_rpm": 6})).await;
    let set = load.now();
    load.until(set + Duration::from_millis(6500)).await;
    let changed = Comparison::new(&load, &tenants, &(set + seconds(1)..set + seconds(6)), |_| false);
    changed.holds("from a second after weights were changed", |number| [riser, faller].contains(&number));
    is_capped(&load, small, &tenants[small], set);

    let down = load.now();
    world.stop().await;
    let gone = load.now();
    world.start_again().await;
    let up = load.now();
    // A new process knows nothing of what was used up: shares may be made up for, and a minute's worth of a cap is there again.
    let even = load.refused(greedy(), up).await;
    load.until(even + Duration::from_millis(5500)).await;
    is_capped(&load, small, &tenants[small], gone);
    let again = Comparison::new(&load, &tenants, &(even..even + seconds(5)), |_| true);
    again.holds("after a restart", |number| number != small);
    let limits = world.limits(&tenants[small]).await;
    assert_eq!((&limits["base_rpm"], &limits["fairness_weight"]), (&json!(6), &json!(4.0)));
    load.stop().await;

    let (all, late) = (load.sent_in(&(Duration::ZERO..load.now())), load.late());
    println!(
        "{} requests in {:?}, {late} turns let pass; away for {:?}",
        all.len(),
        load.now(),
        up.saturating_sub(down)
    );
    assert_eq!(load.wrong(), Vec::<String>::new());
    let cut: Vec<_> = all.iter().filter(|asked| asked.became == Became::Cut).collect();
    assert!(cut.iter().all(|asked| asked.answered >= down && asked.sent <= up), "{cut:?}");
    for (number, tenant) in tenants.iter().enumerate() {
        let own: Vec<_> = all.iter().filter(|asked| asked.tenant == number).collect();
        assert_eq!(tenant.foreign(), 0, "{} was asked by users of others", tenant.name);
        let calls = |became| own.iter().filter(|asked| !asked.list && asked.became == became).count() as u64;
        let (had, cut, got) = (calls(Became::Served), calls(Became::Cut), tenant.calls() - before[number]);
        assert!((had..=had + cut).contains(&got), "{}: served {had}, its server got {got}", tenant.name);
        let lists = own.iter().filter(|asked| asked.list && asked.became == Became::Served).count();
        let since = own.iter().filter(|asked| asked.sent > up && asked.became == Became::Served).count();
        assert!(lists > 0 && since > 0, "{}: {lists} lists, {since} served since the restart", tenant.name);
    }
    for (process, time) in [("the first process", Duration::ZERO..gone), ("the second", gone..load.now())] {
        let given = served(&load.sent_in(&time));
        for span in [1, 5, 20, 60].map(seconds) {
            let full = theory::fullest(&given, span, RPM);
            println!("{process}: in {span:?} at most {:.1} % of what may be", full * 100.0);
            assert!(full <= 1.0, "{process}: {full} of what may be in {span:?}");
        }
    }
}
