//! Signing the end of the audit log with an Ed25519 key that is outside of the database, so that who can write to the database
//! still cannot cut the log off or write it anew without being found out.

use crate::model::audit::SignedHead;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::UnparsedPublicKey;
use jiff::Timestamp;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Who may read the file of a key: its owner.
const KEY_FILE_MODE: u32 = 0o600;

/// Signs the end of the audit log.
#[derive(Debug)]
pub struct HeadSigner {
    key: Ed25519KeyPair,
}

impl HeadSigner {
    /// Reads the key (PKCS#8, DER) from a file, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// The file can be neither read nor made, or holds no such key.
    pub fn open(path: &Path) -> io::Result<Self> {
        let no_key = || {
            let detail = format!("{} holds no Ed25519 key in PKCS#8", path.display());
            io::Error::new(io::ErrorKind::InvalidData, detail)
        };
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            read => read?,
        };
        Ed25519KeyPair::from_pkcs8(&bytes).map(|key| Self { key }).map_err(|_| no_key())
    }

    /// Makes a key that ends with the process.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn ephemeral() -> io::Result<Self> {
        let key = Ed25519KeyPair::generate().map_err(|_| io::Error::other("no randomness"))?;
        Ok(Self { key })
    }

    /// Signs the end of the audit log.
    pub fn sign(&self, seq: i64, hash: String, at: Timestamp) -> SignedHead {
        let signature = self.key.sign(SignedHead::message(seq, &hash, at).as_bytes());
        let public_key = hex::encode(self.key.public_key());
        SignedHead { seq, hash, at, public_key, signature: hex::encode(signature) }
    }
}

/// Makes a key; of several processes that do so at once, the first wins.
fn make(path: &Path) -> io::Result<Vec<u8>> {
    let key = Ed25519KeyPair::generate().map_err(|_| io::Error::other("no randomness"))?;
    let text = key.to_pkcs8().map_err(|_| io::Error::other("the key has no PKCS#8"))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = Path::new(&name);
    // Whole before it has its name, because another process may read it.
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(KEY_FILE_MODE).open(new)?;
        file.write_all(text.as_ref())?;
        file.sync_all()?;
        fs::hard_link(new, path)
    })();
    // OK because the file has the other name by now, or is of no use.
    let _ = fs::remove_file(new);
    match written {
        Ok(()) => Ok(text.as_ref().to_vec()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read(path),
        Err(error) => Err(error),
    }
}

/// Whether a head was signed with the key that it names.
pub fn is_signed(head: &SignedHead) -> bool {
    let (Ok(key), Ok(signature)) = (hex::decode(&head.public_key), hex::decode(&head.signature))
    else {
        return false;
    };
    let message = SignedHead::message(head.seq, &head.hash, head.at);
    UnparsedPublicKey::new(&ED25519, key).verify(message.as_bytes(), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_what_it_signs_can_be_verified() {
        let folder = std::env::temp_dir().join(format!("vexil-key-{}", crate::clock::Ids.next()));
        let path = folder.join("audit.key");
        let first = HeadSigner::open(&path).unwrap();
        let head = first.sign(7, "00".to_owned(), Timestamp::UNIX_EPOCH);
        assert!(is_signed(&head));
        let again = HeadSigner::open(&path).unwrap();
        assert_eq!(again.sign(7, "00".to_owned(), Timestamp::UNIX_EPOCH), head);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, KEY_FILE_MODE);
        assert!(!is_signed(&SignedHead { seq: 8, ..head.clone() }));
        assert!(!is_signed(&SignedHead { hash: "01".to_owned(), ..head.clone() }));
        let other = HeadSigner::ephemeral().unwrap().sign(7, "00".to_owned(), head.at);
        assert!(!is_signed(&SignedHead { public_key: other.public_key, ..head }));
        fs::write(&path, b"nothing").unwrap();
        assert!(HeadSigner::open(&path).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
