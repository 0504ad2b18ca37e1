//! Addresses from which too much comes that is wrong, and what administrators do about them.

use serde_json::json;

use super::dice::Dice;
use super::ledger::{Happening, Time};
use super::player::{Ask, By, Person, Player};

/// So many wrong credentials have an address banned; the gateway is to be told the same.
pub const THRESHOLD: usize = 5;
/// A credential that is well formed and nobody's.
const WRONG: &str = "mcpg_wrong_00000000000000000000000000000000000";

/// One address is banned by itself and rightly, one is banned wrongly and lifted, one by hand and lifted; each in a network of its own.
pub async fn misbehave(player: &mut Player, dice: &mut Dice, admin: &Person, good: &Person) -> anyhow::Result<()> {
    let last = 1 + dice.throw(250);
    let [right, wrong, meant] = ["192.0.2", "198.51.100", "203.0.113"].map(|network| format!("{network}.{last}"));
    offends(player, &right).await?;
    for _ in 0..=dice.throw(5) {
        knocks(player, &right, By::Wrong(WRONG, "unknown")).await?;
    }
    offends(player, &wrong).await?;
    let began = Time::now();
    knocks(player, &wrong, By::Somebody(good)).await?;
    player.happened(0, Time::since(began), Happening::WrongBan { network: format!("{wrong}/32") });
    lifts(player, admin, &wrong, "wrong").await?;

    let order = json!({"address": meant, "duration_seconds": 3_600, "note": "by the workload"});
    let began = Time::now();
    player.ask(Ask::new(By::Somebody(admin), "POST /admin/bans").body(order)).await?.expect(201)?;
    let network = format!("{meant}/32");
    player.happened(0, Time::since(began), Happening::Ban { network, by_hand: true });
    knocks(player, &meant, By::Nobody).await?;
    lifts(player, admin, &meant, "served").await
}

async fn offends(player: &mut Player, address: &str) -> anyhow::Result<()> {
    let began = Time::now();
    for _ in 0..THRESHOLD {
        let ask = Ask::new(By::Wrong(WRONG, "unknown"), "GET /me").from(address);
        player.ask(ask).await?.expect(401)?;
    }
    let network = format!("{address}/32");
    player.happened(0, Time::since(began), Happening::Ban { network, by_hand: false });
    Ok(())
}

async fn knocks(player: &mut Player, address: &str, by: By<'_>) -> anyhow::Result<()> {
    player.ask(Ask::new(by, "GET /me").from(address)).await?.expect(429).map(drop)
}

async fn lifts(player: &mut Player, admin: &Person, address: &str, reason: &str) -> anyhow::Result<()> {
    let began = Time::now();
    let lift = Ask::new(By::Somebody(admin), "POST /admin/bans/{address}/lift");
    player.ask(lift.fill(&[address]).body(json!({"reason": reason}))).await?.expect(200)?;
    player.happened(0, Time::since(began), Happening::Lift { network: format!("{address}/32") });
    Ok(())
}
