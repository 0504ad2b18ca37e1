//! What every request reads: all servers of all tenants with what they offer, and who owns which name. A snapshot is never
//! changed; a new one takes its place. Lists for the common endpoint are put together once for each set of servers that
//! some caller sees, and then only written out.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use ahash::{AHashMap, AHashSet, RandomState};
use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::access::{Allow, Caller, Role};
use crate::fault::Fault;
use crate::id::{ServerId, Slug, TenantId};
use crate::json;
use crate::limit::Rates;
use crate::policy::{Decided, Given, Place, Rules, Thing, Verdict, What, decide, decide_shorter};
use crate::protocol::meta;
use crate::registry::catalog::{Catalog, Item, Kind};
use crate::registry::names;
use crate::registry::template::Template;
use crate::reuse::generations::Generations;
use crate::upstream::Upstream;
use crate::upstream::way::User;
use time::OffsetDateTime;
use uuid::Uuid;

/// Most items on one page of a list.
const PAGE_ITEMS: usize = 500;
/// Most bytes on one page of a list, unless one item is larger.
const PAGE_BYTES: usize = 512 << 10;
/// Most different views whose lists are kept put together for one tenant.
const MOST_VIEWS: usize = 256;
/// Most callers whose view is remembered for one tenant.
const MOST_CALLERS: usize = 20_000;

/// All tenants at one moment.
#[derive(Default)]
pub struct Snapshot {
    tenants: AHashMap<TenantId, Arc<Tenant>>,
    /// What all others see: the servers that are offered to every tenant.
    others: Option<Arc<Tenant>>,
    rules: AllRules,
}

/// The access rules of every tenant that has its own.
#[derive(Debug, Clone, Default)]
pub struct AllRules {
    own: AHashMap<TenantId, Arc<Rules>>,
    default: Arc<Rules>,
}

impl AllRules {
    /// Of the tenants that have some.
    pub fn new(own: AHashMap<TenantId, Arc<Rules>>) -> Self {
        Self { own, default: Arc::default() }
    }

    /// A tenant's.
    pub fn of(&self, tenant: &TenantId) -> &Arc<Rules> {
        self.own.get(tenant).unwrap_or(&self.default)
    }

    /// Those of tenants that have their own.
    pub fn own(&self) -> &AHashMap<TenantId, Arc<Rules>> {
        &self.own
    }
}

/// How a server was doing when it was last asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has not been asked yet.
    Unknown,
    /// It answered.
    Ready,
    /// It did not.
    Unreachable(Fault),
}

/// A server with what it offers.
#[derive(Clone)]
pub struct Entry {
    /// How to reach it.
    pub upstream: Arc<Upstream>,
    /// What it offers, as last heard.
    pub catalog: Arc<Catalog>,
    /// What it takes, where that is limited.
    pub rates: Option<Arc<Rates>>,
    /// How it was doing when it was last asked.
    pub state: State,
    /// What calls, or their absence, have shown since then.
    pub trouble: Option<Fault>,
    /// For each kind of list, how often it changed or was said to have changed.
    pub marks: [u64; 4],
    /// A call may begin from any snapshot that holds this entry: until then the way stays open.
    _user: User,
}

impl Entry {
    /// Of a server that has not been asked yet.
    pub fn new(upstream: Arc<Upstream>, catalog: Arc<Catalog>, marks: [u64; 4]) -> Self {
        let user = upstream.user();
        let rates = upstream.server.rates().map(Arc::new);
        Self { upstream, catalog, rates, state: State::Unknown, trouble: None, marks, _user: user }
    }

    /// Its slug.
    pub fn slug(&self) -> &str {
        self.upstream.server.spec.slug.as_str()
    }

    /// How it is doing, in one word, and why if not well.
    pub fn standing(&self) -> (&'static str, Option<&Fault>) {
        match (&self.state, &self.trouble) {
            (State::Unreachable(trouble), _) | (_, Some(trouble)) => ("unreachable", Some(trouble)),
            (State::Unknown, None) => ("unknown", None),
            (State::Ready, None) => ("ready", None),
        }
    }

