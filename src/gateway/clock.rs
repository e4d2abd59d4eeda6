//! The limits on waiting for an upstream, and the comments that fill its silence.
//!
//! One sleeper serves a whole request: it is set once and looked at again when it wakes, instead of being set anew for
//! every chunk. It sleeps on Pingora's timers (10 ms coarse): setting one of tokio's writes to a descriptor to wake the
//! driver whenever it is the earliest, which is a system call for most requests.

use pingora_error::ErrorType;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// The sleeper wakes after at most so long to look again. A timer nobody waits for any more stays in Pingora's list until
/// its time: this bounds the list.
const NAP_MAX: Duration = Duration::from_secs(10);

/// A wait that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOut {
    /// No answer began.
    Head,
    /// A stream began and has no content yet.
    Content,
    /// An answer began and then stopped.
    Silence,
    /// The request as a whole took too long.
    Total,
}

impl TimeOut {
    /// The error type that carries it through Pingora.
    pub fn error(self) -> ErrorType {
        ErrorType::Custom(self.name())
    }

    /// The word in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            TimeOut::Head => "timeout_head",
            TimeOut::Content => "timeout_ttft",
            TimeOut::Silence => "timeout_silence",
            TimeOut::Total => "timeout_total",
        }
    }

    /// The words for the client.
    pub fn words(self) -> &'static str {
        match self {
            TimeOut::Head => "the upstream did not begin its answer in time",
            TimeOut::Content => "the upstream did not send the first content of its stream in time",
            TimeOut::Silence => "the upstream stopped in the middle of its answer",
            TimeOut::Total => "the request took longer than its time limit",
        }
    }

    /// The time-out an error type carries.
    pub fn of(kind: &ErrorType) -> Option<TimeOut> {
        let ErrorType::Custom(name) = kind else { return None };
        [TimeOut::Head, TimeOut::Content, TimeOut::Silence, TimeOut::Total]
            .into_iter()
            .find(|kind| kind.name() == *name)
    }
}

/// What is waited for during one attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// When the answer's head must have come; none once it has.
    pub head: Option<Instant>,
    /// When the first content of a stream must have come; none once it has.
    pub content: Option<Instant>,
    /// When a held head goes out, content or not.
    pub release: Option<Instant>,
    /// When a second attempt begins beside this one.
    pub hedge: Option<Instant>,
    /// The longest silence between two reads of the answer.
    pub silence: Option<Duration>,
    /// When something of the answer was read of which the wrapper has seen nothing.
    pub heard: Option<Instant>,
    /// When the whole request must be over.
    pub total: Option<Instant>,
    /// What to send after so much silence on an open stream.
    pub comment: Option<(Duration, &'static [u8])>,
    /// No comment now: the client has only the beginning of a frame.
    pub within_frame: bool,
}

impl Clock {
    /// Notes that the upstream sent something.
    pub fn hear(&mut self) {
        self.heard = Some(Instant::now());
    }
}

/// What woke the wrapper.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A keep-alive comment is due.
    Comment(&'static [u8]),
    /// A head has been held for long enough.
    Release,
    /// A second attempt is due.
    Hedge,
    /// A wait is over.
    TimeOut(TimeOut),
}

/// A timer that has been set.
struct Nap {
    until: Instant,
    over: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Nap {
    fn until(at: Instant) -> Self {
        let now = Instant::now();
        let length = at.saturating_duration_since(now).min(NAP_MAX);
        Nap { until: now + length, over: Box::pin(pingora_timeout::sleep(length)) }
    }
}

/// Starts the thread that all timers share, which the first one set would do.
pub fn prepare() {
    drop(pingora_timeout::timeout(NAP_MAX, std::future::ready(())));
}

/// Waits for a future for at most `limit`, on the same timers; none when it is over.
///
/// The future comes pinned: by value it would lie in the caller's future twice, and be copied.
pub async fn within<T>(limit: Duration, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut left = limit;
    loop {
        let nap = left.min(NAP_MAX);
        if let Ok(done) = pingora_timeout::timeout(nap, &mut future).await {
            return Some(done);
        }
        left -= nap;
        if left.is_zero() {
            return None;
        }
    }
}

/// The sleeper of one request.
#[derive(Default)]
pub struct Alarm {
    nap: Option<Nap>,
    /// When the upstream last sent something.
    heard: Option<Instant>,
    /// When a comment last went out.
    commented: Option<Instant>,
}

impl Alarm {
    /// Notes that the upstream sent something.
    pub fn heard(&mut self) {
        self.heard = Some(Instant::now());
    }

    /// Notes that the upstream sent something at a time.
    pub fn heard_at(&mut self, at: Instant) {
        self.heard = Some(at);
    }

    /// Notes that a comment goes out.
    pub fn commented(&mut self) {
        self.commented = Some(Instant::now());
    }

