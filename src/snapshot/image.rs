//! Images: an environment written down as a whole, for files and for Redis.
//!
//! An image has what is stored of each flag and segment, not what was compiled of it: whoever reads it compiles anew, with
//! its own version of the program. It is text, a line for each flag and segment, behind one line that authenticates the rest.
//! Where images are kept is in `keep` and in `store`.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::snapshot::Environment;
use crate::snapshot::Update;
use crate::store::ChangedFlag;
use crate::store::ChangedSegment;
use crate::store::FlagText;
use imbl::OrdMap;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of an image: 200,000 flags of a usual size, and as much as Redis keeps under one key.
pub const IMAGE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// How an image begins; the number is that of the format.
const MAGIC: &str = "vexil-image-1 ";
/// Bytes of a key with which images are authenticated.
pub(super) const IMAGE_KEY_BYTES: usize = 32;
/// A key with which images are authenticated; a public one only shows that nothing was damaged.
pub type ImageKey = [u8; IMAGE_KEY_BYTES];
/// Hexadecimal digits of the code that authenticates an image.
const MAC_CHARS: usize = 64;
/// Bytes for which room is made for each flag or segment; a usual size, and no limit.
const LINE_BYTES: usize = 1_024;

/// An environment as a whole, at one position.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its number in the database.
    pub id: EnvId,
    /// The project that it belongs to.
    pub project: ProjectKey,
    /// Its key.
    pub key: EnvKey,
    /// Where it stands.
    pub position: Position,
    /// What tells this history from others.
    pub stamp: Box<str>,
    /// What is stored of each flag.
    pub flags: OrdMap<FlagKey, Arc<ChangedFlag>>,
    /// What is stored of each segment.
    pub segments: OrdMap<SegmentKey, Arc<ChangedSegment>>,
    /// Newer forms of flags that the one who wrote it could not read.
    pub unreadable_flags: OrdMap<FlagKey, Arc<ChangedFlag>>,
    /// Newer forms of segments that the one who wrote it could not read.
    pub unreadable_segments: OrdMap<SegmentKey, Arc<ChangedSegment>>,
}

/// Why bytes are no image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// They are more than an image may have.
    #[error("it is larger than an image may be")]
    TooLarge,
    /// They are another format, or were cut off, damaged or forged.
    #[error("it is damaged, or not of this installation")]
    NotAuthentic,
    /// They are authentic and make no sense all the same.
    #[error("it makes no sense: {0}")]
    Malformed(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Head<'a> {
    environment: EnvId,
    #[serde(borrow)]
    project: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    epoch: i64,
    version: i64,
    #[serde(borrow)]
    stamp: Cow<'a, str>,
    flags: usize,
    segments: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct FlagLine<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    version: i64,
    #[serde(borrow)]
    definition: Cow<'a, str>,
    #[serde(borrow)]
    config: Cow<'a, str>,
    /// What is served, if this could not be read.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    before: Option<Box<FlagLine<'a>>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SegmentLine<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    version: i64,
    #[serde(borrow)]
    body: Cow<'a, str>,
    /// What is served, if this could not be read.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    before: Option<Box<SegmentLine<'a>>>,
}

impl<'a> FlagLine<'a> {
    fn of(flag: &'a ChangedFlag, before: Option<&'a ChangedFlag>) -> Option<Self> {
        let stored = flag.text.as_ref()?;
        Some(Self {
            key: Cow::from(flag.key.as_str()),
            version: flag.version,
            definition: Cow::from(&*stored.definition),
            config: Cow::from(&*stored.config),
            before: before.and_then(|before| Self::of(before, None)).map(Box::new),
        })
    }

    fn flag(&self) -> Arc<ChangedFlag> {
        let (definition, config) = (Box::from(&*self.definition), Box::from(&*self.config));
        let text = Some(FlagText { definition, config });
        Arc::new(ChangedFlag { key: FlagKey::stored(&self.key), version: self.version, text })
    }
}

