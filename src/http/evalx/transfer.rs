//! The second protocol (FDv2): transfers of objects, each begun by an intent and ended by the state that it leads to.
//!
//! A state has the environment, its version and a digest of all that the client was told. Whoever comes back with the digest
//! of what it would be told again is told nothing; anybody else gets everything.
//!
//! Source: LaunchDarkly's JavaScript SDK 4.10, `dataSystem`.

use crate::http::evalx::entry::Entry;
use crate::http::evalx::view::Difference;
use crate::http::evalx::view::Told;
use crate::snapshot::Environment;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

/// The kind of object that clients are sent.
const EVALUATED: &str = "flag-eval";

/// One transfer, ready to be written.
#[derive(Debug, Serialize)]
pub(super) struct Transfer {
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Event {
    #[serde(rename = "event")]
    name: &'static str,
    data: Box<RawValue>,
}

#[derive(Serialize)]
struct PutObject<'a> {
    version: i64,
    kind: &'static str,
    key: &'a str,
    object: &'a RawValue,
}

/// The version that a state names, if it is one of this environment.
pub(super) fn version_of(state: &str, environment: &Environment) -> Option<i64> {
    let rest = state.strip_prefix("(p:")?.strip_prefix(environment.key.as_str())?;
    let (version, _) = rest.strip_prefix(':')?.split_once(':')?;
    version.parse().ok().filter(|version| *version >= 0)
}

impl Transfer {
    /// Everything, unless the client's `basis` says that it has just that.
    pub(super) fn full(
        environment: &Environment,
        version: i64,
        entries: &[Entry<'_>],
        told: &Told,
        basis: Option<&str>,
    ) -> Self {
        let digest = told.digest();
        let is_there = |basis: &str| {
            basis.starts_with(&format!("(p:{}:", environment.key))
                && basis.ends_with(&format!(":{digest})"))
        };
        let mut transfer = Self { events: Vec::with_capacity(entries.len() + 2) };
        match basis {
            Some(basis) if is_there(basis) => {
                transfer.intend(environment, version, "none", "up-to-date");
                return transfer;
            }
            Some(_) => transfer.intend(environment, version, "xfer-full", "cant-catchup"),
            None => transfer.intend(environment, version, "xfer-full", "payload-missing"),
        }
        transfer.put_all(entries, version);
        transfer.finish(environment, version, &digest);
        transfer
    }

    /// What differs from what the client was told before; `told` includes it.
    pub(super) fn changes(
        environment: &Environment,
        version: i64,
        difference: &Difference<'_>,
        told: &Told,
    ) -> Self {
        let mut transfer = Self { events: Vec::new() };
        transfer.intend(environment, version, "xfer-changes", "stale");
        transfer.put_all(&difference.entries, version);
        for key in &difference.gone {
            let data = json!({ "version": version, "kind": EVALUATED, "key": key });
            transfer.push("delete-object", &data);
        }
        transfer.finish(environment, version, &told.digest());
        transfer
    }

    /// As the answer to a poll.
    pub(super) fn body(&self) -> Vec<u8> {
        // OK because all of it is JSON already.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// As events of a stream.
    pub(super) fn events(&self) -> Bytes {
        let mut out = Vec::new();
        for Event { name, data } in &self.events {
            for part in ["event: ", name, "\ndata: ", data.get(), "\n\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.into()
    }

    fn intend(&mut self, environment: &Environment, version: i64, code: &str, reason: &str) {
        let id = &environment.key;
        let payload = json!({ "id": id, "target": version, "intentCode": code, "reason": reason });
        self.push("server-intent", &json!({ "payloads": [payload] }));
    }

    fn put_all(&mut self, entries: &[Entry<'_>], version: i64) {
        for entry in entries {
            let mut object = Vec::new();
            entry.write_object(&mut object);
            let key = entry.flag.key.as_str();
            // OK because an entry is JSON text.
            if let Ok(object) = serde_json::from_slice::<&RawValue>(&object) {
                self.push("put-object", &PutObject { version, kind: EVALUATED, key, object });
            }
        }
    }

    fn finish(&mut self, environment: &Environment, version: i64, digest: &str) {
        let state = format!("(p:{}:{version}:{digest})", environment.key);
        let data = json!({ "state": Value::from(state), "version": version });
        self.push("payload-transferred", &data);
    }

    fn push<T: Serialize>(&mut self, name: &'static str, data: &T) {
        // OK because keys and numbers can be written as JSON.
        if let Ok(data) = serde_json::value::to_raw_value(data) {
            self.events.push(Event { name, data });
        }
    }
}