    /// Whether something is due now.
    pub fn is_due(&self, clock: &Clock, streaming: bool) -> bool {
        self.next(clock, streaming).is_some_and(|(at, _)| at <= Instant::now())
    }

    /// Sleeps until something is due; for ever when nothing is waited for. Safe to drop and call again.
    pub async fn wait(&mut self, clock: &Clock, streaming: bool) -> Event {
        loop {
            let Some((at, event)) = self.next(clock, streaming) else { return std::future::pending().await };
            if at <= Instant::now() {
                return event;
            }
            self.sleep_until(at).await;
        }
    }

    /// Wakes at `at` or earlier: a timer already set for an earlier time is kept.
    async fn sleep_until(&mut self, at: Instant) {
        if self.nap.as_ref().is_none_or(|nap| nap.until > at) {
            self.nap = Some(Nap::until(at));
        }
        let Some(nap) = &mut self.nap else { return };
        nap.over.as_mut().await;
        self.nap = None;
    }

    fn next(&self, clock: &Clock, streaming: bool) -> Option<(Instant, Event)> {
        let heard = self.heard.max(clock.heard);
        let silence = clock.silence.zip(heard).map(|(limit, heard)| heard + limit);
        let comment = clock.comment.filter(|_| streaming && !clock.within_frame).and_then(|(every, bytes)| {
            let quiet_since = heard.max(self.commented)?;
            Some((quiet_since + every, Event::Comment(bytes)))
        });
        [
            clock.total.map(|at| (at, Event::TimeOut(TimeOut::Total))),
            clock.head.map(|at| (at, Event::TimeOut(TimeOut::Head))),
            clock.content.map(|at| (at, Event::TimeOut(TimeOut::Content))),
            clock.release.map(|at| (at, Event::Release)),
            clock.hedge.map(|at| (at, Event::Hedge)),
            silence.map(|at| (at, Event::TimeOut(TimeOut::Silence))),
            comment,
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    const TICK: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn nothing_to_wait_for_never_wakes() {
        let mut alarm = Alarm::default();
        let waited = tokio::time::timeout(Duration::from_secs(3600), alarm.wait(&Clock::default(), true)).await;
        assert!(waited.is_err());
    }

    #[tokio::test]
    async fn the_earliest_limit_wins() {
        let now = Instant::now();
        let clock = Clock { head: Some(now + TICK * 3), total: Some(now + TICK * 2), ..Clock::default() };
        let mut alarm = Alarm::default();
        assert_eq!(alarm.wait(&clock, false).await, Event::TimeOut(TimeOut::Total));
        assert!(now.elapsed() >= TICK * 2);
    }

    #[tokio::test]
    async fn comments_come_again_and_again_until_the_silence_limit() {
        let now = Instant::now();
        let clock = Clock { silence: Some(TICK * 25), comment: Some((TICK * 10, b":\n\n")), ..Clock::default() };
        let mut alarm = Alarm::default();
        alarm.heard();
        assert_eq!(alarm.wait(&clock, true).await, Event::Comment(b":\n\n"));
        alarm.commented();
        assert!(now.elapsed() >= TICK * 10);
        assert_eq!(alarm.wait(&clock, true).await, Event::Comment(b":\n\n"));
        alarm.commented();
        assert!(now.elapsed() >= TICK * 20);
        assert_eq!(alarm.wait(&clock, true).await, Event::TimeOut(TimeOut::Silence));
        assert!(now.elapsed() >= TICK * 25);
    }

    #[tokio::test]
    async fn a_read_moves_the_silence_limit_and_no_comment_precedes_the_head() {
        let clock = Clock { silence: Some(TICK * 5), comment: Some((TICK, b":\n\n")), ..Clock::default() };
        let mut alarm = Alarm::default();
        alarm.heard();
        let cut_short = tokio::time::timeout(TICK * 3, alarm.wait(&clock, false)).await;
        assert!(cut_short.is_err());
        alarm.heard();
        let now = Instant::now();
        assert_eq!(alarm.wait(&clock, false).await, Event::TimeOut(TimeOut::Silence));
        assert!(now.elapsed() >= TICK * 5);
    }

    #[tokio::test]
    async fn a_future_is_waited_for_within_its_limit_only() {
        assert_eq!(within(TICK, pin!(async { 7 })).await, Some(7));
        let now = Instant::now();
        assert_eq!(within(TICK * 2, pin!(std::future::pending::<()>())).await, None);
        assert!(now.elapsed() >= TICK * 2);
    }

    #[test]
    fn time_outs_survive_their_error_type() {
        for kind in [TimeOut::Head, TimeOut::Content, TimeOut::Silence, TimeOut::Total] {
            assert_eq!(TimeOut::of(&kind.error()), Some(kind));
        }
        assert_eq!(TimeOut::of(&ErrorType::ReadError), None);
    }
}