impl<'a> SegmentLine<'a> {
    fn of(segment: &'a ChangedSegment, before: Option<&'a ChangedSegment>) -> Option<Self> {
        Some(Self {
            key: Cow::from(segment.key.as_str()),
            version: segment.version,
            body: Cow::from(segment.text.as_deref()?),
            before: before.and_then(|before| Self::of(before, None)).map(Box::new),
        })
    }

    fn segment(&self) -> Arc<ChangedSegment> {
        let (key, text) = (SegmentKey::stored(&self.key), Some(Box::from(&*self.body)));
        Arc::new(ChangedSegment { key, version: self.version, text })
    }
}

/// Authenticates a text with a key: a line before it.
pub(super) fn seal(key: &ImageKey, text: &[u8]) -> Vec<u8> {
    let mac = blake3::keyed_hash(key, text);
    let mut sealed = Vec::with_capacity(MAGIC.len() + MAC_CHARS + 1 + text.len());
    sealed.extend_from_slice(MAGIC.as_bytes());
    sealed.extend_from_slice(mac.to_hex().as_bytes());
    sealed.push(b'\n');
    sealed.extend_from_slice(text);
    sealed
}

/// Returns the text that was sealed with a key.
///
/// # Errors
///
/// [`ImageError::TooLarge`], or [`ImageError::NotAuthentic`] if anything was changed since.
pub(super) fn open<'b>(key: &ImageKey, bytes: &'b [u8]) -> Result<&'b [u8], ImageError> {
    if bytes.len() > IMAGE_BYTES_MAX {
        return Err(ImageError::TooLarge);
    }
    let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(ImageError::NotAuthentic)?;
    let (mac, rest) = rest.split_at_checked(MAC_CHARS).ok_or(ImageError::NotAuthentic)?;
    let text = rest.strip_prefix(b"\n").ok_or(ImageError::NotAuthentic)?;
    let mac = blake3::Hash::from_hex(mac).map_err(|_| ImageError::NotAuthentic)?;
    // Compares in constant time.
    if mac == blake3::keyed_hash(key, text) { Ok(text) } else { Err(ImageError::NotAuthentic) }
}

impl Image {
    /// What an environment is after an update that is everything.
    pub fn of(environment: &Environment, update: &Update) -> Self {
        let flags = update.flags.iter().filter(|flag| flag.text.is_some());
        let segments = update.segments.iter().filter(|segment| segment.text.is_some());
        Self {
            id: environment.id,
            project: environment.project.clone(),
            key: environment.key.clone(),
            position: update.to,
            stamp: update.stamp.clone(),
            flags: flags.map(|flag| (flag.key.clone(), Arc::clone(flag))).collect(),
            segments: segments.map(|each| (each.key.clone(), Arc::clone(each))).collect(),
            unreadable_flags: OrdMap::new(),
            unreadable_segments: OrdMap::new(),
        }
    }

    /// Whether it is of this environment: numbers can be given away again in a restored database.
    pub fn is_of(&self, environment: &Environment) -> bool {
        let Environment { id, project, key, .. } = environment;
        (self.id, &self.project, &self.key) == (*id, project, key)
    }

