//! Registered servers as people change them: checked, with their secrets sealed apart, and only by who may. A change says
//! which revision it was made from, so that two people do not undo each other's.
//!
//! Header values and environment never leave here unmasked except in a `Server` for the transports.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::access::{Caller, Role, UserId};
use crate::crypto::{Place, is_of_tenant};
use crate::field::FieldError;
use crate::id::{ServerId, Slug, TenantId};
use crate::registry::model::{MOST_USERS, Offers, Server, ServerSpec, TransportKind};
use crate::secret::Secret;
use crate::store::servers::ServerRow;
use crate::store::tenants::tenant_of;
use crate::store::{Json, Store, StoreError, at, micros, sealed};
use crate::vault::{Vault, VaultError};

/// What stands for a secret when a server is read. Sent back, it keeps what is stored.
pub const MASK: &str = "***";

/// Why a server was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// The caller's role or key does not reach that far.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The caller's role reaches that far, the credential lacks the scope `admin`: another one may do it.
    #[error("{0}")]
    Scope(&'static str),
    /// The description has mistakes; each is listed.
    #[error("the description has {} mistake(s)", .0.len())]
    Invalid(Vec<FieldError>),
    /// The caller's role or key does not reach as far as some of many changes; each is listed.
    #[error("{} of the changes may not be made with this key", .0.len())]
    Refused(Vec<FieldError>),
    /// The tenant has a server of that name.
    #[error("there is already a server `{0}`")]
    Taken(Slug),
    /// The tenant has no such server, or the caller may not know of it.
    #[error("there is no server of that name")]
    Missing,
    /// It was changed since the caller read it.
    #[error("the server was changed meanwhile; read it again")]
    Stale,
    /// Its secrets cannot be opened or sealed.
    #[error(transparent)]
    Vault(VaultError),
    /// The database refused or failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<VaultError> for ServersError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => error.into(),
            other => Self::Vault(other),
        }
    }
}

impl From<StoreError> for ServersError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing => Self::Missing,
            StoreError::Stale => Self::Stale,
            other => Self::Store(other),
        }
    }
}

/// A server and who registered it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The server, with its secrets.
    pub server: Server,
    /// Who registered it, if the account is still there.
    pub owner: Option<UserId>,
}

impl Record {
    /// Whether the caller may change it: the tenant's administrators any, owners of servers their own.
    pub fn may_be_changed_by(&self, caller: &Caller) -> bool {
        caller.may_manage()
            && *caller.tenant() == self.server.tenant
            // What people of others call, not who registered it changes, but who offered it.
            && (self.server.spec.offered_to.is_empty() || caller.administers_gateway())
            && caller.scopes().allows_server(self.server.spec.slug.as_str())
            && (caller.role() >= Role::TenantAdmin
                || (caller.role() >= Role::ServerOwner && self.owner == Some(caller.user_id())))
    }

    /// It under another description, changed at `now`.
    fn with(&self, spec: ServerSpec, now: OffsetDateTime) -> Self {
        let Server { id, tenant, revision, created_at, .. } = &self.server;
        let server = Server {
            id: *id,
            tenant: tenant.clone(),
            spec,
            revision: revision + 1,
            created_at: *created_at,
            updated_at: now,
        };
        Self { server, owner: self.owner }
    }

    pub(super) fn may_be_seen_by(&self, caller: &Caller) -> bool {
        self.server.may_be_used_by(caller) || self.may_be_changed_by(caller)
    }
}

/// Reads and changes the servers of the caller's tenant.
#[derive(Debug, Clone, Copy)]
pub struct Servers<'a> {
    /// Where they are kept.
    pub store: &'a Store,
    /// What seals their secrets.
    pub vault: &'a Vault,
}

/// The part of a description that is sealed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Secrets {
    headers: BTreeMap<String, Secret>,
    env: BTreeMap<String, Secret>,
    /// Those of `auth` and of `discovery_auth`, `auth.client_secret`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    auth: BTreeMap<String, Secret>,
}

impl Secrets {
    /// Takes them out of a description.
    fn of(spec: &mut ServerSpec) -> Self {
        let mut auth = BTreeMap::new();
        for (field, part) in spec.auths_mut() {
            auth.extend(part.secrets().map(|(name, secret)| (format!("{field}.{name}"), secret.clone())));
            *part = part.bare();
        }
        Self { headers: std::mem::take(&mut spec.headers), env: std::mem::take(&mut spec.env), auth }
    }

