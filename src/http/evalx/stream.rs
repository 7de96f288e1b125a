//! What LaunchDarkly's client-side SDKs are told on a stream, in either protocol.
//!
//! When there is something to say is in `stream::watch`.

use crate::eval::Ruleset;
use crate::http::evalx::transfer::Transfer;
use crate::http::evalx::values;
use crate::http::evalx::view::Told;
use crate::http::evalx::view::View;
use crate::http::ofrep::is_any_visible;
use crate::http::stream::Affected;
use crate::http::stream::Speech;
use crate::model::token::TokenKind;
use crate::snapshot::Environment;
use bytes::Bytes;

/// Values, and which of them differ.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) view: View,
    pub(super) told: Told,
}

/// The same as transfers.
#[derive(Debug)]
pub(super) struct Transfers {
    pub(super) view: View,
    pub(super) told: Told,
    /// What the client says that it has, until it was answered.
    pub(super) basis: Option<String>,
}

/// That the client should ask anew.
#[derive(Debug)]
pub(super) struct Pings(pub(super) TokenKind);

impl Speech for Values {
    fn begin(&mut self, _: &Environment, ruleset: &Ruleset) -> Bytes {
        let entries = self.view.all(ruleset);
        self.told = Told::of(&entries);
        values::put(&entries, ruleset.version)
    }

    fn go_on(&mut self, _: &Environment, ruleset: &Ruleset, affected: &Affected) -> Option<Bytes> {
        let difference = self.view.difference(ruleset, &affected.flags, &mut self.told);
        (!difference.is_empty()).then(|| values::patches(&difference, ruleset.version))
    }
}

impl Speech for Transfers {
    fn begin(&mut self, environment: &Environment, ruleset: &Ruleset) -> Bytes {
        let entries = self.view.all(ruleset);
        self.told = Told::of(&entries);
        let basis = self.basis.take();
        let (version, basis) = (ruleset.version, basis.as_deref());
        Transfer::full(environment, version, &entries, &self.told, basis).events()
    }

    fn go_on(
        &mut self,
        environment: &Environment,
        ruleset: &Ruleset,
        affected: &Affected,
    ) -> Option<Bytes> {
        let difference = self.view.difference(ruleset, &affected.flags, &mut self.told);
        (!difference.is_empty()).then(|| {
            Transfer::changes(environment, ruleset.version, &difference, &self.told).events()
        })
    }
}

impl Speech for Pings {
    fn begin(&mut self, _: &Environment, _: &Ruleset) -> Bytes {
        Bytes::from_static(values::PING)
    }

    fn go_on(&mut self, _: &Environment, ruleset: &Ruleset, affected: &Affected) -> Option<Bytes> {
        is_any_visible(ruleset, affected, self.0).then_some(Bytes::from_static(values::PING))
    }
}
