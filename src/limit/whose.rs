//! Whose limits there are.

/// Whose limit was reached. Replicas tell each other by place how often: a new one goes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The gateway's capacity.
    Global,
    /// The tenant's part of it, its own cap, or what it may have served at once.
    Tenant,
    /// The user's own.
    User,
    /// What an address may do without a good credential.
    Ip,
    /// The guard's, of who sends too much that is refused.
    Ddos,
    /// What a server takes of all who call it.
    Server,
    /// What one of its tools takes.
    Tool,
}

impl Limit {
    /// The label `limit_type` of metrics, and the name in answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Ip => "ip",
            Self::Ddos => "ddos",
            Self::Server => "server",
            Self::Tool => "tool",
        }
    }
}
