//! Grants that rest on another one: they end with it, however it ends and however many there are in a row.

use std::time::Duration;

use mcp_registry_gateway::grants::{
    End, EndReason, GrantKind, Ids, Issue, OauthCode, Order, Refusal, ScopeSet, Tokens,
};
use mcp_registry_gateway::secret::Secret;
use time::OffsetDateTime;

use crate::store_grants::House;

/// A token for less, of another client, for one that is shown.
async fn less(house: &House, token: &Secret, client: &str, now: OffsetDateTime) -> Result<Tokens, Refusal> {
    let shown = house.grants.exchangeable(token.expose(), None, now).await?;
    let order = Order { client_id: client.to_owned(), ..house.order("mcp") };
    let how = Issue { kind: shown.kind, until: Some(shown.expires_at), parent: Some(shown.grant), key: None };
    house.grants.issue(&order, how, now).await
}

on_both! {
    async fn what_rests_on_a_grant_ends_with_it(db) {
        let house = House::open(db).await;
        let end = End { reason: EndReason::Logout, detail: "revoked" };
        for end_of in ["client", "second", "third"] {
            let first = house.tokens("mcp offline_access").await;
            let second = less(&house, &first.access, "second", house.after(60)).await.unwrap();
            let third = less(&house, &second.access, "third", house.after(120)).await.unwrap();
            assert!(second.refresh.is_none() && third.expires_at == first.expires_at, "no longer than the first");
            let other = house.grants.issue(&house.order("mcp"), Issue::alone(GrantKind::Service), house.after(60)).await.unwrap();
            let ended = house.grants.end(&house.tenant, Ids::Client(end_of), end, house.after(180)).await.unwrap();
            let gone: Vec<_> = ended.iter().map(|ended| (ended.id, ended.detail.as_str())).collect();
            let expected = match end_of {
                "client" => vec![(first.grant, "revoked"), (other.grant, "revoked"), (second.grant, "parent"), (third.grant, "parent")],
                "second" => vec![(second.grant, "revoked"), (third.grant, "parent")],
                _ => vec![(third.grant, "revoked")],
            };
            assert!(expected.iter().all(|one| gone.contains(one)) && gone.len() == expected.len(), "{end_of}: {gone:?}");
            assert_eq!(house.is_live(&first.access, 180).await, end_of != "client");
            assert_eq!(house.is_live(&second.access, 180).await, end_of == "third");
            assert!(!house.is_live(&third.access, 180).await);
            let refused = less(&house, &third.access, "fourth", house.after(181)).await.unwrap_err();
            assert_eq!((refused.code, refused.reason), (OauthCode::InvalidRequest, "ended"));
            house.grants.end(&house.tenant, Ids::User(house.user), end, house.after(200)).await.unwrap();
        }
    }
}

on_both! {
    async fn what_rests_on_a_family_ends_when_that_is_stolen_or_over(db) {
        let house = House::open(db).await;
        let first = house.tokens("mcp offline_access").await;
        let second = house.refresh(first.refresh.as_ref().unwrap(), 10).await.unwrap();
        let third = house.refresh(second.refresh.as_ref().unwrap(), 20).await.unwrap();
        let narrow = less(&house, &third.access, "second", house.after(30)).await.unwrap();
        house.refresh(first.refresh.as_ref().unwrap(), 40).await.unwrap_err();
        assert!(!house.is_live(&third.access, 40).await && !house.is_live(&narrow.access, 40).await, "two held it");

        let short = house.tokens("mcp").await;
        let narrow = less(&house, &short.access, "second", house.after(60)).await.unwrap();
        assert_eq!(narrow.expires_at, house.now + Duration::from_mins(15));
        let swept = house.grants.sweep(house.after(901), |_| {}).await.unwrap();
        assert!(swept.ended.iter().any(|ended| ended.id == narrow.grant), "{swept:?}");
    }
}

on_both! {
    async fn nothing_rests_on_what_has_ended_meanwhile(db) {
        let house = House::open(db).await;
        let end = End { reason: EndReason::Logout, detail: "revoked" };
        let first = house.tokens("mcp offline_access").await;
        let shown = house.grants.exchangeable(first.access.expose(), None, house.after(1)).await.unwrap();
        assert_eq!((shown.kind, shown.scopes), (GrantKind::Client, ScopeSet::parse("mcp offline_access").unwrap()));
        house.grants.end(&house.tenant, Ids::One(first.grant, None), end, house.after(2)).await.unwrap();
        let how = Issue { kind: shown.kind, until: None, parent: Some(shown.grant), key: None };
        let late = house.grants.issue(&house.order("mcp"), how, house.after(3)).await.unwrap_err();
        assert_eq!(late.code, OauthCode::InvalidGrant);

        // Of many at once, each is refused or ends with the first.
        let first = house.tokens("mcp offline_access").await;
        let all = (0..10).map(|_| less(&house, &first.access, "second", house.after(10)));
        let ending = house.grants.end(&house.tenant, Ids::One(first.grant, None), end, house.after(11));
        let (given, ended) = tokio::join!(futures_util::future::join_all(all), ending);
        assert!(!ended.unwrap().is_empty());
        for tokens in given.into_iter().flatten() {
            assert!(!house.is_live(&tokens.access, 12).await);
        }
    }
}
