//! What a tenant may count on: its weight among the others, how far it may go beyond its share, and its own caps.

/// A tenant's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Its weight, 0.01 to 1000.
    pub weight: f64,
    /// Requests a minute at most; none: what its share gives.
    pub base_rpm: Option<u32>,
    /// How many times its share it may use while others leave some, 1 to 10; none: what the settings say.
    pub burst_factor: Option<f64>,
    /// Requests served at once; none: as many as come.
    pub max_concurrent_requests: Option<u32>,
    /// Whether its waiting requests go before those of others.
    pub priority_support: bool,
    /// Whether its tools have histograms of their own.
    pub enhanced_monitoring: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            weight: 1.0,
            base_rpm: None,
            burst_factor: None,
            max_concurrent_requests: None,
            priority_support: false,
            enhanced_monitoring: false,
        }
    }
}
