//! Images as the server reads them from files and from Redis, and stand-ins for what they are made of.

#[path = "../../src/snapshot/directory_image.rs"]
mod directory_image;
#[path = "../../src/snapshot/image.rs"]
mod image;

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::environment::Safety;
use crate::model::environment::ServerSdk;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::store::ChangedFlag;
use crate::store::ChangedSegment;
use directory_image::DirectoryImage;
use image::Image;
use image::ImageKey;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

/// The key of files, as `keep` has it; that of Redis is another one for each installation, and nothing else differs.
static KEY: LazyLock<ImageKey> =
    LazyLock::new(|| blake3::derive_key("vexil snapshot file", b""));

#[derive(Debug)]
pub struct Environment {
    pub id: EnvId,
    pub project: ProjectKey,
    pub key: EnvKey,
}

impl Environment {
    pub fn fail_closed_after(&self) -> Option<Duration> {
        None
    }

    pub fn server_sdk(&self) -> Option<ServerSdk> {
        None
    }

    pub fn safety(&self) -> Safety {
        Safety::default()
    }
}

#[derive(Debug)]
pub struct Update {
    pub to: Position,
    pub stamp: Box<str>,
    pub flags: Vec<Arc<ChangedFlag>>,
    pub segments: Vec<Arc<ChangedSegment>>,
}

#[derive(Debug)]
pub struct Directory {
    pub position: Position,
}

impl Directory {
    pub fn grants(&self) -> impl Iterator<Item = (&Digest, &Grant)> {
        std::iter::empty()
    }

    pub fn environments(&self) -> &[Arc<Environment>] {
        &[]
    }
}

/// Reads bytes as they may lie in a file or in Redis: what is accepted was sealed exactly so.
pub fn check_sealed(bytes: &[u8]) {
    if let Ok(text) = image::open(&KEY, bytes) {
        assert!(image::seal(&KEY, text).eq_ignore_ascii_case(bytes));
    }
    let _ = Image::open(&KEY, bytes);
    let _ = DirectoryImage::open(&KEY, bytes);
    // Another installation believes nothing of it.
    assert!(image::open(&[7; 32], bytes).is_err());
}

/// Reads the text of an image that is authentic: what is accepted is written down and read again as the same.
pub fn check_image(text: &[u8]) {
    let sealed = image::seal(&KEY, text);
    check_damaged(&sealed);
    let Ok(image) = Image::open(&KEY, &sealed) else {
        return;
    };
    let written = image.text();
    let again = Image::open(&KEY, &image::seal(&KEY, &written)).unwrap();
    assert_eq!(again.text(), written);
    assert_eq!((again.id, again.position, &again.stamp), (image.id, image.position, &image.stamp));
    assert!(again.flags == image.flags && again.segments == image.segments);
}

/// Damages one bit, which one depends on what was sealed, and cuts it off there: neither is accepted.
fn check_damaged(sealed: &[u8]) {
    let bytes = blake3::hash(sealed);
    let chosen = u32::from_le_bytes(bytes.as_bytes()[..4].try_into().unwrap()) as usize;
    let (at, bit) = (chosen / 8 % sealed.len(), chosen % 8);
    let mut damaged = sealed.to_vec();
    damaged[at] ^= 1 << bit;
    // Hexadecimal digits may be of either case, which changes nothing.
    assert!(image::open(&KEY, &damaged).is_err() || damaged.eq_ignore_ascii_case(sealed));
    assert!(image::open(&KEY, &sealed[..at]).is_err());
}

/// The same for the text of a directory.
pub fn check_directory(text: &[u8]) {
    let Ok(directory) = DirectoryImage::open(&KEY, &image::seal(&KEY, text)) else {
        return;
    };
    assert_eq!(DirectoryImage::open(&KEY, &directory.seal(&KEY)).unwrap(), directory);
}