    /// Writes the image down, to be sealed.
    pub fn text(&self) -> Vec<u8> {
        let flags = self.unreadable_flags.keys().filter(|key| !self.flags.contains_key(*key));
        let n_flags = self.flags.len() + flags.count();
        let segments =
            self.unreadable_segments.keys().filter(|key| !self.segments.contains_key(*key));
        let n_segments = self.segments.len() + segments.count();
        let n_lines = n_flags + n_segments + 1;
        let mut text = Vec::with_capacity(n_lines.saturating_mul(LINE_BYTES));
        let head = Head {
            environment: self.id,
            project: Cow::from(self.project.as_str()),
            key: Cow::from(self.key.as_str()),
            epoch: self.position.epoch,
            version: self.position.version,
            stamp: Cow::from(&*self.stamp),
            flags: n_flags,
            segments: n_segments,
        };
        write_line(&mut text, &head);
        let served = self.flags.iter().filter(|(key, _)| !self.unreadable_flags.contains_key(*key));
        let served = served.map(|(_, flag)| FlagLine::of(flag, None));
        let unreadable = self.unreadable_flags.iter();
        let unreadable = unreadable
            .map(|(key, flag)| FlagLine::of(flag, self.flags.get(key).map(|before| &**before)));
        for line in served.chain(unreadable).flatten() {
            write_line(&mut text, &line);
        }
        let served =
            self.segments.iter().filter(|(key, _)| !self.unreadable_segments.contains_key(*key));
        let served = served.map(|(_, segment)| SegmentLine::of(segment, None));
        let unreadable = self.unreadable_segments.iter();
        let unreadable = unreadable
            .map(|(key, each)| SegmentLine::of(each, self.segments.get(key).map(|b| &**b)));
        for line in served.chain(unreadable).flatten() {
            write_line(&mut text, &line);
        }
        text
    }

    /// Reads what was written down and sealed.
    ///
    /// # Errors
    ///
    /// The bytes are not such an image.
    pub fn open(key: &ImageKey, bytes: &[u8]) -> Result<Self, ImageError> {
        let malformed = |error: serde_json::Error| ImageError::Malformed(error.to_string());
        let text = open(key, bytes)?;
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let head: Head<'_> = serde_json::from_slice(first).map_err(malformed)?;
        let mut image = Self {
            id: head.environment,
            project: ProjectKey::stored(&head.project),
            key: EnvKey::stored(&head.key),
            position: Position { epoch: head.epoch, version: head.version },
            stamp: Box::from(&*head.stamp),
            flags: OrdMap::new(),
            segments: OrdMap::new(),
            unreadable_flags: OrdMap::new(),
            unreadable_segments: OrdMap::new(),
        };
        for line in lines.by_ref().take(head.flags) {
            let line: FlagLine<'_> = serde_json::from_slice(line).map_err(malformed)?;
            let (mut flag, key) = (line.flag(), FlagKey::stored(&line.key));
            if let Some(before) = line.before.filter(|before| before.key == line.key) {
                image.unreadable_flags.insert(key.clone(), flag);
                flag = before.flag();
            }
            image.flags.insert(key, flag);
        }
        for line in lines.by_ref().take(head.segments) {
            let line: SegmentLine<'_> = serde_json::from_slice(line).map_err(malformed)?;
            let (mut segment, key) = (line.segment(), SegmentKey::stored(&line.key));
            if let Some(before) = line.before.filter(|before| before.key == line.key) {
                image.unreadable_segments.insert(key.clone(), segment);
                segment = before.segment();
            }
            image.segments.insert(key, segment);
        }
        let is_complete = image.flags.len() == head.flags
            && image.segments.len() == head.segments
            && lines.next().is_none();
        if !is_complete {
            return Err(ImageError::Malformed("its lines are not as many as it says".to_owned()));
        }
        Ok(image)
    }
}

