//! Reading the bodies of events: plain or compressed, within limits on size, time and memory.
//!
//! The limit counts what comes out, so that a few compressed bytes cannot become gigabytes: what is beyond it is never
//! unpacked. How other bodies are read is in `http/json_body.rs`.

use crate::events::Events;
use crate::http::error::ApiError;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use std::io;
use std::io::Write;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of a body after it is unpacked; an SDK that holds 10,000 events sends 3 to 5 MB.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes as they are sent that are read and thrown away beyond the limit, so that the client gets to read the refusal.
const DRAINED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes whose reading takes so long that others are served by another thread meanwhile.
pub(super) const LONG_BYTES: usize = 16 * 1024;
/// By how much the leave to keep bodies in memory is extended.
const STEP_KIB: u32 = 64;

/// A body that was read, and the leave to keep it in memory.
pub(super) struct Collected {
    pub(super) bytes: Vec<u8>,
    _leave: Option<OwnedSemaphorePermit>,
}

/// Reads a body to its end and unpacks it.
///
/// # Errors
///
/// 413 if it is too large, 415 if it is packed in another way than gzip, 400 if it is cut off or not what it says, 408 if it
/// takes too long, 503 if too many are being read.
pub(super) async fn collect(
    headers: &HeaderMap,
    body: Body,
    events: &Events,
) -> Result<Collected, ApiError> {
    let unpacked = Unpacked { bytes: Vec::new(), leave: None, events, refusal: None };
    let unpacker = match encoding(headers)? {
        Encoding::Identity => Unpacker::Plain(unpacked),
        Encoding::Gzip => Unpacker::Gzip(Box::new(MultiGzDecoder::new(unpacked))),
    };
    match tokio::time::timeout(BODY_TIMEOUT, unpack(body, unpacker)).await {
        Ok(result) => result,
        Err(_) => {
            let detail = "the body did not arrive in time";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Encoding {
    Identity,
    Gzip,
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let value = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    let name = value.unwrap_or_default().trim();
    if name.is_empty() || name.eq_ignore_ascii_case("identity") {
        return Ok(Encoding::Identity);
    }
    if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
        return Ok(Encoding::Gzip);
    }
    let detail = "the Content-Encoding must be gzip or none";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail))
}

/// Takes bytes as they are sent.
enum Unpacker<'e> {
    Plain(Unpacked<'e>),
    Gzip(Box<MultiGzDecoder<Unpacked<'e>>>),
}

impl<'e> Unpacker<'e> {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(unpacked) => unpacked.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    fn unpacked(&mut self) -> &mut Unpacked<'e> {
        match self {
            Self::Plain(unpacked) => unpacked,
            Self::Gzip(decoder) => decoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Unpacked<'e>> {
        match self {
            Self::Plain(unpacked) => Ok(unpacked),
            Self::Gzip(decoder) => decoder.finish(),
        }
    }
}

/// Why no more is unpacked.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    TooLarge,
    Busy,
}

/// What came out so far.
struct Unpacked<'e> {
    bytes: Vec<u8>,
    leave: Option<OwnedSemaphorePermit>,
    events: &'e Events,
    refusal: Option<Refusal>,
}

impl Unpacked<'_> {
    /// Gets leave to keep so many bytes in all.
    fn has_leave(&mut self, n_bytes: usize) -> bool {
        let held = |leave: &OwnedSemaphorePermit| leave.num_permits() * 1024;
        while self.leave.as_ref().map_or(0, held) < n_bytes {
            let Some(more) = self.events.try_reading(STEP_KIB) else { return false };
            match &mut self.leave {
                Some(leave) => leave.merge(more),
                None => self.leave = Some(more),
            }
        }
        true
    }
}

impl Write for Unpacked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n_bytes = self.bytes.len().saturating_add(bytes.len());
        let refusal = if n_bytes > BODY_BYTES_MAX {
            Some(Refusal::TooLarge)
        } else if !self.has_leave(n_bytes) {
            Some(Refusal::Busy)
        } else {
            None
        };
        if refusal.is_some() {
            self.refusal = refusal;
            self.bytes = Vec::new();
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn unpack(mut body: Body, mut unpacker: Unpacker<'_>) -> Result<Collected, ApiError> {
    let broken =
        || ApiError::bad_request("body_broken", "the body did not arrive whole, or is not gzip");
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| broken())?.into_data() else { continue };
        // Unpacking takes its time, during which this thread serves nobody else.
        let pushed = match data.len() {
            n if n > LONG_BYTES => tokio::task::block_in_place(|| unpacker.push(&data)),
            _ => unpacker.push(&data),
        };
        if pushed.is_err() {
            let refusal = unpacker.unpacked().refusal;
            drain(body).await;
            return Err(refusal.map_or_else(broken, refused));
        }
    }
    let unpacked = unpacker.finish().map_err(|_| broken())?;
    if let Some(refusal) = unpacked.refusal {
        return Err(refused(refusal));
    }
    Ok(Collected { bytes: unpacked.bytes, _leave: unpacked.leave })
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::TooLarge => {
            let detail = format!("the body must be at most {BODY_BYTES_MAX} bytes when unpacked");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        }
        Refusal::Busy => {
            ApiError::unavailable("events_busy", "too many events are being read; try again")
        }
    }
}

/// Reads on for a while: most clients only read the answer when they have sent everything.
async fn drain(mut body: Body) {
    let mut n_bytes = 0_usize;
    while let Some(Ok(frame)) = body.frame().await {
        n_bytes = n_bytes.saturating_add(frame.data_ref().map_or(0, |data| data.len()));
        if n_bytes > DRAINED_BYTES_MAX {
            break;
        }
    }
}
