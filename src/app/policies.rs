//! Access rules over all that they speak of: taking over those that are stored, saying how one decision comes about, and trying
//! changed ones on what was called lately.

use std::sync::Arc;

use ahash::AHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::App;
use crate::access::{AccessError, Caller, Memberships, Role, Scopes, SessionType, Subject};
use crate::field::FieldError;
use crate::id::TenantId;
use crate::policy::{
    Decided, Given, Hints, Place, RuleName, Rules, Standing, Thing, Verdict, What, aside, decide, decide_shorter, kept,
};
use crate::registry::catalog::{Item, Kind};
use crate::registry::servers::Record;
use crate::registry::snapshot::{AllRules, Entry, Snapshot};
use crate::store::access_rules::ObservedRow;
use crate::store::users::UserRow;
use crate::store::{StoreError, at};

/// Who is meant.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whom {
    /// An account, by name or id.
    pub user: Option<String>,
    /// An OAuth client or an API key, by its id. Without `user`, on its own.
    pub client: Option<String>,
}

/// What is asked about one decision.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "user": "ada", "server": "files", "tool": "read_file" }))]
pub struct Question {
    /// An account, by name or id.
    pub user: Option<String>,
    /// An OAuth client or an API key, by its id. Without `user`, on its own.
    pub client: Option<String>,
    /// The server's slug.
    pub server: String,
    /// A tool, by the server's own name for it.
    pub tool: Option<String>,
    /// A resource, by its URI.
    pub resource: Option<String>,
    /// A prompt, by the server's own name for it.
    pub prompt: Option<String>,
    /// The arguments of the call, an object.
    pub arguments: Option<Box<RawValue>>,
}

/// How one decision comes about.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Explained {
    /// `allowed`, `denied`, or `depends` on the arguments: of the rules, of visibility and of scopes together.
    pub decision: &'static str,
    /// What the rules alone say.
    pub rules_say: &'static str,
    /// Whether lists show it.
    pub listed: bool,
    /// The rules that decided; none where no rule permits it.
    pub rules: Vec<RuleName>,
    /// Those that read arguments and could apply.
    pub reading_arguments: Vec<RuleName>,
    /// What is said to who is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Arc<str>>,
    /// Whether the server is visible to the account.
    pub visible: bool,
    /// Whether the key's scopes name it; null where no key is meant.
    pub in_scope: Option<bool>,
    /// Whether the server is known to offer it.
    pub known: bool,
    /// What the tool says of itself, as rules read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<Hints>,
    /// Who was meant, as rules see it.
    pub subject: Seen,
    /// The version of the rules.
    pub version: i64,
}

/// Somebody, as rules see them.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "Subject")]
pub struct Seen {
    user_id: Uuid,
    name: Option<String>,
    role: Role,
    client: String,
    credential: &'static str,
    groups: Vec<Box<str>>,
    app_roles: Vec<Box<str>>,
    /// Whether the identity provider has not said all groups.
    memberships_unknown: bool,
}

impl Seen {
    fn of(subject: &Subject) -> Self {
        let Memberships { groups, app_roles, unknown } = subject.memberships().clone();
        Self {
            user_id: subject.user(),
            name: subject.name().map(str::to_owned),
            role: subject.role(),
            client: subject.client().to_owned(),
            credential: subject.credential(),
            groups,
            app_roles,
            memberships_unknown: unknown,
        }
    }
}

/// What changed rules would do to what was called lately.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "TrialResult")]
pub struct Trial {
    /// From when on operations were looked at.
    #[serde(with = "crate::clock::Moment")]
    pub since: OffsetDateTime,
    /// How many different ones.
    pub operations: usize,
    /// How many of them would go as they go now.
    pub unchanged: usize,
    /// How many are of accounts or servers that are gone.
    pub gone: usize,
    /// How many would be decided otherwise.
    pub changed: usize,
    /// Those, the most frequent first, a thousand at most.
    pub changes: Vec<Change>,
}

/// An operation that would be decided otherwise.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "TrialChange")]
pub struct Change {
    /// Who.
    pub user: String,
    /// The account.
    pub user_id: Uuid,
    /// Through which client.
    pub client: String,
    /// Where.
    pub server: String,
    /// `tool`, `resource` or `prompt`.
    pub kind: String,
    /// What.
    pub name: String,
    /// By the rules in force: `allowed`, `denied`, or `depends` on the arguments.
    pub now: &'static str,
    /// By the others.
    pub then: &'static str,
    /// The rules that would decide.
    pub rules: Vec<RuleName>,
    /// How often it was called.
    pub count: i64,
    /// When last.
    #[serde(with = "crate::clock::Moment")]
    pub last_at: OffsetDateTime,
}