    /// Puts them back.
    fn into(self, spec: &mut ServerSpec) {
        (spec.headers, spec.env) = (self.headers, self.env);
        for (name, secret) in self.auth {
            for (field, part) in spec.auths_mut() {
                let Some(name) = name.strip_prefix(field).and_then(|rest| rest.strip_prefix('.')) else { continue };
                match name.strip_prefix("headers.") {
                    Some(header) => _ = part.headers.insert(header.to_owned(), secret.clone()),
                    None => part.client_secret = Some(secret.clone()),
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.env.is_empty() && self.auth.is_empty()
    }
}

impl Servers<'_> {
    /// Registers a server. It need not be reachable.
    pub async fn create(&self, caller: &Caller, spec: ServerSpec, now: OffsetDateTime) -> Result<Record, ServersError> {
        let record = new_record(caller, spec, now)?;
        match self.store.insert_server(caller.tenant(), &self.row(&record).await?).await {
            Ok(()) => Ok(record),
            Err(StoreError::Taken) => Err(ServersError::Taken(record.server.spec.slug)),
            Err(error) => Err(error.into()),
        }
    }

    /// The server of that slug, if the caller may see it.
    pub async fn get(&self, caller: &Caller, slug: &str) -> Result<Record, ServersError> {
        // What is no slug is not asked for: PostgreSQL refuses some texts.
        let slug = Slug::parse(slug).map_err(|_| ServersError::Missing)?;
        let row = match self.store.server(caller.tenant(), slug.as_str()).await? {
            Some(own) => own,
            None => {
                self.offered(caller, |offered| *offered == *slug.as_str()).await?.pop().ok_or(ServersError::Missing)?
            }
        };
        let record = self.record(row).await?;
        if record.may_be_seen_by(caller) { Ok(record) } else { Err(ServersError::Missing) }
    }

    /// Up to `limit` servers by slug, those after `after`, of which the caller sees those it may; and the slug to go on
    /// after, if there are more.
    pub async fn list(
        &self,
        caller: &Caller,
        after: &str,
        limit: u16,
    ) -> Result<(Vec<Record>, Option<String>), ServersError> {
        let mut rows = self.store.servers(caller.tenant(), after, i64::from(limit) + 1).await?;
        // Behind more of its own than are asked for, none of these comes.
        for offered in self.offered(caller, |slug| slug > after).await? {
            if rows.iter().all(|own| own.slug != offered.slug) {
                rows.push(offered);
            }
        }
        rows.sort_by(|one, other| one.slug.cmp(&other.slug));
        let more = rows.len() > usize::from(limit);
        rows.truncate(limit.into());
        let next = rows.last().filter(|_| more).map(|row| row.slug.clone());
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            let record = self.record(row).await?;
            if record.may_be_seen_by(caller) {
                records.push(record);
            }
        }
        Ok((records, next))
    }

    /// Replaces the description; a secret that is [`MASK`] stays as it is stored. `expected` is the revision that the
    /// caller read. A description that says what is stored changes nothing, not even the revision.
    pub async fn replace(
        &self,
        caller: &Caller,
        slug: &str,
        spec: ServerSpec,
        expected: Option<i64>,
        now: OffsetDateTime,
    ) -> Result<Record, ServersError> {
        let before = self.changeable(caller, slug, expected).await?;
        match changed_record(caller, &before, spec, now)? {
            None => Ok(before),
            Some(record) => self.write(caller, record).await,
        }
    }

    /// The server of that slug, for whoever may describe it anew: asked before what the caller says of it is read.
    pub async fn to_describe(&self, caller: &Caller, slug: &str) -> Result<Record, ServersError> {
        let record = self.changeable(caller, slug, None).await?;
        must_run(caller, &record.server.spec)?;
        Ok(record)
    }

    /// Lets calls through or not. Letting them through to a program runs it, and takes what describing it takes; whoever
    /// may change the server may hold them back. `expected` as in [`Self::replace`].
    pub async fn set_enabled(
        &self,
        caller: &Caller,
        slug: &str,
        enabled: bool,
        expected: Option<i64>,
        now: OffsetDateTime,
    ) -> Result<Record, ServersError> {
        let before = self.changeable(caller, slug, expected).await?;
        if enabled {
            must_run(caller, &before.server.spec)?;
        }
        if before.server.spec.enabled == enabled {
            return Ok(before);
        }
        let spec = ServerSpec { enabled, ..before.server.spec.clone() };
        self.write(caller, before.with(spec, now)).await
    }

    /// Removes a server and everything known of it.
    pub async fn delete(&self, caller: &Caller, slug: &str, expected: Option<i64>) -> Result<Record, ServersError> {
        let before = self.changeable(caller, slug, expected).await?;
        self.store.delete_server(caller.tenant(), before.server.id.0, expected).await?;
        Ok(before)
    }

    /// Every server of every tenant, for the snapshot. A row that cannot be read is left out and logged; secrets sealed
    /// under another master key are an error, because then nothing would work and nobody would know why.
    pub async fn load_all(&self) -> Result<Vec<Server>, ServersError> {
        let mut servers = Vec::new();
        self.vault.load().await?;
        for row in self.store.servers_of_all_tenants().await? {
            let (tenant, slug) = (row.tenant_id.clone(), row.slug.clone());
            match self.record(row).await {
                Ok(record) => servers.push(record.server),
                Err(ServersError::Vault(error)) if error.is_of_other_key() => return Err(error.into()),
                Err(error) => tracing::error!(tenant_id = tenant, server = slug, %error, "a server is left out"),
            }
        }
        Ok(servers)
    }

    /// Seals anew what was sealed by an older gateway: under the master key, before tenants had keys, or for a server wherever that
    /// is. Safe to do again, and by several processes at once.
    pub async fn reseal(&self) -> Result<(), ServersError> {
        self.vault.load().await?;
        for (tenant, id, spec, old) in self.store.server_secrets().await? {
            // Seldom more than a look, and the start should not carry it.
            Box::pin(self.reseal_one(&tenant, ServerId(id), spec, &old)).await?;
        }
        Ok(())
    }

    async fn reseal_one(&self, tenant: &TenantId, id: ServerId, spec: Value, old: &[u8]) -> Result<(), ServersError> {
        let Ok(spec) = serde_json::from_value::<ServerSpec>(spec) else {
            tracing::error!(tenant_id = %tenant, server = %id, "its description cannot be read; its secrets are left as they are");
            return Ok(());
        };
        let row = sealed_for(id, &spec);
        let place = Place { table: TABLE, row: &row, tenant, subject: None };
        if is_of_tenant(old) && self.vault.open(place, old).await.is_ok() {
            return Ok(());
        }
        let wherever = Place { row: &id.to_string(), ..place };
        match self.vault.open(wherever, old).await {
            Ok(plain) => {
                let new = self.vault.seal(place, &plain).await?;
                self.store.reseal_server(tenant, id.0, old, &new).await?;
            }
            Err(error) if error.is_of_other_key() => return Err(error.into()),
            Err(error) => {
                tracing::error!(tenant_id = %tenant, server = %id, "its secrets are left as they are: {error}");
            }
        }
        Ok(())
    }

    /// What in descriptions does no harm and may be a mistake: names of users that there are not, who may be made later, and names
    /// that a provider gave, which mean nobody. For who may know the users. One look at the database for each thousand names.
    /// `coming` are tenants that are made along with them.
    pub async fn warnings(
        &self,
        caller: &Caller,
        specs: &[&ServerSpec],
        coming: &[&TenantId],
    ) -> Result<Vec<String>, ServersError> {
        if !caller.administers_tenant() {
            return Ok(Vec::new());
        }
        let users = || specs.iter().flat_map(|spec| spec.visibility.users.iter().map(move |user| (*spec, user)));
        let names: BTreeSet<String> = users().map(|(_, user)| user.to_lowercase()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let (mut meant, mut others) = (BTreeSet::new(), BTreeMap::new());
        for names in names.chunks(MOST_USERS) {
            let ids: Vec<Uuid> = names.iter().filter_map(|name| Uuid::try_parse(name).ok()).collect();
            for user in self.store.users_among(caller.tenant(), names, &ids).await? {
                let id = user.id.to_string();
                match user.issuer {
                    None => _ = meant.insert(user.username),
                    Some(_) => _ = others.insert(user.username, id.clone()),
                }
                meant.insert(id);
            }
        }
        let mut nobody = Vec::new();
        for spec in specs {
            for tenant in spec.offered_to.named().unwrap_or_default() {
                if !coming.contains(&tenant) && self.store.is_active_tenant(tenant).await?.is_none() {
                    nobody.push(format!("{}: offered to `{tenant}`, and there is no such tenant yet", spec.slug));
                }
            }
        }
        let unknown = users().filter(|(_, user)| !meant.contains(&user.to_lowercase()));
        let warn = |(spec, user): (&ServerSpec, &String)| match others.get(&user.to_lowercase()) {
            Some(id) => format!(
                "{}: visible to `{user}`, which is what an identity provider calls somebody and means nobody: use the id {id}",
                spec.slug
            ),
            None => format!("{}: visible to `{user}`, and there is no such user yet", spec.slug),
        };
        Ok(unknown.map(warn).chain(nobody).collect())
    }

    /// The servers of the gateway's own tenant that are offered to the caller's and have such a slug, by slug.
    async fn offered(&self, caller: &Caller, which: impl Fn(&str) -> bool) -> Result<Vec<ServerRow>, ServersError> {
        if caller.tenant().is_default() {
            return Ok(Vec::new());
        }
        let offered = |row: &ServerRow| {
            let said = row.spec.0.get("offered_to").cloned().unwrap_or_default();
            serde_json::from_value::<Offers>(said).is_ok_and(|offers| offers.includes(caller.tenant()))
        };
        let rows = self.store.offered_servers().await?.into_iter();
        Ok(rows.filter(|row| which(&row.slug) && offered(row)).collect())
    }

    /// The server, for who may change it, and as it was last read.
    pub async fn changeable(&self, caller: &Caller, slug: &str, expected: Option<i64>) -> Result<Record, ServersError> {
        let record = self.get(caller, slug).await?;
        must_change(caller, &record)?;
        if expected.is_some_and(|expected| expected != record.server.revision) {
            return Err(ServersError::Stale);
        }
        Ok(record)
    }

    async fn write(&self, caller: &Caller, record: Record) -> Result<Record, ServersError> {
        match self.store.update_server(caller.tenant(), &self.row(&record).await?, record.server.revision - 1).await {
            Ok(()) => Ok(record),
            Err(StoreError::Taken) => Err(ServersError::Taken(record.server.spec.slug)),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn row(&self, record: &Record) -> Result<ServerRow, ServersError> {
        let Server { id, tenant, spec, revision, created_at, updated_at } = &record.server;
        let mut open = spec.clone();
        let secrets = Secrets::of(&mut open);
        let corrupt = |error: serde_json::Error| ServersError::Store(StoreError::Corrupt(error.to_string()));
        let sealed = if secrets.is_empty() {
            None
        } else {
            let plain = zeroize::Zeroizing::new(serde_json::to_vec(&secrets).map_err(corrupt)?);
            Some(
                self.vault
                    .seal(Place { table: TABLE, row: &sealed_for(*id, spec), tenant, subject: None }, &plain)
                    .await?,
            )
        };
        Ok(ServerRow {
            id: id.0,
            tenant_id: tenant.as_str().to_owned(),
            owner_id: record.owner.map(|owner| owner.0),
            slug: spec.slug.as_str().to_owned(),
            spec: Json(serde_json::to_value(&open).map_err(corrupt)?),
            secrets: sealed,
            enabled: spec.enabled,
            revision: *revision,
            created_at: micros(*created_at),
            updated_at: micros(*updated_at),
        })
    }

    pub(super) async fn record(&self, row: ServerRow) -> Result<Record, ServersError> {
        let corrupt = |error: serde_json::Error| ServersError::Store(StoreError::Corrupt(error.to_string()));
        let tenant = tenant_of(&row.tenant_id)?;
        let id = ServerId(row.id);
        let mut spec: ServerSpec = serde_json::from_value::<ServerSpec>(row.spec.0).map_err(corrupt)?;
        if let Some(sealed) = &row.secrets {
            let place = Place { table: TABLE, row: &sealed_for(id, &spec), tenant: &tenant, subject: None };
            let plain = self.vault.open(place, sealed).await?;
            // The parser's error could quote a secret.
            let secrets: Secrets = serde_json::from_slice(&plain)
                .map_err(|_| ServersError::Store(StoreError::Corrupt("sealed secrets".into())))?;
            secrets.into(&mut spec);
        }
        spec.enabled = row.enabled;
        let (created_at, updated_at) = (at(row.created_at), at(row.updated_at));
        let server = Server { id, tenant, spec, revision: row.revision, created_at, updated_at };
        Ok(Record { server, owner: row.owner_id.map(UserId) })
    }
}

/// A server that is to be registered, if the caller may and the description has no mistake.
pub(super) fn new_record(caller: &Caller, spec: ServerSpec, now: OffsetDateTime) -> Result<Record, ServersError> {
    must_register(caller)?;
    must_describe(caller, &spec)?;
    must_offer(caller, &Offers::default(), &spec)?;
    let spec = keep_secrets(spec, None)?;
    check(&spec)?;
    let server = Server {
        id: ServerId::new(),
        tenant: caller.tenant().clone(),
        spec,
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    Ok(Record { server, owner: Some(caller.user_id()) })
}

/// A server as it is to be from now on, if the caller may and the description has no mistake; none when it is so already.
pub(super) fn changed_record(
    caller: &Caller,
    before: &Record,
    spec: ServerSpec,
    now: OffsetDateTime,
) -> Result<Option<Record>, ServersError> {
    must_change(caller, before)?;
    let allowed = must_run(caller, &before.server.spec)
        .and_then(|()| must_describe(caller, &spec))
        .and_then(|()| must_offer(caller, &before.server.spec.offered_to, &spec));
    let kept = keep_secrets(spec, Some(&before.server.spec));
    // Saying what is so already takes nothing.
    if kept.as_ref().is_ok_and(|spec| *spec == before.server.spec) {
        return Ok(None);
    }
    // Whoever may not is told that, and not what is wrong with the description.
    allowed?;
    let spec = kept?;
    check(&spec)?;
    Ok(Some(before.with(spec, now)))
}

/// Fails for whoever may not register any server, and so change none.
pub fn must_register(caller: &Caller) -> Result<(), ServersError> {
    if caller.role() >= Role::ServerOwner && caller.may_manage() {
        return Ok(());
    }
    Err(short(
        caller,
        Role::ServerOwner,
        "registering servers takes the role server_owner and a key with the scope `admin`",
    ))
}

/// Fails for whoever may not have a server of this name, or not one that is reached like this.
fn must_describe(caller: &Caller, spec: &ServerSpec) -> Result<(), ServersError> {
    if !caller.scopes().allows_server(spec.slug.as_str()) {
        return Err(ServersError::Forbidden("the key's scopes do not name this server"));
    }
    must_run(caller, spec)
}

/// Fails for whoever may not say what runs on the gateway's machine, or where go what others entrusted to the gateway, and when.
fn must_run(caller: &Caller, spec: &ServerSpec) -> Result<(), ServersError> {
    if caller.administers_gateway() {
        return Ok(());
    }
    let why = if spec.transport == TransportKind::Stdio {
        "a stdio server runs a program on the gateway's machine: only an administrator of the gateway may register, change or enable it"
    } else if spec.auth.hands_on_tokens() {
        "the server gets tokens that are given for people: only an administrator of the gateway may register, change or enable it"
    } else if spec.auths().iter().any(|(_, auth)| auth.signs_as_client()) {
        "the gateway would prove with its own key which client it is: only an administrator of the gateway may say so"
    } else if spec.vouches_elsewhere() {
        "the gateway's word about people would be for another place than each replica of the server: only an administrator of the gateway may say so"
    } else {
        return Ok(());
    };
    Err(short(caller, Role::Admin, why))
}

/// Fails for whoever may not say to whom a server is offered.
fn must_offer(caller: &Caller, before: &Offers, spec: &ServerSpec) -> Result<(), ServersError> {
    if spec.offered_to == *before || caller.administers_gateway() {
        return Ok(());
    }
    Err(short(caller, Role::Admin, "only an administrator of the gateway offers a server to other tenants"))
}

fn must_change(caller: &Caller, record: &Record) -> Result<(), ServersError> {
    if record.may_be_changed_by(caller) {
        return Ok(());
    }
    Err(short(
        caller,
        Role::ServerOwner,
        "only who registered the server or an administrator, with a key of the scope `admin`, may change it",
    ))
}

/// What a caller is told who falls short: of the scope only, or of what no other credential would change.
fn short(caller: &Caller, role: Role, why: &'static str) -> ServersError {
    if caller.role() >= role && !caller.may_manage() { ServersError::Scope(why) } else { ServersError::Forbidden(why) }
}

/// Where the secrets lie; part of what seals them.
const TABLE: &str = sealed::SERVERS.name;

/// The description with every secret masked.
pub fn masked(spec: &ServerSpec) -> ServerSpec {
    let mut spec = spec.clone();
    for value in spec.headers.values_mut().chain(spec.env.values_mut()) {
        *value = Secret::new(MASK);
    }
    for (_, auth) in spec.auths_mut() {
        auth.secrets().for_each(|(_, value)| *value = Secret::new(MASK));
    }
    spec
}

/// The description as JSON, masked: what a merge patch is applied to.
pub fn masked_json(spec: &ServerSpec) -> Value {
    serde_json::to_value(masked(spec)).unwrap_or_default()
}

fn check(spec: &ServerSpec) -> Result<(), ServersError> {
    let found = spec.check();
    if found.is_empty() { Ok(()) } else { Err(ServersError::Invalid(found)) }
}

/// Puts the stored secrets where `spec` says [`MASK`]. A server that moves to another host does not take them along, nor does the
/// secret of a client go to another authorization server: whoever may change the URL could otherwise read them there.
fn keep_secrets(mut spec: ServerSpec, before: Option<&ServerSpec>) -> Result<ServerSpec, ServersError> {
    let mut found = Vec::new();
    let known = before.map(origins).unwrap_or_default();
    let moves = before.is_some() && origins(&spec).iter().any(|origin| !known.contains(origin));
    let mut keep = |field: String, value: &mut Secret, stored: Option<&Secret>, moves: Option<&str>| {
        if value.expose() != MASK {
            return;
        }
        let message = match (stored, moves) {
            (Some(_), Some(why)) => format!("give the value again: {why}, and stored secrets stay behind"),
            (Some(old), None) => {
                *value = old.clone();
                return;
            }
            (None, _) => "`***` stands for a stored value, and there is none; give the value".to_owned(),
        };
        found.push(FieldError::new(field, message));
    };
    let moved = moves.then_some("the server moves to another host");
    let empty = BTreeMap::new();
    let stored = [before.map_or(&empty, |spec| &spec.headers), before.map_or(&empty, |spec| &spec.env)];
    for ((name, wanted), stored) in [("headers", &mut spec.headers), ("env", &mut spec.env)].into_iter().zip(stored) {
        for (key, value) in wanted {
            keep(format!("{name}.{key}"), value, stored.get(key), moved);
        }
    }
    let stored = before.map(ServerSpec::auths);
    for (at, (name, auth)) in spec.auths_mut().into_iter().enumerate() {
        let stored = stored.map(|auths| auths[at].1);
        let elsewhere = stored.is_some_and(|stored| stored.secret_goes_to() != auth.secret_goes_to());
        let otherwise = stored.is_some_and(|stored| auth.asks_for_more_than(stored));
        let elsewhere = elsewhere
            .then_some("it is for another authorization server")
            .or(otherwise.then_some("something else is asked for with it"));
        for (key, value) in auth.secrets() {
            let elsewhere = elsewhere.filter(|_| key == "client_secret");
            let stored = stored.and_then(|stored| stored.secret(&key));
            keep(format!("{name}.{key}"), value, stored, moved.or(elsewhere));
        }
    }
    if found.is_empty() { Ok(spec) } else { Err(ServersError::Invalid(found)) }
}

/// For which server secrets are sealed, and where they may go: whoever can write to the database alone cannot have them sent elsewhere.
fn sealed_for(id: ServerId, spec: &ServerSpec) -> String {
    let started = spec.command.iter().flat_map(|command| std::iter::once(&command.program).chain(&command.args));
    let to: Vec<&String> = started.collect();
    let mut all = serde_json::json!([id, spec.transport, origins(spec), to]);
    if let Some(list) = all.as_array_mut() {
        // What a program does depends on where it is started: `node server.js` is another server elsewhere.
        list.extend(spec.command.as_ref().and_then(|command| command.cwd.as_deref()).map(Value::from));
        let asked: Vec<_> = spec.auths().map(|(_, auth)| auth.secret_goes_to()).into();
        if asked.iter().flatten().any(Option::is_some) {
            list.push(serde_json::json!(asked));
        }
    }
    all.to_string()
}

/// The same of a server as it is stored, if that can be read.
pub fn sealed_for_stored(id: Uuid, spec: Value) -> Result<String, StoreError> {
    let spec = serde_json::from_value(spec).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    Ok(sealed_for(ServerId(id), &spec))
}

fn origins(spec: &ServerSpec) -> BTreeSet<String> {
    let urls = spec.replicas.iter().filter_map(|replica| url::Url::parse(&replica.url).ok());
    urls.map(|url| url.origin().ascii_serialization()).collect()
}
