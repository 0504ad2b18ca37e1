//! What people and programs do at a gateway, of which everything is known: one number decides who there is and who does what, it is done
//! against gateways that run, and the [`Ledger`] says what was done and how it came out, as those saw it who did it. What a gateway reports
//! is then held against that.
//!
//! Everything goes one after the other, so that what follows from an order is known too.

mod addresses;
mod calls;
mod crowd;
mod dice;
mod ledger;
mod player;
mod signing;

use anyhow::Context as _;
use serde_json::{Value, json};

pub use self::addresses::THRESHOLD;
use self::calls::Open;
pub use self::crowd::Tenant;
use self::dice::Dice;
pub use self::ledger::{Deed, Door, End, Event, Happening, Ledger, Time, Who};
pub use self::player::{Ask, By, Person, Player, Told};
use self::signing::Program;
use crate::entra::Entra;

/// See the module.
pub struct Workload {
    dice: Dice,
    /// The way to the gateways, and what was done.
    pub player: Player,
    /// The administrator of the gateway.
    pub admin: Person,
    /// Who there is besides.
    pub tenants: Vec<Tenant>,
    open: Vec<Open>,
    programs: Vec<Program>,
    vouched: usize,
}

impl Workload {
    /// That of a seed, at gateways on one database, whose administrator has this key. The gateway is to trust this machine as a proxy, and
    /// to ban after [`THRESHOLD`].
    pub async fn begin(seed: u64, gateways: Vec<String>, key: &str) -> anyhow::Result<Self> {
        let (mut dice, many) = (Dice::new(seed), gateways.len());
        let mut player = Player::new(gateways);
        let admin = player.meet(key, "api_key", 0).await.context("the administrator")?;
        // That there is one, since the first start.
        player.happened(0, Time::since(Time::now()), Happening::Noted);
        let mut tenants = crowd::tenants(&mut player, &mut dice, &admin).await?;
        for gateway in 1..many {
            for tenant in &mut tenants {
                tenant.is_known_at(&mut player, gateway).await?;
                // Each speaks to one gateway.
                for (at, person) in tenant.everybody().enumerate() {
                    person.gateway = at % many;
                }
            }
        }
        Ok(Self { dice, player, admin, tenants, open: Vec::new(), programs: Vec::new(), vouched: 0 })
    }

    /// Does so many things.
    pub async fn play(&mut self, steps: usize) -> anyhow::Result<()> {
        let Self { dice, player, tenants, open, .. } = self;
        for step in 0..steps {
            // Who may not do much is not asked for more than once.
            let free = tenants.iter().enumerate().filter(|(_, tenant)| tenant.base_rpm.is_none()).collect::<Vec<_>>();
            let (at, tenant) = *dice.of(&free);
            calls::step(player, dice, (at, tenant), open).await.with_context(|| format!("step {step}"))?;
        }
        Ok(())
    }

    /// People sign in and leave; of two programs one stays.
    pub async fn sign_in(&mut self) -> anyhow::Result<()> {
        let Self { dice, player, tenants, programs, .. } = self;
        let tenant = &tenants[dice.throw(2)];
        let person = dice.of(&tenant.people);
        signing::with_password(player, tenant, person).await?;
        for stays in [true, false] {
            let mut program = Program::of(player, tenant, dice.of(&tenant.people)).await?;
            calls::works(player, dice, tenant, &program.person).await?;
            program.refreshes(player).await?;
            calls::works(player, dice, tenant, &program.person).await?;
            if stays { programs.push(program) } else { program.leaves(player).await? }
        }
        Ok(())
    }

    /// Two people of a provider sign in, and what it gave is refreshed; it does not let one of them go on.
    pub async fn vouch(&mut self, entra: &Entra) -> anyhow::Result<()> {
        let Self { player, programs, admin, .. } = self;
        let [stays, goes] = ["bob", "tess"].map(|name| format!("{name}@contoso.onmicrosoft.com"));
        let program = Program::at_provider(player, entra, &stays, admin).await?;
        anyhow::ensure!(program.is_refreshed(player, admin).await?, "{stays} is to go on");
        programs.push(program);
        let program = Program::at_provider(player, entra, &goes, admin).await?;
        entra.post(&format!("/_sim/users/{goes}/revoke"), json!({})).await?;
        anyhow::ensure!(!program.is_refreshed(player, admin).await?, "{goes} is to come back");
        self.vouched = 1;
        Ok(())
    }

    /// Of how many what a provider gave is kept fresh, and as many have to come back.
    pub fn vouched(&self) -> usize {
        self.vouched
    }

    /// The first tenant weighs so much from now on; what is answered.
    pub async fn weighs(&mut self, weight: f64) -> anyhow::Result<Value> {
        let Self { player, admin, tenants, .. } = self;
        let set = Ask::new(By::Somebody(admin), "POST /admin/tenant-limits/{tenant_id}").fill(&[&tenants[0].id]);
        let told = player.ask(set.body(json!({"fairness_weight": weight}))).await?.expect(200)?;
        tenants[0].weight = weight;
        Ok(told)
    }

    /// Somebody asks for more than the tenant may have.
    pub async fn press(&mut self) -> anyhow::Result<()> {
        let tight = self.tenants.iter().find(|tenant| tenant.base_rpm.is_some()).context("nobody is limited")?;
        calls::presses(&mut self.player, tight, 20 + self.dice.throw(20)).await
    }

    /// Does so many things that are no step of anybody's work with tools.
    pub async fn knock(&mut self, times: usize) -> anyhow::Result<()> {
        for _ in 0..times {
            let tenant = &self.tenants[self.dice.throw(self.tenants.len())];
            calls::at_the_door(&mut self.player, &mut self.dice, tenant).await?;
        }
        Ok(())
    }

    /// Addresses misbehave, and are banned.
    pub async fn misbehave(&mut self) -> anyhow::Result<()> {
        let good = self.tenants[0].people[0].clone();
        addresses::misbehave(&mut self.player, &mut self.dice, &self.admin, &good).await
    }

    /// Goes on at this address, where a gateway began anew; sessions of MCP ended with the one before.
    pub fn moves_to(&mut self, gateway: String) {
        let life = self.player.knows(gateway);
        self.open.clear();
        let people = self.tenants.iter_mut().flat_map(Tenant::everybody);
        for person in people.chain([&mut self.admin]).chain(self.programs.iter_mut().map(|program| &mut program.person))
        {
            person.gateway = life;
        }
    }

    /// How many sessions of MCP are open, of a tenant and at a gateway.
    pub fn open_sessions(&self, tenant: &str, gateway: usize) -> usize {
        let own = |open: &&Open| self.tenants[open.tenant].id == tenant && open.person.gateway == gateway;
        self.open.iter().filter(own).count()
    }

    /// The accounts for which programs are signed in, each as often as it is.
    pub fn signed_in(&self) -> impl Iterator<Item = &Who> {
        self.programs.iter().map(|program| &*program.person.who)
    }
}
