//! From somebody as a provider described them to the account that is theirs here: the one place that knows which tenant it is of.

use time::OffsetDateTime;

use super::App;
use crate::access::{Memberships, Role, role_mappings};
use crate::config::LetIn;
use crate::grants::{Account, Home, LAPSED, Person, Refusal};
use crate::idp::{self, OwnRules};
use crate::store::{StoreError, micros, now};

/// What a provider counts somebody among.
fn memberships(person: &idp::Person) -> Memberships {
    let claimed = &person.claimed;
    Memberships::new(&claimed.groups, &claimed.names, claimed.groups_missing)
}

impl App {
    /// The account of `person`, in the role that the provider gives; made at the first time. People of Entra are of the tenant that
    /// names their directory, those of another provider of the tenant in the settings. `access_denied` for who may not come in.
    pub async fn account_of(&self, person: &idp::Person, role: Role, now: OffsetDateTime) -> Result<Account, Refusal> {
        let home = self.home_of(person).await?;
        let only = person.directory.is_none() || matches!(self.settings.azure.lets_in(), LetIn::One(_));
        let known = Person {
            issuer: &person.issuer,
            subject: &person.subject,
            username: &person.username,
            display_name: person.display_name.as_deref(),
            directory: person.directory,
            guest: person.guest,
            role,
            believed: only || home.named,
        };
        let account = self.grants.account_for(&home.tenant, &known, now).await?;
        // Groups and app roles are given by each directory's own administrators: those of one that nobody named give nothing.
        let counted = if known.believed { memberships(person) } else { Memberships::unheard() }.text();
        if self.store.memberships(&account.tenant, account.id).await?.as_deref() != Some(&counted) {
            self.store.set_memberships(&account.tenant, account.id, &counted, micros(now)).await?;
        }
        if let Some(withheld) = account.withheld(role, person.directory) {
            tracing::info!(username = account.username, "{withheld}");
        }
        Ok(account)
    }

    /// The role of `person` by the rules of the tenant whose the person is, or of the settings where it has none; none for who is not
    /// let in. `access_denied` when no tenant names the directory.
    pub async fn role_of(&self, person: &idp::Person) -> Result<Option<Role>, Refusal> {
        if person.directory.is_none() {
            return Ok(person.role);
        }
        let home = self.home_of(person).await?;
        let rules = role_mappings::of(&self.store, &home.tenant).await?;
        Ok(if rules.is_empty() { person.role } else { person.claimed.role_by(&rules) })
    }

    /// Takes over for whom groups matter by the rules of tenants.
    pub(super) async fn follow_rules(&self) -> Result<(), StoreError> {
        if self.providers.get(idp::ENTRA).is_none() {
            return Ok(());
        }
        let mut own = OwnRules::default();
        let settled = self.store.are_directories_settled().await?;
        for (tenant, directories, rules) in role_mappings::of_all(&self.store).await? {
            let groups = OwnRules::go_by_groups(&rules);
            own.of.extend(directories.into_iter().map(|directory| (directory, groups)));
            if !settled && tenant.is_default() {
                own.others = Some(groups);
            }
        }
        self.providers.follow(own);
        Ok(())
    }

    /// The account of somebody whom the provider has let sign in just now: if it took back its word before, that is over.
    pub async fn account_at_sign_in(
        &self,
        person: &idp::Person,
        role: Role,
        now: OffsetDateTime,
    ) -> Result<Account, Refusal> {
        let account = self.account_of(person, role, now).await;
        let lapsed = account.as_ref().is_err_and(|refusal| refusal.reason == LAPSED);
        if lapsed && self.grants.is_vouched_for(&person.issuer, &person.subject).await? {
            self.changed().await?;
            return self.account_of(person, role, now).await;
        }
        account
    }

    /// Whose `person` is; `access_denied` when no tenant names their directory.
    pub async fn home_of(&self, person: &idp::Person) -> Result<Home, Refusal> {
        match person.directory {
            Some(directory) => self.grants.home_of_directory(directory).await,
            None => Ok(Home { tenant: self.settings.oidc.tenant.clone(), named: true }),
        }
    }

    /// Before anybody comes in: takes back the roles that directories gave which are not believed, since they were given before
    /// there were several, or by a gateway that believed all.
    pub(super) async fn lower_unnamed(&self) -> Result<(), StoreError> {
        let only = match self.settings.azure.lets_in() {
            LetIn::None | LetIn::One(None) => return Ok(()),
            LetIn::One(only) => only,
            LetIn::Several => {
                tracing::info!(
                    "several directories of Entra are let in: the roles that one gives above `user` are taken once it is named \
                     for a tenant, with `mcp-gateway tenants edit`"
                );
                None
            }
        };
        let lowered = self.store.lower_unnamed(only, micros(now())).await?;
        if !lowered.users.is_empty() {
            let names = lowered.users.join(", ");
            tracing::warn!(
                names,
                "accounts are users again, since nobody named the directory that made them more: name it for a tenant with \
                 `mcp-gateway tenants edit`, or look at the servers that they registered"
            );
        }
        if !lowered.admins.is_empty() {
            let names = lowered.admins.join(", ");
            tracing::error!(
                names,
                "all administrators are so by the word of directories that nobody named; they stay it, or nobody could name \
                 one: do so now with `mcp-gateway tenants edit`, or make somebody else administrator"
            );
        }
        Ok(())
    }
}
