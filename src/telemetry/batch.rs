//! Lines written together: a request hands its line over and goes on, a thread writes what has gathered.
//!
//! A system call for each request's line is a good part of what a request costs, and a reader of the log that falls
//! behind (a full pipe, a slow disk) would make requests wait. What is gathered is bounded: beyond that, lines are lost
//! and counted.

use jiff::Timestamp;
use log::{Level, Record};
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long lines gather before they are written.
pub const GATHER: Duration = Duration::from_millis(50);

/// Lines are lost while so many bytes wait to be written.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// So much room is kept for the next lines.
const ROOM_BYTES: usize = 16 * 1024;

/// The lines waiting for one sink; clones share them.
#[derive(Clone)]
pub struct Batch(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    /// Locked before `waiting` is emptied, so that lines leave in their order.
    sink: Mutex<Box<dyn Write + Send>>,
}

#[derive(Default)]
struct Waiting {
    lines: String,
    /// Room for the next lines while these are written.
    room: String,
    lost: u64,
    /// The second that `stamp` shows.
    second: i64,
    stamp: String,
}

impl Batch {
    /// Lines for `sink`, and the thread that writes them.
    pub fn new(sink: Box<dyn Write + Send>) -> Self {
        let waiting = Mutex::new(Waiting { stamp: stamp(Timestamp::UNIX_EPOCH), ..Waiting::default() });
        let shared = Arc::new(Shared { waiting, arrived: Condvar::new(), sink: Mutex::new(sink) });
        let writing = Arc::clone(&shared);
        // Without a thread the lines wait for `flush`, and are lost beyond the limit; requests go on.
        let _ = std::thread::Builder::new().name("nanogate-log".into()).spawn(move || writing.write_on());
        Batch(shared)
    }

    /// Adds a line in the form of the other log lines. Does not wait for the sink.
    pub fn add(&self, record: &Record<'_>) {
        let now = Timestamp::now();
        let mut waiting = lock(&self.0.waiting);
        if waiting.lines.len() >= WAITING_BYTES_MAX {
            waiting.lost += 1;
            return;
        }
        if waiting.second != now.as_second() {
            waiting.second = now.as_second();
            // In its place: a new one would stay wherever a busy minute leaves it, and keep the memory around it.
            waiting.stamp.clear();
            let _ = write!(waiting.stamp, "{}", whole_second(now));
        }
        let first = waiting.lines.is_empty();
        let Waiting { lines, stamp, .. } = &mut *waiting;
        head(lines, stamp, record.level(), record.target());
        let _ = lines.write_fmt(*record.args());
        lines.push('\n');
        // First: a thread that woke to find it locked would sleep again.
        drop(waiting);
        if first {
            self.0.arrived.notify_one();
        }
    }

    /// Writes what is waiting, now.
    pub fn flush(&self) {
        self.0.write();
    }
}

impl Shared {
    fn write_on(&self) {
        loop {
            let waiting = lock(&self.waiting);
            drop(self.arrived.wait_while(waiting, |waiting| waiting.lines.is_empty()));
            #[expect(clippy::disallowed_methods, reason = "a thread of its own")]
            std::thread::sleep(GATHER);
            self.write();
        }
    }

    fn write(&self) {
        let mut sink = lock(&self.sink);
        let (mut lines, lost) = {
            let mut waiting = lock(&self.waiting);
            let room = std::mem::take(&mut waiting.room);
            (std::mem::replace(&mut waiting.lines, room), std::mem::take(&mut waiting.lost))
        };
        if lost > 0 {
            head(&mut lines, &stamp(Timestamp::now()), Level::Warn, module_path!());
            let _ = writeln!(lines, "{lost} access lines lost: the log is read too slowly");
        }
        // Where the log cannot be written there is no place to say so.
        let _ = sink.write_all(lines.as_bytes()).and_then(|()| sink.flush());
        lines.clear();
        lines.shrink_to(ROOM_BYTES);
        lock(&self.waiting).room = lines;
    }
}

fn head(lines: &mut String, stamp: &str, level: Level, target: &str) {
    lines.push('[');
    lines.push_str(stamp);
    lines.push_str(match level {
        Level::Error => " ERROR ",
        Level::Warn => " WARN  ",
        Level::Info => " INFO  ",
        Level::Debug => " DEBUG ",
        Level::Trace => " TRACE ",
    });
    lines.push_str(target);
    lines.push_str("] ");
}

fn stamp(at: Timestamp) -> String {
    whole_second(at).to_string()
}

fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// A sink that shows each write, and blocks until it is looked at.
    struct Seen(SyncSender<String>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).map_err(std::io::Error::other)?;
            self.0.send(text).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn batch() -> (Batch, Receiver<String>) {
        let (sender, receiver) = sync_channel(0);
        (Batch::new(Box::new(Seen(sender))), receiver)
    }

    fn add(batch: &Batch, text: &str) {
        batch
            .add(&Record::builder().level(Level::Info).target("nanogate::access").args(format_args!("{text}")).build());
    }

    #[test]
    fn lines_leave_together_in_order_and_in_the_form_of_the_log() {
        let (batch, seen) = batch();
        add(&batch, "one");
        add(&batch, "two");
        let written = seen.recv_timeout(Duration::from_secs(10)).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines.len(), 2, "{written}");
        assert!(lines[0].starts_with("[20") && lines[0].ends_with("Z INFO  nanogate::access] one"), "{written}");
        assert!(lines[1].ends_with("] two") && written.ends_with('\n'), "{written}");
        add(&batch, "three");
        assert!(seen.recv_timeout(Duration::from_secs(10)).unwrap().ends_with("] three\n"));
    }

    #[test]
    fn a_sink_nobody_reads_costs_lines_and_no_waiting() {
        let (batch, seen) = batch();
        let text = "x".repeat(WAITING_BYTES_MAX);
        for _ in 0..10 {
            add(&batch, &text);
        }
        let mut kept = 0;
        let mut lost = 0;
        while kept + lost < 10 {
            let written = seen.recv_timeout(Duration::from_secs(10)).unwrap();
            kept += written.lines().filter(|line| line.ends_with('x')).count();
            let words = written
                .lines()
                .last()
                .and_then(|line| line.strip_suffix(" access lines lost: the log is read too slowly"));
            lost += words.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).unwrap_or(0);
        }
        assert!(kept >= 1 && lost >= 1, "{kept} {lost}");
    }
}
