//! Everything that is served of an environment, for requests that ask once: the same bytes as streams send, and compressed.
//!
//! Both are made once for each version, where they hold up no other request. The same goes for what all streams are sent when a
//! history is over.

use crate::http::blocking::blocking;
use crate::http::error::ApiError;
use crate::http::stream::channel::Channel;
use crate::http::stream::format::Format;
use crate::http::stream::format::Weight;
use crate::http::stream::hub::Streams;
use crate::model::change::Position;
use crate::snapshot::Environment;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::sync::Arc;

impl Streams {
    /// Renders everything that is served, if nobody has yet, so that streams which open find it.
    ///
    /// # Errors
    ///
    /// It cannot be rendered.
    pub(crate) async fn prepare(
        &self,
        environment: &Arc<Environment>,
        format: Format,
    ) -> Result<(Position, Bytes), ApiError> {
        let channel = self.channel(environment);
        if let Some(found) = channel.full_block(format) {
            return Ok(found);
        }
        let _only = channel.preparing(Weight::of(Some(format))).await;
        full_block(&channel, format).await
    }

    /// The JSON of everything that is served, compressed with gzip if that is wanted.
    ///
    /// # Errors
    ///
    /// It cannot be rendered.
    pub(crate) async fn document(
        &self,
        environment: &Arc<Environment>,
        format: Format,
        is_gzip: bool,
    ) -> Result<(Position, Bytes), ApiError> {
        let (at, block) = self.prepare(environment, format).await?;
        let json = format.json_of(&block);
        if !is_gzip {
            return Ok((at, json));
        }
        let channel = self.channel(environment);
        if let Some(found) = channel.compressed(format, at) {
            return Ok((at, found));
        }
        let _only = channel.preparing(Weight::of(Some(format))).await;
        if let Some(found) = channel.compressed(format, at) {
            return Ok((at, found));
        }
        let compressed = blocking(move || gzip(&json)).await??;
        channel.keep_compressed(format, at, compressed.clone());
        Ok((at, compressed))
    }

    /// The answer to a poll of one who is at `since`; `None` if nothing changed since.
    pub(crate) fn missed(
        &self,
        environment: &Arc<Environment>,
        format: Format,
        since: Position,
    ) -> Option<Bytes> {
        let block = self.channel(environment).block_since(format, Some(since), true);
        block.map(|(_, bytes)| bytes)
    }
}

/// Renders everything before it is announced where that is all that streams can be told: otherwise the first stream that wakes
/// would do it, and whatever else its thread serves would wait.
///
/// Streams of one weight are announced it when all formats of that weight are rendered, and never wait for the other.
pub(super) async fn prepare_announcement(channel: &Arc<Channel>, weight: Weight) {
    for format in channel.told_all(weight) {
        let _only = channel.preparing(weight).await;
        // If it fails, the first stream that wakes tries again.
        let _ = full_block(channel, format).await;
    }
}

async fn full_block(channel: &Arc<Channel>, format: Format) -> Result<(Position, Bytes), ApiError> {
    let channel = Arc::clone(channel);
    let rendered = blocking(move || channel.prepare(format)).await?;
    rendered.ok_or_else(ApiError::not_ready)
}

fn gzip(bytes: &[u8]) -> Result<Bytes, ApiError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.map(Bytes::from).map_err(|_| ApiError::internal())
}
