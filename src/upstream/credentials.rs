//! What the gateway shows a server so that it comes in the right name: a word of its own about who calls, or a token that it gets for
//! itself or for the person. What is wanted is there: it is kept ([`kept`]) for whom it was got and for nobody else, renewed before
//! its end by a job, and got once however many want it. How one server wants it is a [`Plan`].
//!
//! What a client showed the gateway is never shown to a server.

mod counted;
pub mod kept;
mod plan;
mod refused;
mod shown;
pub mod signer;
mod word;

use std::sync::{Arc, OnceLock};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

pub use kept::{Holder, Kept, Key};
pub use plan::Plan;
pub use shown::Shown;
use signer::Signer;

use crate::access::Caller;
use crate::connections::Connections;
use crate::fault::{Fault, Kind};
use crate::idp::AccessToken;
use crate::net::Outbound;
use crate::secret::Secret;
use crate::telemetry::Metrics;

/// How many are renewed at once.
const RENEWERS: usize = 8;

/// What only the application can get: it stands on what people's providers gave for them.
pub trait People: Send + Sync {
    /// A token of the caller for another application, with these scopes and with what that one wants to see in it.
    fn on_behalf_of(
        &self,
        caller: Caller,
        scopes: String,
        claims: Option<String>,
    ) -> BoxFuture<'static, Result<AccessToken, Fault>>;

    /// The access token that the caller's provider gave, if it is the one of this name.
    fn access_token(&self, caller: Caller, provider: String) -> BoxFuture<'static, Result<Secret, Fault>>;
}

/// See the module. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    kept: Kept,
    outbound: Outbound,
    signer: Signer,
    /// What the gateway calls itself in its word.
    issuer: Box<str>,
    connections: Connections,
    people: OnceLock<Box<dyn People>>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

impl Credentials {
    /// Holds none yet.
    pub fn new(
        outbound: &Outbound,
        signer: Signer,
        connections: Connections,
        issuer: &str,
        metrics: &Arc<Metrics>,
        tasks: &TaskTracker,
    ) -> Self {
        Self(Arc::new(Inner {
            kept: Kept::default(),
            outbound: outbound.clone(),
            signer,
            issuer: issuer.into(),
            connections,
            people: OnceLock::new(),
            metrics: Arc::clone(metrics),
            tasks: tasks.clone(),
        }))
    }

    /// From now on this is asked for what people's providers gave.
    pub fn ask(&self, people: impl People + 'static) {
        let _ = self.0.people.set(Box::new(people));
    }

    /// What is kept.
    pub fn kept(&self) -> &Kept {
        &self.0.kept
    }

    /// The keys of the gateway's word.
    pub fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// What people connected at servers' own authorization servers.
    pub fn connections(&self) -> &Connections {
        &self.0.connections
    }

    /// Renews what ends soon and was used, and forgets what is over. For a job.
    pub async fn renew(&self) {
        let due = self.0.kept.due(std::time::Instant::now());
        futures_util::stream::iter(due).for_each_concurrent(RENEWERS, |due| async move { due.renew().await }).await;
    }

    fn people(&self) -> Result<&dyn People, Fault> {
        let none = || Fault::gateway(Kind::NoCredential, "nobody here keeps what providers gave");
        self.0.people.get().map(|people| &**people).ok_or_else(none)
    }
}
