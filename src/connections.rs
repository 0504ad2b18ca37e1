//! ENGINE: people connect to servers whose own authorization server knows them. It finds that one, makes the gateway a client of it, sends
//! people there and keeps what they come back with, each for one account at one server. Nobody's tokens go to another authorization
//! server than the one that gave them, nor to the server at another place.

mod changes;
mod client;
mod coming;
mod found;
mod going;
mod leads;
mod leaving;
mod look;
mod lost;
mod renewing;
mod sealed;
mod site;
#[cfg(test)]
mod tests;
mod view;
mod wanting;

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ahash::AHashMap;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use changes::Change;
pub use client::{Description, Way};
pub use coming::{Came, Coming};
pub use found::Found;
pub use going::{Answer, Person};
pub use leads::Leads;
pub use leaving::Leaving;
pub use look::Look;
pub use lost::Lost;
pub use renewing::Not;
pub use site::Site;
pub use view::{State, View};

use crate::fault::{Fault, Kind};
use crate::id::{ServerId, Slug};
use crate::idp::{Authorities, IdpError};
use crate::net::Outbound;
use crate::store::connections::Of;
use crate::store::{Store, StoreError};
use crate::telemetry::{Counter, Metrics};
use crate::vault::{Vault, VaultError};

/// Where people connect: the page of all servers, and below it of each.
pub const PAGE: &str = "/connections";

/// Why somebody did not come through.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The authorization server, or what the server says of it.
    #[error(transparent)]
    Authority(#[from] IdpError),
    /// The answer belongs to nobody who is on the way in this browser: it is over, was answered before, or is another's.
    #[error("the answer belongs to nobody who is on the way")]
    Lost,
    /// It is not from the authorization server to which the person was sent.
    #[error("another authorization server answered than was asked: {0}")]
    MixedUp(&'static str),
    /// The person did not agree there.
    #[error("the person did not agree")]
    Denied,
    /// Where it leads is not where the page said.
    #[error("it leads elsewhere than the page said")]
    NotShown,
    /// The server is gone, or described otherwise than when the person was sent.
    #[error("the server is not what it was")]
    Moved,
    /// It cannot be sealed, or does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is kept cannot be read.
    #[error("what is kept cannot be read: {0}")]
    Damaged(String),
}

/// See the module. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    store: Store,
    vault: Vault,
    authorities: Authorities,
    /// The public URL of the gateway.
    home: Box<str>,
    metrics: Arc<Metrics>,
    /// What must come to its end, whoever waits for it.
    tasks: TaskTracker,
    /// The number of the last change that was taken over.
    seen: AtomicI64,
    /// Tells who waits.
    came: broadcast::Sender<Change>,
    /// Who waits.
    waiting: Mutex<coming::Waiting>,
    /// When a server was last asked whom it believes because something was refused.
    looked: Mutex<AHashMap<ServerId, Instant>>,
    looks: Mutex<AHashMap<ServerId, Look>>,
}

/// Most changes that who waits has not heard of yet.
const MOST_UNHEARD: usize = 256;
/// How long what was given is tried to be kept: for as long as nobody else gets the connection.
const INSIST: Duration = Duration::from_mins(4);
/// Pause after the first failure, which doubles with each, and the longest.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

impl Connections {
    /// For a gateway with this public URL.
    pub fn new(
        store: Store,
        vault: Vault,
        outbound: &Outbound,
        home: &str,
        metrics: &Arc<Metrics>,
        tasks: &TaskTracker,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            vault,
            authorities: Authorities::new(outbound),
            home: home.into(),
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
            seen: AtomicI64::new(0),
            came: broadcast::Sender::new(MOST_UNHEARD),
            waiting: Mutex::default(),
            looked: Mutex::default(),
            looks: Mutex::default(),
        }))
    }

    /// Does this also when nobody waits for it any more, and a process that stops waits for it: what an authorization server gave in place of
    /// something is not given twice.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ConnectError> {
        self.0.tasks.spawn(work).await.map_err(|error| {
            tracing::error!("a connection was left alone; this is a bug of the gateway: {error}");
            ConnectError::Damaged("it was left alone".to_owned())
        })
    }

    /// Writes what was given, also where the database is away for a while.
    async fn insist<T, F>(write: impl Fn() -> F + Send) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let (began, mut pause) = (Instant::now(), FIRST);
        loop {
            match write().await {
                Err(StoreError::Database(error)) if began.elapsed() < INSIST => {
                    tracing::warn!(
                        "what an authorization server gave could not be kept, and is tried to be again: {error}"
                    );
                    tokio::time::sleep(pause).await;
                    pause = LONGEST.min(pause * 2);
                }
                outcome => return outcome,
            }
        }
    }

    /// Where somebody connects to a server.
    pub fn link(&self, slug: &Slug) -> String {
        format!("{}{PAGE}/{slug}", self.0.home)
    }

    fn count(&self, event: &'static str) {
        self.0.metrics.upstream_connections.on([event], Counter::inc);
    }

    /// What a caller is told who has to go to that page.
    fn ask(&self, site: &Site, why: &Why<'_>) -> Fault {
        let link = self.link(&site.slug);
        let (detail, told) = match why {
            Why::New => ("nobody connected yet", "connect your account there first".to_owned()),
            Why::Over => ("the connection is over", "connect your account there again".to_owned()),
            Why::Moved => (
                "the server or its authorization server is another than the one to which the account was connected",
                "it has moved since you connected your account there; connect it again".to_owned(),
            ),
            Why::NotTaken => (
                "the server does not take what its authorization server gave",
                "it does not take what it gave for you before; connect your account there again".to_owned(),
            ),
            Why::More(scopes) => (
                "the server wants to see more scopes",
                format!("it wants you to allow more ({scopes}); connect your account there again"),
            ),
        };
        let fault = Fault::client(Kind::Connect, format!("{detail}: {link}"));
        fault.telling(format!("{told}: open {link} in your browser, and then try again"))
    }

    /// What a program is told that comes on its own: there is nobody who could connect.
    fn no_person() -> Fault {
        let told = "the server knows people who connected their account there, and a program that comes on its own has none; \
            use it as a person";
        Fault::client(Kind::NoCredential, "a service has nobody who could connect").telling(told)
    }
}

/// Why somebody has to connect.
enum Why<'a> {
    /// They have not yet.
    New,
    /// What was given is of no use any more.
    Over,
    /// It was given for another place, or by another.
    Moved,
    /// The server refuses it.
    NotTaken,
    /// The server wants these scopes besides.
    More(&'a str),
}

fn of(user: Uuid, server: ServerId) -> Of {
    Of { user, server: server.0 }
}

/// Scopes as they are stored and sent.
fn listed(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Those and these, each once, at most so many.
fn unite(scopes: &mut Vec<String>, others: impl IntoIterator<Item = String>, most: usize) {
    for scope in others {
        if scopes.len() < most && !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
}
