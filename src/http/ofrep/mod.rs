//! OFREP 0.3, the evaluation API of OpenFeature.
//!
//! Source: open-feature/protocol, `service/openapi.yaml`, version 0.3.0; and what the published providers accept, which is
//! less: every success has `key`, `value`, `reason` and `variant`, every error `key`, `errorCode` and `errorDetails`, and
//! reasons come from the list that all providers know.

mod answer;
mod evaluate;
mod events;
mod render;

pub(crate) use answer::answer;
pub(crate) use answer::has_path;
pub(crate) use evaluate::__path_evaluate_all_flags;
pub(crate) use evaluate::__path_evaluate_flag;
pub(crate) use evaluate::is_any_visible;
pub(crate) use evaluate::is_visible;
pub(crate) use events::__path_stream_events;
pub(crate) use events::stream_events;
