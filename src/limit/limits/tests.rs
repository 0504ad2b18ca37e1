//! What the limits of a process promise together.

use super::*;

fn limits(capacity_rpm: u32, terms: Terms) -> (Limits, TenantId) {
    let limits = Limits::new(Rules { capacity_rpm, window: Duration::from_mins(5), fair: true }, 1.5);
    let tenant = TenantId::default_tenant();
    limits.agree([(tenant.clone(), terms)]);
    (limits, tenant)
}

fn who(tenant: &TenantId, user: BucketKey) -> Who<'_> {
    Who { tenant, user, rpm: 3 }
}

#[tokio::test]
async fn a_user_has_a_limit_of_its_own_whatever_it_comes_with() {
    let (limits, tenant) = limits(6000, Terms::default());
    for _ in 0..3 {
        limits.admit(who(&tenant, 7)).await.unwrap();
    }
    let refused = limits.admit(who(&tenant, 7)).await.unwrap_err();
    assert_eq!((refused.limit, refused.rpm), (Limit::User, 3));
    assert!(refused.wait > Duration::from_secs(19) && refused.wait <= Duration::from_secs(20), "{refused:?}");
    limits.admit(who(&tenant, 8)).await.unwrap();
}

#[tokio::test]
async fn a_tenant_s_refusal_costs_its_user_nothing() {
    let (limits, tenant) = limits(6000, Terms { base_rpm: Some(1), ..Terms::default() });
    limits.admit(who(&tenant, 7)).await.unwrap();
    for _ in 0..9 {
        let refused = limits.admit(who(&tenant, 7)).await.unwrap_err();
        assert_eq!((refused.limit, refused.rpm, refused.at_once), (Limit::Tenant, 1, false));
    }
}

#[tokio::test]
async fn of_what_may_be_served_at_once_each_gateway_has_its_part_and_never_none() {
    let (limits, tenant) =
        limits(6000, Terms { max_concurrent_requests: Some(4), base_rpm: Some(600), ..Terms::default() });
    limits.part(2);
    let first = limits.admit(who(&tenant, 1)).await.unwrap();
    let second = limits.admit(who(&tenant, 2)).await.unwrap();
    let share = limits.share(&tenant).unwrap();
    assert!(matches!(share.enter(), Room::Full), "half of it is for here");
    share.have_own_here(0.75, limits.now());
    let Room::Free(third) = share.enter() else { panic!("more is asked for here than elsewhere") };
    assert!(matches!(share.enter(), Room::Full));
    drop((third, first, second));
    share.have_own_here(0.01, limits.now());
    let Room::Free(_only) = share.enter() else { panic!("one may be served wherever it is") };
    assert!(matches!(share.enter(), Room::Full));
}

#[tokio::test]
async fn who_waits_for_others_to_end_hears_of_more_room() {
    let most = |count| Terms { max_concurrent_requests: count, ..Terms::default() };
    for more in [Some(4), None] {
        let (limits, tenant) = limits(6000, most(Some(2)));
        let _first = limits.admit(who(&tenant, 1)).await.unwrap();
        let _second = limits.admit(who(&tenant, 2)).await.unwrap();
        let (third, fourth, ()) = tokio::join!(limits.admit(who(&tenant, 3)), limits.admit(who(&tenant, 4)), async {
            tokio::task::yield_now().await;
            limits.agree([(tenant.clone(), most(more))]);
        });
        assert!(third.is_ok() && fourth.is_ok(), "{more:?}: {third:?}, {fourth:?}");
    }
}

#[tokio::test]
async fn who_goes_first_passes_before_those_who_waited_already() {
    let (limits, _) = limits(600, Terms::default());
    let [one, first] = ["one", "first"].map(|name| TenantId::parse(name).unwrap());
    let terms = |priority_support| Terms { priority_support, ..Terms::default() };
    limits.agree([(one.clone(), terms(false)), (first.clone(), terms(true))]);
    let mut waiting = loop {
        while limits.fair.capacity.take(limits.fair.capacity_price(), limits.now()).is_ok() {}
        let mut waiting = Box::pin(limits.admit(Who { rpm: 1000, ..who(&one, 1) }));
        if futures_util::poll!(&mut waiting).is_pending() {
            break waiting;
        }
        // Some capacity came in between.
    };
    tokio::select! {
        biased;
        admitted = limits.admit(who(&first, 2)) => assert!(admitted.is_ok(), "{admitted:?}"),
        admitted = &mut waiting => panic!("it was not before: {admitted:?}"),
    }
    waiting.await.unwrap();
}

