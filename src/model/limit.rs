//! Every bound on what an environment may hold, as a named constant with its unit.
//!
//! Bounds on traffic (bodies, connections, timeouts) stand where the traffic is handled, in `http`.

/// Characters in a key of a project, environment, flag, segment or variation.
pub const KEY_CHARS_MAX: usize = 128;
/// Characters in a name of anything.
pub const NAME_CHARS_MAX: usize = 256;
/// Characters in a description or comment.
pub const TEXT_CHARS_MAX: usize = 4_096;
/// Tags on one flag.
pub const TAGS_MAX: usize = 64;
/// Variations of one flag.
pub const VARIATIONS_MAX: usize = 128;
/// Bytes of one variation's value, as JSON.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Rules of one flag or segment in one environment.
pub const RULES_MAX: usize = 200;
/// Clauses of one rule.
pub const CLAUSES_MAX: usize = 64;
/// Values of one clause.
pub const CLAUSE_VALUES_MAX: usize = 1_000;
/// Keys in one list of a segment (included or excluded, per context kind).
pub const SEGMENT_KEYS_MAX: usize = 10_000;
/// Keys in all individual targets of one flag in one environment.
pub const TARGET_KEYS_MAX: usize = 10_000;
/// Prerequisites of one flag.
pub const PREREQUISITES_MAX: usize = 32;
/// References on the longest chain of prerequisites, and of segments that ask for segments.
pub const DEPENDENCY_DEPTH_MAX: usize = 10;
/// Flags or segments visited while one change is checked for cycles.
pub const DEPENDENCY_NODES_MAX: usize = 1_000;
/// Patterns of one flag in one environment, or of one segment; each costs memory in every replica.
pub const PATTERNS_MAX: usize = 20;
/// Bytes of one `matches` pattern.
pub const PATTERN_BYTES_MAX: usize = 512;
/// Bytes of one compiled `matches` pattern that may be written; the `regex` crate's default of 10 MiB lets one pattern cost
/// 100 ms.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one compiled `matches` pattern that is evaluated: patterns that come with imported data may be larger than those that
/// are written here, and must mean the same as where they come from.
pub const PATTERN_EVALUATED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Nesting inside one `matches` pattern.
pub const PATTERN_NEST_MAX: u32 = 32;
/// Bytes of one flag's definition and of its configuration in one environment, each as JSON.
pub const FLAG_BYTES_MAX: usize = 256 * 1024;
/// Custom properties of one flag.
pub const CUSTOM_PROPERTIES_MAX: usize = 64;
/// Values of one custom property.
pub const CUSTOM_VALUES_MAX: usize = 64;
/// Changes of flags and segments in one request.
pub const CHANGES_MAX: usize = 500;
/// Instructions in all changes of one request together.
pub const CHANGES_INSTRUCTIONS_MAX: usize = 2_000;
/// Flags that one emergency names or that have its tag.
pub const KILLED_FLAGS_MAX: usize = 10_000;
/// Instructions in one change.
pub const INSTRUCTIONS_MAX: usize = 500;
/// Flags of one project, and so flags in one environment.
pub const FLAGS_MAX: i64 = 200_000;
/// Environments of one project.
pub const ENVIRONMENTS_MAX: i64 = 1_000;
/// Segments of one environment.
pub const SEGMENTS_MAX: i64 = 10_000;
/// Triggers of one flag in one environment.
pub const TRIGGERS_MAX: usize = 20;
/// Entries of the schedule of one environment that are still to come.
pub const SCHEDULES_PENDING_MAX: i64 = 1_000;
/// Days ahead for which something can be scheduled.
pub const SCHEDULE_AHEAD_DAYS_MAX: i64 = 731;
/// Seconds by which a scheduled change may be allowed to be late.
pub const SCHEDULE_LATE_SECS_MAX: i64 = 31 * 86_400;
/// Live tokens in one installation.
pub const TOKENS_MAX: i64 = 100_000;
/// Kinds in one context, and in one list of a segment.
pub const CONTEXT_KINDS_MAX: usize = 20;
/// Attributes of one context, all kinds together.
pub const CONTEXT_ATTRIBUTES_MAX: usize = 256;
/// Characters of a context's key.
pub const CONTEXT_KEY_CHARS_MAX: usize = 256;
/// Bytes of one attribute of a context, as far as it is text.
pub const CONTEXT_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of all attributes of a context with their names, as far as they are text.
pub const CONTEXT_BYTES_MAX: usize = 64 * 1024;
/// Nesting of a context's attributes.
pub const CONTEXT_DEPTH_MAX: usize = 8;
/// Nesting of any JSON that a client sends.
pub const JSON_DEPTH_MAX: usize = 32;
/// Seconds without confirmation after which an environment may refuse: not below what need not be told, and up to 30 days.
pub const FAIL_CLOSED_SECS: std::ops::RangeInclusive<i64> = 10..=2_592_000;
/// Problems listed in one answer; the rest are dropped.
pub const PROBLEMS_MAX: usize = 50;