/// Most changes that are told one by one.
const MOST_CHANGES: usize = 1_000;

/// Somebody who was asked about, with what else narrows.
struct Asked {
    subject: Subject,
    /// Of the key that was meant.
    scopes: Option<Scopes>,
}

impl App {
    /// Takes over the rules as stored. They are in force when the servers have been taken over as well.
    pub(super) async fn take_rules(&self) -> Result<(), StoreError> {
        let before = self.registry.rules();
        let rules = Box::pin(kept::load(&self.store, before.own())).await?;
        self.registry.take_rules(AllRules::new(rules));
        Ok(())
    }

    /// Whether the rules of every tenant can be read.
    pub(super) fn rules_are_well(&self) -> bool {
        self.registry.rules().own().values().all(|rules| rules.trouble().is_none())
    }

    /// Whether a server is there for the caller, in the registry's lists as for a call: who may change it sees it in any case.
    pub fn shows(&self, caller: &Caller, record: &Record) -> bool {
        let (server, snapshot) = (&record.server, self.registry.snapshot());
        let rules = snapshot.rules(caller.tenant());
        if rules.is_open() || record.may_be_changed_by(caller) {
            return true;
        }
        if server.spec.enabled
            && let Some(tenant) = snapshot.tenant(caller.tenant())
        {
            return tenant.entry_by_id(caller, server.id).is_some();
        }
        let slug = server.spec.slug.as_str();
        let place = Place { id: server.id, revision: server.revision, slug, tags: &server.spec.tags };
        let thing = Thing { place, what: What::Server };
        decide(rules, caller.subject(), &thing, Given::Listing) == Verdict::Allowed
    }

    /// Whether the rules let the caller see what a server offers: `item` as the server describes it.
    pub fn offers_to(&self, caller: &Caller, record: &Record, kind: Kind, key: &str, item: &[u8]) -> bool {
        let (server, snapshot) = (&record.server, self.registry.snapshot());
        let rules = snapshot.rules(caller.tenant());
        if rules.is_open() {
            return true;
        }
        let what = match kind {
            Kind::Tools => What::Tool(key, Hints::of(item)),
            Kind::Resources | Kind::Templates => What::Resource(key),
            Kind::Prompts => What::Prompt(key),
        };
        let slug = server.spec.slug.as_str();
        let place = Place { id: server.id, revision: server.revision, slug, tags: &server.spec.tags };
        decide(rules, caller.subject(), &Thing { place, what }, Given::Listing) == Verdict::Allowed
    }

    /// How the rules of a tenant decide about somebody and something.
    pub async fn explain(&self, tenant: &TenantId, question: &Question) -> Result<Explained, AccessError> {
        let whom = Whom { user: question.user.clone(), client: question.client.clone() };
        let Asked { subject, scopes } = self.asked(tenant, &whom).await?;
        let snapshot = self.registry.snapshot();
        let rules = snapshot.rules(tenant);
        let entry = entry(&snapshot, tenant, &question.server);
        let entry = entry.ok_or_else(|| field("server", "there is no such server, or it is disabled"))?;
        let (kind, name) = match (&question.tool, &question.resource, &question.prompt) {
            (Some(name), None, None) => (Some(Kind::Tools), name.as_str()),
            (None, Some(name), None) => (Some(Kind::Resources), name.as_str()),
            (None, None, Some(name)) => (Some(Kind::Prompts), name.as_str()),
            (None, None, None) => (None, ""),
            _ => {
                return Err(field(
                    "tool",
                    "give one of `tool`, `resource` and `prompt`, or none for the server itself",
                ));
            }
        };
        let item = kind.and_then(|kind| entry.catalog.item(kind, name));
        let what = kind.map_or(What::Server, |kind| what(kind, name, item));
        let arguments = question.arguments.as_deref().map(RawValue::get);
        if arguments.is_some_and(|text| !text.trim_start().starts_with('{')) {
            return Err(field("arguments", "must be an object"));
        }
        let given = arguments.map_or(Given::Listing, |text| Given::Call(Some(text.as_bytes())));
        let (shorter, decided) = standing(rules, &subject, entry, what, given);
        let thing = Thing { place: entry.place(), what: shorter.as_deref().map_or(what, What::Resource) };
        let (mut says, mut by, mut message) = (decided.standing, decided.rules.clone(), decided.why().message.clone());
        if let (Standing::Depends, Some(arguments)) = (says, arguments) {
            (says, by, message) = match rules.calling(&subject, &thing, arguments.as_bytes()) {
                Ok(by) => (Standing::Allowed, by, None),
                Err(why) => (Standing::Denied, why.rule.into_iter().collect(), why.message),
            };
        }
        let server = &entry.upstream.server;
        // Nobody here administers what another tenant offers, and names mean somebody else there.
        let own = server.tenant == *tenant;
        let visible = (own && subject.role() >= Role::TenantAdmin)
            || server.spec.visibility.includes(subject.user(), subject.name().filter(|_| own), subject.role());
        let in_scope = scopes.map(|scopes| match what {
            What::Tool(name, _) => scopes.allows_tool(entry.slug(), name),
            _ => scopes.allows_server(entry.slug()),
        });
        let narrowed = !visible || in_scope == Some(false);
        Ok(Explained {
            decision: if narrowed { Standing::Denied.label() } else { says.label() },
            rules_say: says.label(),
            listed: !narrowed && decided.standing != Standing::Denied,
            rules: by,
            reading_arguments: decided.late.clone(),
            message,
            visible,
            in_scope,
            known: item.is_some() || kind.is_none(),
            hints: kind
                .filter(|kind| *kind == Kind::Tools)
                .map(|_| item.map_or_else(Hints::default, |item| item.hints)),
            subject: Seen::of(&subject),
            version: rules.version(),
        })
    }