fn write_line(out: &mut Vec<u8>, line: &impl Serialize) {
    // OK because all of it has a JSON form, and memory takes all bytes.
    let _ = serde_json::to_writer(&mut *out, line);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: ImageKey = [7; IMAGE_KEY_BYTES];

    fn flag(key: &str, version: i64, is_on: bool) -> Arc<ChangedFlag> {
        let definition = json!({"key": key, "name": key, "kind": "boolean",
            "variations": [{"key": "on", "value": true}, {"key": "off", "value": false}],
            "defaults": {"onVariation": "on", "offVariation": "off"}});
        let config = json!({"on": is_on, "offVariation": 1, "fallthrough": {"variation": 0},
            "salt": "Zoë\n\"quoted\""});
        let text = FlagText {
            // As somebody may have written it by hand.
            definition: serde_json::to_string_pretty(&definition).unwrap().into(),
            config: config.to_string().into(),
        };
        Arc::new(ChangedFlag { key: FlagKey::stored(key), version, text: Some(text) })
    }

    fn environment() -> Environment {
        let environment = Environment::new(3, ProjectKey::stored("p"), EnvKey::stored("e"));
        let segment = json!({"key": "s", "name": "S", "included": ["u"]}).to_string();
        let segment =
            ChangedSegment { key: SegmentKey::stored("s"), version: 1, text: Some(segment.into()) };
        let (_, unreadable) = environment.install(&Update {
            to: Position { epoch: 2, version: 5 },
            stamp: "stamp".into(),
            flags: vec![flag("a", 4, true), flag("b", 5, false)],
            segments: vec![Arc::new(segment)],
            is_relative: false,
        });
        assert!(unreadable.is_empty(), "{unreadable:?}");
        environment
    }

    #[test]
    fn what_was_written_down_serves_the_same() {
        let environment = environment();
        let image = environment.image();
        let read = Image::open(&KEY, &seal(&KEY, &image.text())).unwrap();
        assert_eq!((read.id, read.position, &*read.stamp), (3, image.position, "stamp"));
        assert_eq!(read.text().len(), image.text().len());
        let again = Environment::new(3, ProjectKey::stored("p"), EnvKey::stored("e"));
        again.install(&read.into());
        assert_eq!(format!("{:?}", again.ruleset().flag("a")), {
            format!("{:?}", environment.ruleset().flag("a"))
        });
        assert_eq!((again.ruleset().n_flags(), again.ruleset().segments().count()), (2, 1));
        assert_eq!(again.served(), environment.served());
    }

    #[test]
    fn every_damage_of_every_byte_is_noticed() {
        let environment = Environment::new(3, ProjectKey::stored("p"), EnvKey::stored("e"));
        let text = FlagText { definition: "{}".into(), config: "{\"on\":true}".into() };
        let flag = ChangedFlag { key: FlagKey::stored("a"), version: 4, text: Some(text) };
        let to = Position { epoch: 2, version: 5 };
        let flags = vec![Arc::new(flag)];
        environment.install(&Update { to, stamp: "stamp".into(), flags, ..Update::default() });
        let sealed = seal(&KEY, &environment.image().text());
        assert!(Image::open(&KEY, &sealed).is_ok());
        let mut damaged = sealed.clone();
        for (i, good) in sealed.iter().copied().enumerate() {
            for bad in (0..=u8::MAX).filter(|bad| *bad != good) {
                damaged[i] = bad;
                // Hexadecimal digits may be of either case, which changes nothing.
                let is_digit = bad.eq_ignore_ascii_case(&good);
                let is_same = is_digit && (MAGIC.len()..MAGIC.len() + MAC_CHARS).contains(&i);
                assert_eq!(Image::open(&KEY, &damaged).is_ok(), is_same, "byte {i} as {bad}");
            }
            damaged[i] = good;
            assert!(Image::open(&KEY, &sealed[..i]).is_err(), "cut off at {i}");
        }
        let longer = [sealed.as_slice(), b"\n"].concat();
        assert!(Image::open(&KEY, &longer).is_err());
        assert!(Image::open(&[8; IMAGE_KEY_BYTES], &sealed).is_err(), "another installation");
    }

    #[test]
    fn what_is_authentic_and_makes_no_sense_is_refused() {
        let text = String::from_utf8(environment().image().text()).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let fewer = lines[..lines.len() - 1].concat();
        let more = [text.as_str(), lines[1]].concat();
        let twice = [lines[0], lines[1], lines[1], lines[3]].concat();
        for bad in [
            "",
            "\n",
            "[]",
            "null\n",
            &fewer,
            &more,
            &twice,
            &text.replace("\"key\":\"a\"", "\"key\":7"),
        ] {
            let refused = Image::open(&KEY, &seal(&KEY, bad.as_bytes())).unwrap_err();
            assert!(matches!(refused, ImageError::Malformed(_)), "{bad:?}: {refused}");
        }
    }
}