#[test]
fn where_shares_are_not_fair_a_tenant_takes_what_is_there() {
    let limits = Limits::new(Rules { capacity_rpm: 6000, window: Duration::from_mins(5), fair: false }, 1.5);
    let [heavy, light] = ["heavy", "light"].map(|name| TenantId::parse(name).unwrap());
    let capped = Terms { weight: 1000.0, base_rpm: Some(60), ..Terms::default() };
    limits.agree([(heavy.clone(), capped), (light.clone(), Terms { weight: 0.01, ..Terms::default() })]);
    let [heavy, light] = [heavy, light].map(|tenant| limits.share(&tenant).unwrap());
    let (began, mut capped, mut taken) = (limits.now(), 0, 0);
    for step in 0..6000 {
        let now = began + step * SECOND / 100;
        for _ in 0..3 {
            match limits.pass(&light, now) {
                Ok(_) => taken += 1,
                Err(short) => {
                    assert!(matches!(short, Short::Capacity(_)), "{short:?}");
                    assert_eq!(limits.refuse(&light, short).limit, Limit::Global);
                }
            }
        }
        match limits.pass(&heavy, now) {
            Ok(_) => capped += 1,
            Err(short @ Short::Own(_)) => assert_eq!(limits.refuse(&heavy, short).rpm, 60),
            Err(short) => assert!(matches!(short, Short::Capacity(_)), "{short:?}"),
        }
    }
    assert!(capped <= 120, "what it may hold, and what comes in a minute: {capped}");
    assert!((5900..=6000).contains(&(taken + capped)), "the capacity, and no more: {taken} and {capped}");
}

#[test]
fn who_had_its_share_is_told_of_it_on_all_replicas() {
    let (limits, tenant) = limits(6000, Terms { burst_factor: Some(1.0), ..Terms::default() });
    let share = limits.share(&tenant).unwrap();
    let whole = limits.refuse(&share, Short::Share(SECOND)).rpm;
    share.here.set(0.25);
    assert_eq!((limits.refuse(&share, Short::Share(SECOND)).rpm, whole), (5985, 5985));
}

#[tokio::test]
async fn who_gives_up_waiting_has_lost_nothing() {
    for first in [false, true] {
        let (limits, tenant) = limits(240, Terms { priority_support: first, ..Terms::default() });
        let (others, one) = (Who { rpm: 1000, ..who(&tenant, 1) }, who(&tenant, 7));
        let (share, mut others_given, mut given_up) = (limits.share(&tenant).unwrap(), 0, 0);
        while given_up < 9 {
            while limits.fair.capacity.wait(limits.fair.capacity_price(), limits.now()) == 0 {
                others_given += u64::from(limits.admit(others).await.is_ok());
            }
            match futures_util::poll!(Box::pin(limits.admit(one))) {
                std::task::Poll::Pending => given_up += 1,
                // Some capacity came in between.
                std::task::Poll::Ready(Ok(admitted)) => limits.undo(admitted),
                std::task::Poll::Ready(Err(_)) => {}
            }
        }
        let in_vain = share.counted().given - others_given;
        assert!(in_vain <= 1, "those that were given up count for the next: {in_vain}");
        for _ in 0..3 {
            limits.admit_user(one).unwrap();
        }
        limits.admit_user(one).unwrap_err();
    }
}

#[tokio::test]
async fn who_gives_up_waiting_for_others_to_end_has_lost_nothing() {
    let (limits, tenant) = limits(6000, Terms { max_concurrent_requests: Some(1), ..Terms::default() });
    let _first = limits.admit(who(&tenant, 1)).await.unwrap();
    for _ in 0..9 {
        assert!(futures_util::poll!(Box::pin(limits.admit(who(&tenant, 7)))).is_pending());
    }
    for _ in 0..3 {
        limits.admit_user(who(&tenant, 7)).unwrap();
    }
}