    async fn asked(&self, tenant: &TenantId, whom: &Whom) -> Result<Asked, AccessError> {
        let user = match whom.user.as_deref() {
            None => None,
            Some(named) => Some(self.account(tenant, named).await?),
        };
        let Some(client) = whom.client.as_deref() else {
            let user = user.ok_or_else(|| field("user", "say who: `user`, `client`, or both"))?;
            let subject = self.subject(tenant, &user, None, "login", SessionType::Login).await?;
            return Ok(Asked { subject, scopes: None });
        };
        if let Ok(id) = Uuid::parse_str(client)
            && let Some((holder, role, scopes)) = self.store.key_and_holder(tenant, id).await?
        {
            if user.is_some_and(|user| user.id != holder.id) {
                return Err(field("client", "that API key is somebody else's"));
            }
            let scopes: Scopes =
                serde_json::from_value(scopes).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            let subject = self.subject(tenant, &holder, Some(&role), &id.to_string(), SessionType::ApiKey).await?;
            return Ok(Asked { subject, scopes: Some(scopes) });
        }
        let (user, session) = if let Some(user) = user {
            (user, SessionType::OAuth)
        } else {
            let registered = self.store.client(tenant, client).await?;
            let own = registered.ok_or_else(|| field("client", "there is no such client or API key"))?.user_id;
            let own = own.ok_or_else(|| field("user", "the client acts for people only: say for whom"))?;
            (self.store.user(tenant, own).await?.ok_or(StoreError::Missing)?, SessionType::Service)
        };
        Ok(Asked { subject: self.subject(tenant, &user, None, client, session).await?, scopes: None })
    }

    async fn account(&self, tenant: &TenantId, named: &str) -> Result<UserRow, AccessError> {
        let found = match Uuid::parse_str(named) {
            Ok(id) => self.store.user(tenant, id).await?,
            // PostgreSQL refuses some texts.
            Err(_) if named.contains('\0') => None,
            Err(_) => self.store.user_named(tenant, &named.to_lowercase()).await?,
        };
        found.ok_or_else(|| field("user", "the tenant has no such account"))
    }

    async fn subject(
        &self,
        tenant: &TenantId,
        user: &UserRow,
        most: Option<&str>,
        client: &str,
        session: SessionType,
    ) -> Result<Subject, AccessError> {
        let counted = self.store.memberships(tenant, user.id).await?;
        let memberships = Arc::new(Memberships::of(counted.as_deref(), user.issuer.is_some()));
        Ok(subject(tenant, user, most, client, session, &memberships)?)
    }

    /// What `rules` would do to what was called since then.
    pub async fn try_rules(&self, tenant: &TenantId, rules: Rules, since: i64) -> Result<Trial, AccessError> {
        self.observed.flush(&self.store).await?;
        let rows = self.store.observed(tenant, since).await?;
        let mut users: Vec<Uuid> = rows.iter().map(|row| row.user_id).collect();
        users.sort_unstable();
        users.dedup();
        let mut known = AHashMap::new();
        for some in users.chunks(500) {
            known.extend(self.store.users_among(tenant, &[], some).await?.into_iter().map(|user| (user.id, user)));
        }
        let counted: AHashMap<Uuid, String> = self.store.memberships_in(tenant).await?.into_iter().collect();
        let (tenant, snapshot) = (tenant.clone(), self.registry.snapshot());
        // Thousands of decisions are not for a thread that others wait for.
        let place = aside::place().await;
        let trying = self.tasks.spawn_blocking(move || {
            let _place = place;
            try_on(&tenant, &snapshot, &rules, &rows, &known, &counted, since)
        });
        Ok(trying.await.map_err(|_| StoreError::Corrupt("the trial came to no end".to_owned()))?)
    }
}

