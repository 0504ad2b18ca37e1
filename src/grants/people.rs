//! The accounts of people whom a provider vouches for. An account belongs to one issuer and subject from its first sign-in and is
//! never found by name, so that nobody comes into an account by being called like it.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Arrived, Grants, OauthCode, Refusal};
use crate::access::Role;
use crate::access::users::parse_username;
use crate::crypto::new_secret;
use crate::id::TenantId;
use crate::store::directories::Whose;
use crate::store::tenants::tenant_of;
use crate::store::users::UserRow;
use crate::store::{StoreError, micros};

/// Somebody as a provider described them.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// Who vouches.
    pub issuer: &'a str,
    /// The name there that never changes.
    pub subject: &'a str,
    /// The name that people know; the account's, if it can be.
    pub username: &'a str,
    /// For pages.
    pub display_name: Option<&'a str>,
    /// The directory at Entra; none leaves what is known of it.
    pub directory: Option<Uuid>,
    /// Whether it is a guest there, at home in another directory. Without the directory, what is known of it stays.
    pub guest: bool,
    /// What the provider's roles or groups give.
    pub role: Role,
    /// Whether that may be more than `user`. Not by the word of one directory among several, unless a tenant names it: app roles
    /// and groups are given by each directory's own administrators.
    pub believed: bool,
}

/// Whose the people of a directory are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Their tenant.
    pub tenant: TenantId,
    /// Whether somebody named the directory for it.
    pub named: bool,
}

impl Person<'_> {
    /// The role in a tenant. What a provider says makes nobody an administrator of the gateway but in its first tenant: in
    /// another organisation, its own administrators give the roles.
    fn role_in(&self, tenant: &TenantId) -> Role {
        let most = match (self.believed, tenant.is_default()) {
            (false, _) => Role::User,
            (true, false) => Role::TenantAdmin,
            (true, true) => Role::Admin,
        };
        self.role.min(most)
    }

    fn directory(&self) -> Option<String> {
        self.directory.map(|id| id.to_string())
    }
}

/// An account that may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub id: Uuid,
    /// Its name here.
    pub username: String,
    /// For pages.
    pub display_name: Option<String>,
    /// Its role.
    pub role: Role,
    /// Whether this sign-in made it.
    pub is_new: bool,
}

impl Account {
    /// What is not taken of a provider that gives this role: its directory is one of several, and nobody named it. For whoever
    /// can.
    pub fn withheld(&self, given: Role, directory: Option<Uuid>) -> Option<String> {
        let directory = directory.filter(|_| given > Role::User && self.role == Role::User)?;
        Some(format!(
            "the role `{}` that the directory {directory} gives is not taken: name the directory for a tenant with \
             `mcp-gateway tenants edit`",
            given.as_str()
        ))
    }
}

/// The reason for which an account is refused that its provider took back its word for.
pub const LAPSED: &str = "lapsed";
/// Longest name for pages, in characters.
const DISPLAY_NAME: usize = 200;
/// Names that are tried before giving up.
const TRIES: usize = 8;

impl Grants {
    /// The tenant whose people those of a directory of Entra are: the one that names it. As long as no tenant names any
    /// directory, all that are let in are of the first tenant; afterwards `access_denied` for those that nobody names.
    pub async fn home_of_directory(&self, directory: Uuid) -> Result<Home, Refusal> {
        match self.0.store.whose_directory(directory).await? {
            Whose::Of { tenant, assumed } => Ok(Home { tenant: tenant_of(&tenant)?, named: !assumed }),
            Whose::Unsettled => Ok(Home { tenant: TenantId::default_tenant(), named: false }),
            Whose::Nobodys => {
                let text = "this gateway is not for the organisation of the account that you chose";
                Err(Refusal::new(OauthCode::AccessDenied, "unknown_directory", text)
                    .because(format!("no tenant names the directory {directory}")))
            }
        }
    }

    /// Fails unless people of the tenant may come in; whether guests of its directories may, too.
    async fn open_tenant(&self, tenant: &TenantId) -> Result<bool, Refusal> {
        match self.0.store.lets_in(tenant).await? {
            Some((true, guests)) => Ok(guests),
            Some((false, _)) => {
                let text = "your organisation is suspended at this gateway";
                Err(Refusal::new(OauthCode::AccessDenied, "suspended", text))
            }
            None => {
                let text = "sign-in is not set up correctly: the tenant of its people does not exist";
                Err(Refusal::new(OauthCode::ServerError, "no_tenant", text)
                    .because(format!("there is no tenant `{tenant}`; see MREG_OIDC_TENANT")))
            }
        }
    }

