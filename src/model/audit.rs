//! The chain of audit entries: how an entry is written down, how it is sealed, and how a file of entries is verified.
//!
//! `hash(n) = SHA-256(hash(n − 1) ‖ canonical JSON of entry n)`. How the end of the chain is signed is in `auth`.

use crate::model::change::AuditEntry;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;
use std::fmt::Write;

/// The hash before the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The field of an exported entry that its hash does not cover.
const HASH_FIELD: &str = "hash";
/// Findings that are told; the rest are counted.
const FINDINGS_MAX: usize = 100;

/// The end of the chain, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedHead {
    /// How many entries there are.
    pub seq: i64,
    /// The hash of the last one.
    pub hash: String,
    /// When it was signed.
    #[schema(value_type = String)]
    pub at: jiff::Timestamp,
    /// The Ed25519 key that verifies it, as hexadecimal digits.
    pub public_key: String,
    /// The signature of what [`SignedHead::message`] returns, as hexadecimal digits.
    pub signature: String,
}

impl SignedHead {
    /// What is signed.
    pub fn message(seq: i64, hash: &str, at: jiff::Timestamp) -> String {
        format!("vexil-audit-head\n{seq}\n{hash}\n{at}")
    }
}

/// Writes an entry down as it is exported, but for its hash.
pub fn record(entry: &AuditEntry, seq: Option<i64>) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("seq", seq.map(Value::from));
    put("id", Some(Value::from(entry.id.as_str())));
    put("at", Some(Value::from(entry.at.to_string())));
    put("actor", serde_json::to_value(&entry.actor).ok());
    put("address", entry.address.as_deref().map(Value::from));
    put("project", entry.project.as_ref().map(|key| Value::from(key.as_str())));
    put("environment", entry.env.as_ref().map(|key| Value::from(key.as_str())));
    put("action", Some(Value::from(entry.action.as_str())));
    put("subject", Some(Value::from(entry.subject.as_str())));
    put("version", entry.version.map(Value::from));
    put("comment", entry.comment.as_deref().map(Value::from));
    let read = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    put("instructions", entry.instructions.as_deref().map(read));
    put("changes", Some(Value::from(entry.changes.clone())));
    put("requestId", Some(Value::from(entry.request_id.as_str())));
    // Whatever the raw text is, the hash is of another record.
    put("unreadable", (!entry.unreadable.is_empty()).then(|| entry.unreadable.clone().into()));
    Value::Object(fields)
}

/// Returns the hash that seals a record behind the one with the hash `previous`.
pub fn seal(previous: &str, record: &Value) -> String {
    let mut text = String::new();
    write_canonical(record, &mut text);
    let mut hash = Sha256::new();
    // A text that is no hash seals nothing, but whatever follows it is wrong then anyway.
    hash.update(hex::decode(previous).unwrap_or_default());
    hash.update(text.as_bytes());
    hex::encode(hash.finalize())
}

/// Returns a line of an export: the record with its hash, if it is in the chain.
pub fn line(entry: &AuditEntry) -> String {
    let mut record = record(entry, entry.link.as_ref().map(|link| link.seq));
    if let (Some(link), Some(fields)) = (&entry.link, record.as_object_mut()) {
        fields.insert(HASH_FIELD.to_owned(), Value::from(link.hash.as_str()));
    }
    format!("{record}\n")
}

/// JSON without spaces and with sorted keys.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (i, (name, value)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                // OK because writing into a text cannot fail.
                let _ = write!(text, "{}:", Value::from(name.as_str()));
                write_canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        // OK because writing into a text cannot fail.
        scalar => drop(write!(text, "{scalar}")),
    }
}

/// Verifies an export, line by line, in constant memory.
#[derive(Debug, Clone)]
pub struct Verifier {
    n_lines: u64,
    /// The entry that must come next.
    next: i64,
    /// The hash before it as the file says and as it was computed; `None` if the entry before is missing.
    previous: Option<(String, String)>,
    /// The hash of the entry that a head names, if that was passed.
    wanted: Option<i64>,
    found: Option<String>,
    findings: Vec<String>,
    n_findings: u64,
}