#[tokio::test]
async fn who_has_had_everything_may_still_ask_whether_anybody_is_there() {
    let (limits, tenant) = limits(6000, Terms::default());
    for _ in 0..3 {
        limits.admit(who(&tenant, 8)).await.unwrap();
    }
    assert_eq!((0..99).filter(|_| limits.admit_ping(who(&tenant, 8))).count(), 12);
    for _ in 0..12 {
        assert!(limits.admit_ping(who(&tenant, 6)));
    }
    for _ in 0..3 {
        limits.admit_user(who(&tenant, 6)).unwrap();
    }
}

#[tokio::test]
async fn what_is_undone_was_never_asked_for() {
    let (limits, tenant) = limits(6000, Terms { base_rpm: Some(1), ..Terms::default() });
    let share = limits.share(&tenant).unwrap();
    let counted = || (share.counted().wanted, share.counted().given);
    for _ in 0..9 {
        let admitted = limits.admit(who(&tenant, 7)).await.unwrap();
        limits.undo(admitted);
    }
    limits.admit(who(&tenant, 7)).await.unwrap();
    assert_eq!(counted(), (1, 1));
    assert_eq!(limits.admit(who(&tenant, 7)).await.unwrap_err().limit, Limit::Tenant);
    assert_eq!(counted(), (2, 1));
}

#[test]
fn a_server_and_its_tools_take_so_many_and_a_refused_one_costs_nothing() {
    let (limits, _) = limits(6000, Terms::default());
    let rates = Rates::new(7, Some(4), [("search", 2)]).unwrap();
    for _ in 0..2 {
        limits.admit_at(&rates, Some("search")).unwrap();
    }
    for _ in 0..9 {
        let refused = limits.admit_at(&rates, Some("search")).unwrap_err();
        assert_eq!((refused.limit, refused.rpm), (Limit::Tool, 2));
        assert!(refused.wait > Duration::from_secs(29) && refused.wait <= Duration::from_secs(30), "{refused:?}");
    }
    for tool in [Some("fetch"), None] {
        limits.admit_at(&rates, tool).unwrap();
    }
    for tool in [Some("fetch"), None] {
        let refused = limits.admit_at(&rates, tool).unwrap_err();
        assert_eq!((refused.limit, refused.rpm), (Limit::Server, 4));
    }
    assert_eq!(limits.admit_at(&rates, Some("search")).unwrap_err().limit, Limit::Tool, "for which it is longer");
    limits.admit_at(&Rates::new(8, Some(4), []).unwrap(), None).unwrap();
}

#[test]
fn while_the_server_has_none_left_its_tools_keep_theirs() {
    let (limits, _) = limits(6000, Terms::default());
    let rates = Rates::new(7, Some(1), [("search", 1)]).unwrap();
    limits.admit_at(&rates, None).unwrap();
    for _ in 0..9 {
        assert_eq!(limits.admit_at(&rates, Some("search")).unwrap_err().limit, Limit::Server);
    }
    limits.admit_at(&Rates::new(7, None, [("search", 1)]).unwrap(), Some("search")).unwrap();
}

#[tokio::test]
async fn so_many_are_served_at_once_and_the_next_waits_for_one_to_end() {
    let (limits, tenant) = limits(6000, Terms { max_concurrent_requests: Some(1), ..Terms::default() });
    let first = limits.admit(who(&tenant, 1)).await.unwrap();
    assert!(first.permit.is_some());
    let (second, ()) = tokio::join!(limits.admit(who(&tenant, 2)), async {
        tokio::task::yield_now().await;
        let third = limits.admit(who(&tenant, 3)).await.unwrap_err();
        assert!(third.at_once, "as many wait as are served");
        drop(first);
    });
    drop(second.unwrap());
    assert!(limits.admit(who(&tenant, 4)).await.unwrap().permit.is_some());
    assert_eq!(limits.share(&tenant).unwrap().at_once(), 0);
}