    /// As rules speak of it.
    pub fn place(&self) -> Place<'_> {
        let server = &self.upstream.server;
        Place { id: server.id, revision: server.revision, slug: self.slug(), tags: &server.spec.tags }
    }

    /// What whoever sees its lists should know: why they may be out of date, or are not there yet.
    pub fn problem(&self) -> Option<Cow<'_, str>> {
        match self.standing() {
            (_, Some(trouble)) => Some(trouble.public()),
            ("unknown", _) if self.catalog.is_empty() => Some("the server has not answered yet".into()),
            _ => None,
        }
    }
}

/// The servers of one tenant, by slug in order, and the owners of names.
pub struct Tenant {
    entries: Vec<Entry>,
    /// Exposed name to owner and the server's own name.
    tools: AHashMap<Box<str>, Owned>,
    prompts: AHashMap<Box<str>, Owned>,
    /// Every owner of a URI, the one that was registered first before the others; templates likewise.
    resources: AHashMap<Box<str>, Vec<u32>>,
    templates: Vec<(Template, u32)>,
    rules: Arc<Rules>,
    views: RwLock<Generations<(Uuid, Role, Shape), Arc<View>>>,
    lists: RwLock<Generations<Sight, Arc<Lists>>>,
    /// Whether a server is there at all for who is of this shape, where rules narrow.
    seen: RwLock<Generations<(Shape, u32), bool>>,
    /// A digest of what is offered, for each kind, so that listeners learn what changed.
    digests: [u64; 4],
}

/// A digest of what rules may speak of, or of what they leave; zeros where they leave everything.
type Shape = [u8; 32];

#[derive(Debug, Clone)]
struct Owned {
    entry: u32,
    item: u32,
}

/// All by which the lists of callers differ. It is compared whole: a digest that somebody can aim at would show one the lists of
/// another.
#[derive(PartialEq, Eq, Hash)]
struct Sight {
    entries: Box<[u32]>,
    tools: Option<Box<[String]>>,
    administers: bool,
    left: Shape,
}

/// The part of a tenant's servers that a caller sees.
pub struct View {
    entries: Box<[u32]>,
    lists: Arc<Lists>,
}

/// The lists of a view, put together when first asked for.
#[derive(Default)]
struct Lists {
    pages: [OnceLock<Vec<Bytes>>; 4],
}

/// A tool, prompt or resource found by its exposed name.
pub struct Found<'a> {
    /// Whose it is.
    pub entry: &'a Entry,
    /// The server's own name for it.
    pub name: Cow<'a, str>,
    /// It, when it is listed.
    pub item: Option<&'a Item>,
}

impl Snapshot {
    /// Puts the entries of all tenants in order, each under its tenant's rules, what others offer to it too. `taken` are the names of
    /// servers that tenants have, also of those that have no entry: a server that is offered to a tenant stands back behind its own of
    /// the same name.
    pub fn new(entries: Vec<Entry>, taken: &AHashSet<(TenantId, Slug)>, rules: AllRules) -> Self {
        let mut by_tenant: AHashMap<TenantId, Vec<Entry>> = AHashMap::new();
        let (mut named, mut to_all) = (Vec::new(), Vec::new());
        for entry in entries {
            let server = &entry.upstream.server;
            match server.spec.offered_to.named().filter(|_| server.tenant.is_default()) {
                Some(tenants) => named.extend(tenants.iter().map(|tenant| (tenant.clone(), entry.clone()))),
                None if server.tenant.is_default() => to_all.push(entry.clone()),
                None => {}
            }
            by_tenant.entry(server.tenant.clone()).or_default().push(entry);
        }
        if !to_all.is_empty() {
            // Who has names or rules of its own does not see what all others see.
            for tenant in taken.iter().map(|(tenant, _)| tenant).chain(rules.own().keys()) {
                by_tenant.entry(tenant.clone()).or_default();
            }
        }
        let seeing: AHashSet<TenantId> =
            named.iter().map(|(tenant, _)| tenant).chain(by_tenant.keys()).cloned().collect();
        for tenant in &seeing {
            named.extend(to_all.iter().map(|entry| (tenant.clone(), entry.clone())));
        }
        for (tenant, entry) in named {
            let server = &entry.upstream.server;
            if server.is_offered_to(&tenant) && !taken.contains(&(tenant.clone(), server.spec.slug.clone())) {
                by_tenant.entry(tenant).or_default().push(entry);
            }
        }
        let others = (!to_all.is_empty()).then(|| Arc::new(Tenant::new(to_all, rules.default.clone())));
        let of = |(id, entries)| {
            let tenant = Tenant::new(entries, rules.of(&id).clone());
            (id, Arc::new(tenant))
        };
        Self { tenants: by_tenant.into_iter().map(of).collect(), others, rules }
    }

