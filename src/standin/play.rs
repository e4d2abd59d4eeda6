//! Plays one step to the peer, whatever the protocol: delays, head, pieces, and the way it ends.
//!
//! Knows no HTTP version: the bytes go to a [`Sink`]. Noticing that the peer left is the sink's business as well.

use std::future::Future;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::record::header;
use super::step::{End, Frame, Kind, Lie, Manner, Step};

/// Where an answer goes.
pub(super) trait Sink: Send {
    fn interim(&mut self, status: u16) -> impl Future<Output = io::Result<()>> + Send;
    /// May be held back until the first data, flush or pause.
    fn head(&mut self, head: Head) -> impl Future<Output = io::Result<()>> + Send;
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// Written and flushed at once; a chunk of its own where there are chunks.
    fn data(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    /// Announces more than it sends, where the protocol can.
    fn stub(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
    /// Waits, for ever without a duration; an error if the peer left meanwhile and the sink can tell.
    fn pause(&mut self, wait: Option<Duration>) -> impl Future<Output = io::Result<()>> + Send;
}

/// Status and headers of an answer; without a length the body is a stream.
pub(super) struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub length: Option<u64>,
}

/// What becomes of the connection after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Keep,
    Close,
    Cut,
    Reset,
}

pub(super) async fn play<S: Sink>(step: &Step, sink: &mut S, frames_sent: &AtomicUsize) -> io::Result<Ending> {
    let manner = &step.manner;
    for status in &manner.interim {
        sink.interim(*status).await?;
    }
    pause(sink, manner.delay_ms).await?;
    let end = match &step.kind {
        // Both are settled by whoever took the step; a stray one is silence.
        Kind::Auto | Kind::StopReading => return sink.pause(None).await.map(|()| Ending::Cut),
        Kind::Reset => return Ok(Ending::Reset),
        Kind::Close => return Ok(Ending::Cut),
        Kind::Hang => return sink.pause(manner.hang_ms.map(Duration::from_millis)).await.map(|()| Ending::Cut),
        Kind::Fixed { content_type, body } => fixed(content_type, body, manner, sink, frames_sent).await?,
        Kind::Sse(frames) => stream(frames, manner, sink, frames_sent).await?,
    };
    Ok(match end {
        Ending::Keep if manner.close => Ending::Close,
        end => end,
    })
}

async fn fixed<S: Sink>(
    content_type: &str,
    body: &[u8],
    manner: &Manner,
    sink: &mut S,
    frames_sent: &AtomicUsize,
) -> io::Result<Ending> {
    let packed = if manner.gzip { Some(pack(body)?) } else { None };
    let body = packed.as_deref().unwrap_or(body);
    let length = body.len() as u64;
    let announced = match manner.length {
        None => length,
        Some(Lie::Exactly(bytes)) => bytes,
        Some(Lie::Longer(by)) => length + by,
    };
    sink.head(head(content_type, manner, Some(announced))).await?;
    pause(sink, manner.body_delay_ms).await?;
    let whole = matches!(manner.end, None | Some(End::Done | End::Clean));
    let said = if whole { body } else { &body[..body.len() / 2] };
    for (index, piece) in said.chunks(manner.split.unwrap_or(usize::MAX)).enumerate() {
        if index > 0 {
            gap(sink, manner).await?;
        }
        sink.data(piece).await?;
    }
    frames_sent.fetch_add(1, Ordering::AcqRel);
    match manner.end.filter(|_| !whole) {
        None if announced == length => sink.finish().await.map(|()| Ending::Keep),
        end => broken(end.unwrap_or(End::Cut), sink).await,
    }
}

