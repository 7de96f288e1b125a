//! Tickets: what stands in the URL of an event stream instead of a token, because a browser's `EventSource` sends no headers.
//!
//! A ticket opens streams that say *that* something changed, and nothing else. It lasts as long as its token: a client that
//! gets 304 keeps the URL of an earlier answer, so a ticket of its own life would leave it with one that is refused.

use crate::model::token::Digest;
use crate::snapshot::Directory;
use crate::snapshot::TokenEntry;
use subtle::ConstantTimeEq;

/// Tells these authenticators from any other that the digest of a token may be the key of.
const PURPOSE: &[u8] = b"vexil event stream";
/// Bytes of BLAKE3 that a ticket has; 128 bits are beyond guessing.
const MAC_BYTES: usize = 16;

/// Returns the ticket of a token: its id, and a proof that whoever wrote it knows the token's digest.
pub fn ticket(entry: &TokenEntry, digest: &Digest) -> String {
    format!("{}.{}", entry.grant.id, mac(digest))
}

/// Returns the token that a ticket was made of.
///
/// # Cost
///
/// Looks at every token; a stream is opened rarely.
pub fn ticket_holder(directory: &Directory, ticket: &str) -> Option<(Digest, TokenEntry)> {
    let (id, proof) = ticket.split_once('.')?;
    let proves = |digest: &Digest| bool::from(mac(digest).as_bytes().ct_eq(proof.as_bytes()));
    let mut own = directory.grants().filter(|(_, grant)| grant.id == id);
    let (digest, _) = own.find(|(digest, _)| proves(digest))?;
    Some((*digest, directory.token(digest)?.clone()))
}

fn mac(digest: &Digest) -> String {
    let hash = blake3::keyed_hash(digest, PURPOSE);
    hex::encode(hash.as_bytes().get(..MAC_BYTES).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::Position;
    use crate::model::token::Grant;
    use crate::model::token::Scope;
    use crate::model::token::TokenKind;

    #[test]
    fn a_ticket_finds_its_token_and_no_other() {
        let grant = |id: &str| Grant {
            id: id.to_owned(),
            name: String::new(),
            kind: TokenKind::Client,
            role: None,
            scope: Scope::All,
            expires_at: None,
            signing: None,
            holder: None,
        };
        let grants = [([1; 32], grant("a")), ([2; 32], grant("b"))];
        let directory = Directory::new(Position::default(), Vec::new(), grants);
        let of = |digest: &Digest| ticket(directory.token(digest).unwrap(), digest);
        let found = ticket_holder(&directory, &of(&[2; 32])).unwrap();
        assert_eq!((found.0, found.1.grant.id.as_str()), ([2; 32], "b"));
        let (_, proof) =
            of(&[1; 32]).split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        for bad in ["", "a", "a.", &format!("b.{proof}"), &format!("c.{proof}"), &proof] {
            assert!(ticket_holder(&directory, bad).is_none(), "{bad}");
        }
    }
}