    /// The access rules of a tenant, which has some whether it has servers or not.
    pub fn rules(&self, id: &TenantId) -> &Arc<Rules> {
        self.rules.of(id)
    }

    /// A tenant's servers and those that are offered to it; `None` when it has none.
    pub fn tenant(&self, id: &TenantId) -> Option<&Arc<Tenant>> {
        self.tenants.get(id).or(self.others.as_ref().filter(|_| !id.is_default()))
    }

    /// Every server of every tenant, once.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.tenants
            .iter()
            .flat_map(|(id, tenant)| tenant.entries().iter().filter(move |entry| entry.upstream.server.tenant == *id))
    }
}

impl Tenant {
    fn new(mut entries: Vec<Entry>, rules: Arc<Rules>) -> Self {
        entries.sort_by(|a, b| a.slug().cmp(b.slug()));
        let mut tenant = Self {
            tools: AHashMap::new(),
            prompts: AHashMap::new(),
            resources: AHashMap::new(),
            templates: Vec::new(),
            views: RwLock::new(Generations::new(MOST_CALLERS)),
            lists: RwLock::new(Generations::new(MOST_VIEWS)),
            seen: RwLock::new(Generations::new(MOST_CALLERS)),
            digests: [0; 4],
            entries: Vec::new(),
            rules,
        };
        // A fixed hasher: a digest must not change when nothing else did.
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        tenant.digests = [hasher.hash_one(tenant.rules.version()); 4];
        for (at, entry) in (0_u32..).zip(&entries) {
            for kind in Kind::ALL {
                let digest = &mut tenant.digests[kind as usize];
                for (index, item) in entry.catalog.items(kind).iter().enumerate() {
                    *digest = digest.rotate_left(5) ^ hasher.hash_one((entry.slug(), &item.raw));
                    let owned = Owned { entry: at, item: u32::try_from(index).unwrap_or(u32::MAX) };
                    match kind {
                        Kind::Tools => {
                            tenant.tools.entry(names::exposed(entry.slug(), &item.key).into()).or_insert(owned);
                        }
                        Kind::Prompts => {
                            tenant.prompts.entry(names::exposed(entry.slug(), &item.key).into()).or_insert(owned);
                        }
                        Kind::Resources => tenant.resources.entry((*item.key).into()).or_default().push(at),
                        Kind::Templates => tenant.templates.push((Template::new(&item.key), at)),
                    }
                }
            }
        }
        // Nobody takes over what another server lists already by registering one of a lower slug.
        let age = |at: &u32| age(&entries[*at as usize]);
        tenant.resources.values_mut().for_each(|owners| owners.sort_by_key(age));
        tenant.templates.sort_by_key(|(_, at)| age(at));
        tenant.entries = entries;
        tenant
    }