fn try_on(
    tenant: &TenantId,
    snapshot: &Snapshot,
    rules: &Rules,
    rows: &[ObservedRow],
    users: &AHashMap<Uuid, UserRow>,
    counted: &AHashMap<Uuid, String>,
    since: i64,
) -> Trial {
    let in_force = snapshot.rules(tenant);
    let (mut unchanged, mut gone, mut changes) = (0, 0, Vec::new());
    for row in rows {
        let kind = match row.kind.as_str() {
            "tool" => Kind::Tools,
            "resource" => Kind::Resources,
            _ => Kind::Prompts,
        };
        let memberships = |user: &UserRow| {
            Arc::new(Memberships::of(counted.get(&row.user_id).map(String::as_str), user.issuer.is_some()))
        };
        let session = match row.credential.as_str() {
            "api_key" => SessionType::ApiKey,
            "login" => SessionType::Login,
            "service" => SessionType::Service,
            _ => SessionType::OAuth,
        };
        let of = |user: &UserRow| subject(tenant, user, Some(&row.role), &row.client, session, &memberships(user)).ok();
        let found = users.get(&row.user_id).and_then(|user| Some((user, of(user)?)));
        let (Some((user, subject)), Some(entry)) = (found, entry(snapshot, tenant, &row.server)) else {
            gone += 1;
            continue;
        };
        let what = what(kind, &row.name, entry.catalog.item(kind, &row.name));
        let by = |rules| standing(rules, &subject, entry, what, Given::Listing).1;
        let (now, then) = (by(in_force), by(rules));
        if now.standing == then.standing {
            unchanged += 1;
            continue;
        }
        changes.push(Change {
            user: user.username.clone(),
            user_id: user.id,
            client: row.client.clone(),
            server: row.server.clone(),
            kind: row.kind.clone(),
            name: row.name.clone(),
            now: now.standing.label(),
            then: then.standing.label(),
            rules: if then.standing == Standing::Depends { then.late.clone() } else { then.rules.clone() },
            count: row.count,
            last_at: at(row.last_at),
        });
    }
    changes.sort_by_key(|change| std::cmp::Reverse(change.count));
    let changed = changes.len();
    changes.truncate(MOST_CHANGES);
    Trial { since: at(since), operations: rows.len(), unchanged, gone, changed, changes }
}

fn field(name: &str, message: &str) -> AccessError {
    AccessError::Invalid(vec![FieldError::new(name, message)])
}

fn subject(
    tenant: &TenantId,
    user: &UserRow,
    most: Option<&str>,
    client: &str,
    session: SessionType,
    memberships: &Arc<Memberships>,
) -> Result<Subject, StoreError> {
    let role = |text: &str| Role::parse(text).ok_or_else(|| StoreError::Corrupt(format!("role `{text}`")));
    let role = match most {
        Some(most) => role(&user.role)?.min(role(most)?),
        None => role(&user.role)?,
    };
    let name = user.issuer.is_none().then_some(user.username.as_str());
    Ok(Subject::new(tenant, user.id, name, role, &client.into(), session, memberships))
}

fn entry<'a>(snapshot: &'a Snapshot, tenant: &TenantId, slug: &str) -> Option<&'a Entry> {
    snapshot.tenant(tenant)?.entries().iter().find(|entry| entry.slug() == slug)
}

/// How somebody stands to something, listed or not; with the shorter URI by which that is decided, if there is one.
fn standing(
    rules: &Rules,
    subject: &Subject,
    entry: &Entry,
    what: What<'_>,
    given: Given<'_>,
) -> (Option<String>, Arc<Decided>) {
    let thing = Thing { place: entry.place(), what };
    if rules.is_open() || entry.catalog.lists(what) {
        return (None, rules.standing(subject, &thing));
    }
    if !entry.catalog.is_clear(what) {
        return (None, Arc::new(Decided::misnamed()));
    }
    let shorter = decide_shorter(rules, subject, &thing, given).map(|(uri, _)| uri);
    let thing = Thing { what: shorter.as_deref().map_or(what, What::Resource), ..thing };
    let decided = rules.standing(subject, &thing);
    (shorter, decided)
}

fn what<'a>(kind: Kind, name: &'a str, item: Option<&Item>) -> What<'a> {
    match kind {
        Kind::Tools => What::Tool(name, item.map_or_else(Hints::default, |item| item.hints)),
        Kind::Resources | Kind::Templates => What::Resource(name),
        Kind::Prompts => What::Prompt(name),
    }
}
