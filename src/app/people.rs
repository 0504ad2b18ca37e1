//! From somebody as a provider described them to the account that is theirs here: the one place that knows which tenant it is of.

use time::OffsetDateTime;

use super::App;
use crate::access::Role;
use crate::grants::{Account, LAPSED, Person, Refusal};
use crate::id::TenantId;
use crate::idp;

impl App {
    /// The account of `person`, in the role that the provider gives; made at the first time. People of Entra are of the tenant that
    /// names their directory, those of another provider of the tenant in the settings. `access_denied` for who may not come in.
    pub async fn account_of(&self, person: &idp::Person, role: Role, now: OffsetDateTime) -> Result<Account, Refusal> {
        let tenant = self.tenant_of(person).await?;
        let known = Person {
            issuer: &person.issuer,
            subject: &person.subject,
            username: &person.username,
            display_name: person.display_name.as_deref(),
            directory: person.directory,
            guest: person.guest,
            role,
        };
        self.grants.account_for(&tenant, &known, now).await
    }

    /// The same for somebody whom the provider has let sign in just now: if it took back its word before, that is over.
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
    pub async fn tenant_of(&self, person: &idp::Person) -> Result<TenantId, Refusal> {
        match person.directory {
            Some(directory) => self.grants.tenant_of_directory(directory).await,
            None => Ok(self.settings.oidc.tenant.clone()),
        }
    }
}