    /// Its servers, by slug.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The server of this slug, if the caller may see it. One that may not be seen is as one that is not there.
    pub fn entry(&self, caller: &Caller, slug: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.slug().cmp(slug)).ok()?;
        self.sees(caller, at).then(|| &self.entries[at])
    }

    /// The server of this id, if the caller may see it.
    pub fn entry_by_id(&self, caller: &Caller, id: ServerId) -> Option<&Entry> {
        let at = self.entries.iter().position(|entry| entry.upstream.server.id == id)?;
        self.sees(caller, at).then(|| &self.entries[at])
    }

    /// The tenant's access rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The one decision: what the rules say of something at one of these servers. Visibility and scopes are asked apart.
    pub fn decide(&self, caller: &Caller, entry: &Entry, what: What<'_>, given: Given<'_>) -> Verdict {
        if self.rules.is_open() {
            return Verdict::Allowed;
        }
        let (thing, subject) = (Thing { place: entry.place(), what }, caller.subject());
        if !entry.catalog.lists(what) {
            if !entry.catalog.is_clear(what) {
                return Verdict::Hidden(Decided::misnamed().why().clone());
            }
            if let Some((_, verdict)) = decide_shorter(&self.rules, subject, &thing, given) {
                return verdict;
            }
        }
        decide(&self.rules, subject, &thing, given)
    }

    /// Whether the rules let the caller see it.
    pub fn permits(&self, caller: &Caller, entry: &Entry, what: What<'_>) -> bool {
        self.decide(caller, entry, what, Given::Listing) == Verdict::Allowed
    }

    /// Whether the rules let the caller see this item of the server's list, which means what it says.
    pub fn permits_item(&self, caller: &Caller, entry: &Entry, kind: Kind, item: &Item) -> bool {
        let thing = Thing { place: entry.place(), what: kind.what(item) };
        decide(&self.rules, caller.subject(), &thing, Given::Listing) == Verdict::Allowed
    }

    /// Whether a server is there for the caller: it is visible, and the rules permit it or anything that it offers.
    fn sees(&self, caller: &Caller, at: usize) -> bool {
        let entry = &self.entries[at];
        if !visible(caller, entry) || self.rules.is_open() {
            return visible(caller, entry);
        }
        let key = (*caller.subject().shape(), u32::try_from(at).unwrap_or(u32::MAX));
        if let Some(seen) = self.seen.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *seen;
        }
        let offers =
            |kind: Kind| entry.catalog.items(kind).iter().any(|item| self.permits_item(caller, entry, kind, item));
        let sees = self.permits(caller, entry, What::Server) || Kind::ALL.into_iter().any(offers);
        self.seen.write().unwrap_or_else(PoisonError::into_inner).insert(key, sees);
        sees
    }

    /// The owner of a tool by its exposed name. A name that is not listed still finds its server by the slug in it: the
    /// server itself then says whether it has the tool.
    pub fn tool<'a>(&'a self, caller: &Caller, name: &str) -> Option<Found<'a>> {
        self.named(caller, name, &self.tools, Kind::Tools)
    }

    /// The owner of a prompt by its exposed name.
    pub fn prompt<'a>(&'a self, caller: &Caller, name: &str) -> Option<Found<'a>> {
        self.named(caller, name, &self.prompts, Kind::Prompts)
    }

    fn named<'a>(
        &'a self,
        caller: &Caller,
        name: &str,
        names: &'a AHashMap<Box<str>, Owned>,
        kind: Kind,
    ) -> Option<Found<'a>> {
        if let Some(owned) = names.get(name) {
            let entry = &self.entries[owned.entry as usize];
            let item = &entry.catalog.items(kind)[owned.item as usize];
            return visible(caller, entry).then_some(Found { entry, name: Cow::Borrowed(&item.key), item: Some(item) });
        }
        let (slug, rest) = names::split(name)?;
        let entry = self.entry(caller, slug)?;
        Some(Found { entry, name: Cow::Owned(rest.to_owned()), item: None })
    }

    /// The owner of a resource: who lists it, else whose template fits best. Among several, the one that was registered first
    /// of those that the caller sees.
    pub fn resource(&self, caller: &Caller, uri: &str) -> Option<&Entry> {
        let seen = |at: &u32| {
            let entry = &self.entries[*at as usize];
            (visible(caller, entry) && self.permits(caller, entry, What::Resource(uri))).then_some(entry)
        };
        if let Some(entry) = self.resources.get(uri).and_then(|owners| owners.iter().find_map(seen)) {
            return Some(entry);
        }
        let mut best: Option<(usize, &Entry)> = None;
        // Each owner's stand together: the rules are asked once about each, however many of its templates fit.
        for own in self.templates.chunk_by(|(_, one), (_, other)| one == other) {
            if let Some(fit) = own.iter().filter_map(|(template, _)| template.fits(uri)).max()
                && best.is_none_or(|(before, _)| fit > before)
                && let Some(entry) = own.first().and_then(|(_, at)| seen(at))
            {
                best = Some((fit, entry));
            }
        }
        best.map(|(_, entry)| entry)
    }

    /// The owner of a resource template by its exact text, else of the resource that it is.
    pub fn template(&self, caller: &Caller, text: &str) -> Option<&Entry> {
        let listed = self.templates.iter().find_map(|(template, at)| {
            let entry = &self.entries[*at as usize];
            (template.text() == text && visible(caller, entry) && self.permits(caller, entry, What::Resource(text)))
                .then_some(entry)
        });
        listed.or_else(|| self.resource(caller, text))
    }

    /// What differs after any list of this kind that the caller sees has changed, or was said to have.
    pub fn mark(&self, view: &View, kind: Kind) -> u64 {
        let marks = view.entries.iter().map(|at| &self.entries[*at as usize]);
        let version = u64::try_from(self.rules.version()).unwrap_or_default();
        marks.fold(version, |sum, entry| sum.wrapping_mul(31).wrapping_add(entry.marks[kind as usize]))
    }

    /// What changes when a list of this kind does.
    fn digest(&self, kind: Kind) -> u64 {
        self.digests[kind as usize]
    }

    /// What the caller sees, remembered for the next time.
    pub fn view(&self, caller: &Caller) -> Arc<View> {
        let shape = if self.rules.is_open() { [0; 32] } else { *caller.subject().shape() };
        let key = (caller.credential(), caller.role(), shape);
        if let Some(view) = self.views.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return view.clone();
        }
        let entries: Box<[u32]> =
            (0_u32..).zip(0..self.entries.len()).filter(|(_, at)| self.sees(caller, *at)).map(|(at, _)| at).collect();
        let sight = Sight {
            left: self.left(caller, &entries),
            tools: tools_named(caller).map(Into::into),
            administers: caller.administers_tenant(),
            entries: entries.clone(),
        };
        let lists = self.lists_of(sight);
        let view = Arc::new(View { entries, lists });
        self.views.write().unwrap_or_else(PoisonError::into_inner).insert(key, view.clone());
        view
    }

    fn lists_of(&self, sight: Sight) -> Arc<Lists> {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lists.get(&sight) {
            return known.clone();
        }
        let new = Arc::<Lists>::default();
        lists.insert(sight, new.clone());
        new
    }

    /// A digest of what the rules leave to the caller of what these servers offer: who is left the same shares the lists.
    fn left(&self, caller: &Caller, entries: &[u32]) -> Shape {
        if self.rules.is_open() {
            return [0; 32];
        }
        let mut digest = Sha256::new();
        for entry in entries.iter().map(|at| &self.entries[*at as usize]) {
            for kind in Kind::ALL {
                let permits = |item: &Item| u8::from(self.permits_item(caller, entry, kind, item));
                digest.update(entry.catalog.items(kind).iter().map(permits).collect::<Vec<_>>());
            }
        }
        digest.finalize().into()
    }

    /// The name under which an item is listed here, empty where it keeps its own; `None` when another of its server has that
    /// name, which the catalogue reports.
    fn name_of(&self, at: u32, kind: Kind, index: usize, item: &Item) -> Option<String> {
        let names = match kind {
            Kind::Tools => &self.tools,
            Kind::Prompts => &self.prompts,
            Kind::Resources | Kind::Templates => return Some(String::new()),
        };
        let name = names::exposed(self.entries[at as usize].slug(), &item.key);
        let owned = names.get(&*name).is_some_and(|owned| owned.entry == at && owned.item as usize == index);
        owned.then_some(name)
    }

    /// One page of a list for a view: the members of the result as JSON, without the braces around them. `None` when there
    /// is no such page.
    pub fn page(&self, caller: &Caller, view: &View, kind: Kind, page: usize) -> Option<Bytes> {
        view.lists.pages[kind as usize].get_or_init(|| self.put_together(caller, view, kind)).get(page).cloned()
    }

    fn put_together(&self, caller: &Caller, view: &View, kind: Kind) -> Vec<Bytes> {
        let mut pages = Vec::new();
        let mut page = BytesMut::new();
        let mut count = 0;
        let mut owners: AHashMap<&str, &Entry> = AHashMap::new();
        if matches!(kind, Kind::Resources | Kind::Templates) {
            let mut entries: Vec<&Entry> = view.entries.iter().map(|at| &self.entries[*at as usize]).collect();
            entries.sort_by_key(|entry| age(entry));
            for entry in entries {
                for item in entry.catalog.items(kind) {
                    if self.permits_item(caller, entry, kind, item) {
                        owners.entry(&item.key).or_insert(entry);
                    }
                }
            }
        }
        let mut problems = Vec::new();
        for at in &view.entries {
            let entry = &self.entries[*at as usize];
            if let Some(problem) = entry.problem() {
                problems.push((entry.slug(), problem.into_owned()));
            }
            for (index, item) in entry.catalog.items(kind).iter().enumerate() {
                let Some(name) = self.name_of(*at, kind, index, item) else { continue };
                if !self.permits_item(caller, entry, kind, item)
                    || (kind == Kind::Tools && !caller.may_call_tool(entry.slug(), &item.key))
                {
                    continue;
                }
                if let Some(owner) = owners.get(&*item.key).filter(|owner| owner.slug() != entry.slug()) {
                    let text = format!("`{}` is also offered by `{}`, which answers for it", item.key, owner.slug());
                    problems.push((entry.slug(), text));
                }
                if count == PAGE_ITEMS || page.len() > PAGE_BYTES {
                    pages.push(std::mem::take(&mut page));
                    count = 0;
                }
                if count > 0 {
                    page.put_u8(b',');
                }
                put_item(&mut page, &name, item);
                count += 1;
            }
            // They name tools.
            if self.rules.is_open() && caller.may_call_all_tools(entry.slug()) {
                problems.extend(entry.catalog.problems.iter().map(|problem| (entry.slug(), problem.clone())));
            }
        }
        pages.push(page);
        let last = pages.len() - 1;
        let close = |(at, items): (usize, BytesMut)| {
            let mut text = BytesMut::with_capacity(items.len() + 64);
            text.put_slice(format!("\"{}\":[", kind.member()).as_bytes());
            text.put_slice(&items);
            text.put_u8(b']');
            if at < last {
                text.put_slice(format!(",\"nextCursor\":\"{}\"", cursor(at + 1, self.digest(kind))).as_bytes());
            }
            if at == 0 && !problems.is_empty() {
                text.put_slice(problems_json(&problems).as_bytes());
            }
            text.freeze()
        };
        pages.into_iter().enumerate().map(close).collect()
    }

    /// The page that a cursor means; `None` for one that is not ours, or of a list that has changed since.
    pub fn page_of_cursor(&self, kind: Kind, text: &str) -> Option<usize> {
        let (page, digest) = text.split_once('.')?;
        (u64::from_str_radix(digest, 16).ok()? == self.digest(kind)).then(|| page.parse().ok())?
    }
}

