//! What the process says about itself: log lines and metrics.
//!
//! No metric is created anywhere else. Neither tokens nor attributes of contexts ever appear in a log line or a label.

mod event_metrics;
mod log;
mod metrics;

pub use event_metrics::EventMetrics;
pub use log::init_log;
pub use metrics::EnvironmentLabels;
pub use metrics::LimitLabels;
pub use metrics::LoadSource;
pub use metrics::Metrics;