/// What was found out about an export.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Entries that were read.
    pub entries: u64,
    /// The last entry of the chain.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
    /// What is wrong, in words.
    pub findings: Vec<String>,
    /// How much more is wrong than is told.
    pub more_findings: u64,
}

impl Verifier {
    /// Begins at the first entry; `head` is the number and hash that a signed head names.
    pub fn new(head_seq: Option<i64>) -> Self {
        let genesis = (GENESIS.to_owned(), GENESIS.to_owned());
        Self {
            n_lines: 0,
            next: 1,
            previous: Some(genesis),
            wanted: head_seq,
            found: None,
            findings: Vec::new(),
            n_findings: 0,
        }
    }

    fn find(&mut self, what: impl FnOnce() -> String) {
        self.n_findings += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what());
        }
    }

    /// Reads the next line.
    pub fn read(&mut self, text: &str) {
        self.n_lines += 1;
        let n_line = self.n_lines;
        let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
            return self.find(|| format!("line {n_line} is no entry"));
        };
        let hash = fields.remove(HASH_FIELD).and_then(|hash| hash.as_str().map(str::to_owned));
        let id = fields.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (Some(seq), Some(hash)) = (fields.get("seq").and_then(Value::as_i64), hash) else {
            return self.find(|| format!("line {n_line} (id {id}) is not in the chain"));
        };
        let next = self.next;
        if seq < next {
            return self.find(|| {
                format!("line {n_line} has entry {seq} (id {id}) where entry {next} should be")
            });
        }
        if seq > next {
            let missing =
                if seq == next + 1 { next.to_string() } else { format!("{next} to {}", seq - 1) };
            self.find(|| format!("before line {n_line}: entry {missing} is missing"));
            self.previous = None;
        }
        let record = Value::Object(fields);
        let mut computed = hash.clone();
        if let Some((recorded_before, computed_before)) = self.previous.take() {
            computed = seal(&recorded_before, &record);
            // What was altered is named, and not what follows it.
            if computed != hash && seal(&computed_before, &record) != hash {
                self.find(|| format!("entry {seq} (id {id}, line {n_line}) was altered"));
            } else {
                computed.clone_from(&hash);
            }
        }
        if self.wanted == Some(seq) {
            self.found = Some(hash.clone());
        }
        self.previous = Some((hash, computed));
        self.next = seq.saturating_add(1);
    }

    /// Ends the file, and compares it with the hash that a signed head names.
    pub fn finish(mut self, head: Option<&SignedHead>) -> Verdict {
        let last = self.next - 1;
        if let Some(head) = head {
            match self.found.take() {
                Some(hash) if hash == head.hash => {}
                Some(_) => self.find(|| {
                    let seq = head.seq;
                    format!(
                        "entry {seq} is not the one that was signed: the chain was written anew"
                    )
                }),
                None if head.seq == 0 => {}
                None if last < head.seq => self.find(|| {
                    let (first, end) = (last + 1, head.seq);
                    format!("the end is cut off: entries {first} to {end} are missing")
                }),
                // It is missing in the middle, which was told.
                None => {}
            }
        }
        let hash = self.previous.map_or_else(|| GENESIS.to_owned(), |(hash, _)| hash);
        let told = u64::try_from(self.findings.len()).unwrap_or(u64::MAX);
        Verdict {
            entries: self.n_lines,
            seq: last,
            hash,
            findings: self.findings,
            more_findings: self.n_findings.saturating_sub(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::Actor;
    use crate::model::change::AuditLink;

    /// A chain of `n` entries as lines of an export.
    fn chain(n: i64) -> Vec<String> {
        let mut previous = GENESIS.to_owned();
        let mut lines = Vec::new();
        for seq in 1..=n {
            let mut entry = AuditEntry {
                id: format!("id-{seq:04}"),
                at: jiff::Timestamp::from_second(1_700_000_000 + seq).unwrap(),
                actor: Actor { id: "a".to_owned(), name: "Zoë".to_owned(), holder: None },
                project: None,
                env: None,
                action: "flag.change".to_owned(),
                subject: format!("f{seq}"),
                version: Some(seq),
                comment: (seq % 2 == 0).then(|| "wörds \"quoted\"\n".to_owned()),
                instructions: Some(
                    r#"[{"z":1.5,"kind":"turnFlagOn","a":{"y":1,"x":[]}}]"#.to_owned(),
                ),
                changes: vec!["turned on".to_owned()],
                request_id: "r".to_owned(),
                address: Some("192.0.2.1".to_owned()),
                link: None,
                unreadable: Vec::new(),
            };
            let hash = seal(&previous, &record(&entry, Some(seq)));
            previous.clone_from(&hash);
            entry.link = Some(AuditLink { seq, hash });
            lines.push(line(&entry));
        }
        lines
    }

    fn head(lines: &[String]) -> SignedHead {
        let verdict = verify(lines, None);
        let at = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let (public_key, signature) = (String::new(), String::new());
        SignedHead { seq: verdict.seq, hash: verdict.hash, at, public_key, signature }
    }

    fn verify(lines: &[String], head: Option<&SignedHead>) -> Verdict {
        let mut verifier = Verifier::new(head.map(|head| head.seq));
        lines.iter().for_each(|line| verifier.read(line));
        verifier.finish(head)
    }

    #[test]
    fn what_is_whole_has_no_findings() {
        let lines = chain(30);
        let head = head(&lines);
        assert_eq!(verify(&lines, Some(&head)).findings, [""; 0]);
        assert_eq!(head.seq, 30);
        // A later export than the head is whole as well.
        let earlier = SignedHead { ..self::head(&lines[..10]) };
        assert_eq!(verify(&lines, Some(&earlier)).findings, [""; 0]);
    }

    #[test]
    fn every_single_edit_is_found_and_named() {
        let lines = chain(12);
        let head = head(&lines);
        for i in 0..12 {
            let seq = i + 1;
            for (from, to) in [
                ("turned on", "turned off"),
                ("Zoë", "Zoe"),
                ("192.0.2.1", "192.0.2.2"),
                ("\"y\":1", "\"y\":2"),
                ("\"hash\":\"", "\"hash\":\"0"),
            ] {
                let mut edited = lines.clone();
                edited[i] = edited[i].replace(from, to);
                let findings = verify(&edited, Some(&head)).findings;
                assert!(findings[0].contains(&format!("entry {seq} ")), "{findings:?}");
                let is_last_hash = i == 11 && from.contains("hash");
                assert_eq!(findings.len(), 1 + usize::from(is_last_hash), "{findings:?}");
            }
            let mut deleted = lines.clone();
            deleted.remove(i);
            let findings = verify(&deleted, Some(&head)).findings;
            assert_eq!(findings.len(), 1);
            assert!(findings[0].contains(&seq.to_string()), "{findings:?}");
            let mut inserted = lines.clone();
            inserted.insert(i, lines[(i + 3) % 12].clone());
            assert!(!verify(&inserted, Some(&head)).findings.is_empty());
            for j in 0..i {
                let mut swapped = lines.clone();
                swapped.swap(i, j);
                assert!(!verify(&swapped, Some(&head)).findings.is_empty());
            }
            let findings = verify(&lines[..i], Some(&head)).findings;
            assert!(findings[0].contains("cut off"), "{findings:?}");
        }
    }

    #[test]
    fn a_chain_that_was_written_anew_does_not_match_its_head() {
        let lines = chain(5);
        let mut signed = head(&lines);
        signed.hash = GENESIS.to_owned();
        let findings = verify(&lines, Some(&signed)).findings;
        assert!(findings[0].contains("written anew"), "{findings:?}");
    }

    #[test]
    fn keys_are_sorted_and_nothing_else_changes() {
        let mut text = String::new();
        let value = serde_json::json!({"b": [1, {"d": null, "c": "ü\n"}], "a": 1.5});
        write_canonical(&value, &mut text);
        assert_eq!(text, r#"{"a":1.5,"b":[1,{"c":"ü\n","d":null}]}"#);
    }
}