/// What says which of two servers was registered first.
fn age(entry: &Entry) -> (OffsetDateTime, ServerId) {
    (entry.upstream.server.created_at, entry.upstream.server.id)
}

/// Whether visibility and scopes leave the server to the caller.
fn visible(caller: &Caller, entry: &Entry) -> bool {
    entry.upstream.server.may_be_used_by(caller)
}

/// What tells two callers apart who see the same servers and yet different tools.
fn tools_named(caller: &Caller) -> Option<&[String]> {
    match &caller.scopes().tools {
        Allow::All => None,
        Allow::Only(patterns) => Some(patterns),
    }
}

fn cursor(page: usize, digest: u64) -> String {
    format!("{page}.{digest:x}")
}

/// The member of a result that says what is wrong behind it, with the comma before it.
pub fn problems_json(problems: &[(&str, String)]) -> String {
    let list: Vec<String> = problems
        .iter()
        .map(|(slug, text)| format!("{{\"server\":{},\"problem\":{}}}", json::quote(slug), json::quote(text)))
        .collect();
    format!(",\"_meta\":{{\"{}\":[{}]}}", meta::PROBLEMS, list.join(","))
}

fn put_item(page: &mut BytesMut, exposed: &str, item: &Item) {
    match json::get(&item.raw, "name") {
        Some(name) if !exposed.is_empty() => {
            let span = json::span(&item.raw, name);
            page.put_slice(&item.raw[..span.start]);
            page.put_slice(json::quote(exposed).as_bytes());
            page.put_slice(&item.raw[span.end..]);
        }
        _ => page.put_slice(&item.raw),
    }
}