async fn stream<S: Sink>(
    frames: &[Frame],
    manner: &Manner,
    sink: &mut S,
    frames_sent: &AtomicUsize,
) -> io::Result<Ending> {
    sink.head(head("text/event-stream", manner, None)).await?;
    sink.flush().await?;
    pause(sink, manner.body_delay_ms).await?;
    let eol = manner.eol.as_deref().unwrap_or("\n");
    let mut packer = manner.gzip.then(|| GzEncoder::new(Vec::new(), Compression::default()));
    for (index, frame) in frames.iter().enumerate() {
        if let Frame::Pause(wait_ms) = frame {
            pause(sink, Some(*wait_ms)).await?;
            continue;
        }
        if index > 0 {
            gap(sink, manner).await?;
        }
        put(spelt(frame, eol), manner, sink, packer.as_mut()).await?;
        frames_sent.fetch_add(1, Ordering::AcqRel);
    }
    let end = manner.end.unwrap_or(End::Done);
    if end == End::Done {
        put(format!("data: [DONE]{eol}{eol}").into_bytes(), manner, sink, packer.as_mut()).await?;
    }
    if matches!(end, End::Cut | End::Reset | End::Stall | End::TruncatedChunk) {
        return broken(end, sink).await;
    }
    if let Some(packer) = packer {
        sink.data(&packer.finish()?).await?;
    }
    sink.finish().await.map(|()| Ending::Keep)
}

/// What is left to do for an answer that does not end as HTTP wants it.
async fn broken<S: Sink>(end: End, sink: &mut S) -> io::Result<Ending> {
    sink.flush().await?;
    match end {
        End::Reset => return Ok(Ending::Reset),
        End::Stall => sink.pause(None).await?,
        End::TruncatedChunk => sink.stub().await?,
        End::Done | End::Clean | End::Cut => {}
    }
    Ok(Ending::Cut)
}

async fn put<S: Sink>(
    bytes: Vec<u8>,
    manner: &Manner,
    sink: &mut S,
    packer: Option<&mut GzEncoder<Vec<u8>>>,
) -> io::Result<()> {
    let bytes = match packer {
        None => bytes,
        Some(packer) => {
            packer.write_all(&bytes)?;
            packer.flush()?;
            std::mem::take(packer.get_mut())
        }
    };
    for piece in bytes.chunks(manner.split.unwrap_or(usize::MAX)) {
        sink.data(piece).await?;
        if manner.split.is_some() {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

fn head(content_type: &str, manner: &Manner, length: Option<u64>) -> Head {
    let mut headers = Vec::with_capacity(manner.headers.len() + 3);
    let mut add = |name: &str, value: &str| {
        if header(&manner.headers, name).is_none() {
            headers.push((name.to_owned(), value.to_owned()));
        }
    };
    add("content-type", content_type);
    add("x-request-id", &format!("req_{:016x}", fastrand::u64(..)));
    if manner.gzip {
        add("content-encoding", "gzip");
    }
    headers.extend(manner.headers.iter().cloned());
    Head { status: manner.status.unwrap_or(200), headers, length }
}

fn spelt(frame: &Frame, eol: &str) -> Vec<u8> {
    match frame {
        Frame::Json(value) => format!("data: {value}{eol}{eol}").into_bytes(),
        Frame::Text(text) => text.clone().into_bytes(),
        Frame::Bytes(bytes) => bytes.clone(),
        Frame::Pause(_) => Vec::new(),
    }
}

fn pack(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(body)?;
    packer.finish()
}

async fn gap<S: Sink>(sink: &mut S, manner: &Manner) -> io::Result<()> {
    let gap_ms = manner.gap_ms.map(|ms| if manner.uneven { uneven(ms) } else { ms });
    pause(sink, gap_ms).await
}

async fn pause<S: Sink>(sink: &mut S, wait_ms: Option<u64>) -> io::Result<()> {
    match wait_ms {
        None | Some(0) => Ok(()),
        Some(ms) => sink.pause(Some(Duration::from_millis(ms))).await,
    }
}

/// This many milliseconds, give or take a third.
pub(super) fn uneven(ms: u64) -> u64 {
    let third = ms / 3;
    ms - third + fastrand::u64(0..=2 * third)
}