    /// The account of `person` in `tenant`; made at the first sign-in, brought up to date at others. `access_denied` when it is
    /// disabled, or belongs to another tenant, or the tenant is suspended or takes no guests.
    pub async fn account_for(
        &self,
        tenant: &TenantId,
        person: &Person<'_>,
        now: OffsetDateTime,
    ) -> Result<Account, Refusal> {
        let store = &self.0.store;
        let guests = self.open_tenant(tenant).await?;
        for attempt in 0..TRIES {
            if let Some(row) = store.user_of_subject(person.issuer, person.subject).await? {
                return self.known(tenant, row, person, guests, now).await;
            }
            if person.guest && !guests {
                return Err(no_guests());
            }
            let row = UserRow {
                id: Uuid::now_v7(),
                tenant_id: tenant.as_str().to_owned(),
                username: username(person.username, attempt),
                password_hash: None,
                role: person.role_in(tenant).as_str().to_owned(),
                state: "active".to_owned(),
                issuer: Some(person.issuer.to_owned()),
                subject: Some(person.subject.to_owned()),
                display_name: display_name(person),
                directory: person.directory(),
                guest: person.guest,
                created_at: micros(now),
                updated_at: micros(now),
            };
            match store.insert_person(tenant, &row).await {
                Ok(()) => return account(row, true),
                // The name is somebody else's, or another sign-in of the same person was first.
                Err(StoreError::Taken) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Taken.into())
    }

    /// The account of somebody who signed in a moment ago; `access_denied` when it may not come in any more.
    pub async fn account_again(&self, arrived: &Arrived) -> Result<Account, Refusal> {
        let (tenant, store) = (tenant_of(&arrived.tenant)?, &self.0.store);
        match store.user(&tenant, arrived.user).await? {
            Some(row) if store.may_come_in(&tenant, row.id).await? => account(row, false),
            _ => Err(Refusal::new(OauthCode::AccessDenied, "disabled", "the account may not come in any more")),
        }
    }

    /// Whom the provider has let sign in just now is let in again here, if it took back its word before; then `true`.
    pub async fn is_vouched_for(&self, issuer: &str, subject: &str) -> Result<bool, Refusal> {
        let store = &self.0.store;
        let Some(row) = store.user_of_subject(issuer, subject).await? else { return Ok(false) };
        let tenant = tenant_of(&row.tenant_id)?;
        let again = store.has_lapsed(&tenant, row.id).await?;
        if again {
            store.set_lapsed(&tenant, row.id, false).await?;
        }
        Ok(again)
    }

    /// The account of that row, brought up to date; `guests` says whether they may come in.
    async fn known(
        &self,
        tenant: &TenantId,
        mut row: UserRow,
        person: &Person<'_>,
        guests: bool,
        now: OffsetDateTime,
    ) -> Result<Account, Refusal> {
        let refuse = |reason, text| Err(Refusal::new(OauthCode::AccessDenied, reason, text));
        if row.tenant_id != tenant.as_str() {
            let text =
                "your account here is of another organisation; an administrator of that one has to remove it first";
            return refuse("other_tenant", text);
        }
        if row.state != "active" {
            return refuse("disabled", "the account is disabled here; ask an administrator of this gateway");
        }
        if self.0.store.has_lapsed(tenant, row.id).await? {
            return refuse(LAPSED, "the identity provider took back its word for you; sign in again");
        }
        let (display_name, directory, role) =
            (display_name(person), person.directory().or(row.directory.clone()), person.role_in(tenant).as_str());
        // Who introduces somebody without naming a directory knows nothing of guests.
        let guest = if person.directory.is_some() { person.guest } else { row.guest };
        if row.role != role || row.display_name != display_name || row.directory != directory || row.guest != guest {
            let before = std::mem::replace(&mut row.role, role.to_owned());
            (row.display_name, row.directory, row.guest) = (display_name, directory, guest);
            row.updated_at = micros(now);
            if !self.0.store.update_person(tenant, &row).await? {
                let (username, given) = (&row.username, role);
                tracing::warn!(
                    username,
                    given,
                    "the last administrator keeps that role, whatever the provider gives: make somebody else administrator"
                );
                row.role = before;
            }
        }
        // Only now: keys are barred by what is written of the account, and it may be older than the word for guests.
        if row.guest && !guests {
            return Err(no_guests());
        }
        account(row, false)
    }
}

fn no_guests() -> Refusal {
    let text =
        "the account that you chose is a guest of the organisation, and this gateway lets its own people in only";
    Refusal::new(OauthCode::AccessDenied, "guest", text)
}

fn account(row: UserRow, is_new: bool) -> Result<Account, Refusal> {
    let role = Role::parse(&row.role).ok_or_else(|| StoreError::Corrupt(format!("role `{}`", row.role)))?;
    let tenant = tenant_of(&row.tenant_id)?;
    Ok(Account { tenant, id: row.id, username: row.username, display_name: row.display_name, role, is_new })
}

fn display_name(person: &Person<'_>) -> Option<String> {
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(DISPLAY_NAME).collect::<String>();
    person.display_name.map(|name| plain(name.trim())).filter(|name| !name.is_empty())
}

/// The person's name as an account's, at first as it is, then with an ending that makes it another one.
fn username(name: &str, attempt: usize) -> String {
    let base = parse_username(name).unwrap_or_else(|_| {
        let plain = |c: char| {
            let c = c.to_ascii_lowercase();
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+') { c } else { '-' }
        };
        let text: String = name.trim().chars().map(plain).take(64).collect();
        let text = text.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if text.is_empty() { "user".to_owned() } else { text.to_owned() }
    });
    if attempt == 0 {
        return base;
    }
    let ending: String = new_secret().expose().chars().take(5).collect();
    format!("{}-{}", base.chars().take(58).collect::<String>(), ending.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_gives_one_that_an_account_may_have() {
        for (name, first) in [
            ("Ada@Example.com", "ada@example.com"),
            ("ada#ext#@example.onmicrosoft.com", "ada-ext-@example.onmicrosoft.com"),
            ("Åsa Öberg", "sa--berg"),
            ("", "user"),
            ("---", "user"),
            (&"x".repeat(90), &"x".repeat(64)),
        ] {
            assert_eq!(username(name, 0), first);
            for attempt in 0..3 {
                let made = username(name, attempt);
                assert_eq!(parse_username(&made).unwrap(), made, "{name}");
            }
            assert_ne!(username(name, 1), username(name, 2));
        }
    }
}
