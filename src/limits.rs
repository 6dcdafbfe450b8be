//! Every bound of the crate, with its unit and its reason.

use std::time::Duration;

use crate::error::Error;

/// Most threads or processes that are started together on one machine: a slip of the keyboard is not to fill it. Where threads
/// find no memory for their stacks the standard library ends the program.
pub(crate) const WORKERS_MAX: usize = 4_096;

/// Longest panic message that is kept, in bytes: enough for an assertion with its values, and a task that
/// panics with a megabyte cannot fill the result store.
pub const PANIC_TEXT_BYTES_MAX: usize = 8 * 1024;

/// Most tasks that are taken from a lane at once. At half a microsecond a task a batch holds the arbiter
/// for about a tenth of a millisecond, so control messages are answered in between.
pub(crate) const BATCH_TASKS_MAX: usize = 256;

/// How many items of a map are handed over together at most, where it is handed over as there is room: enough to keep
/// every engine busy.
pub(crate) const MAP_PORTION_TASKS: usize = 1_024;

/// Longest that anything is waited for, a hundred years: as good as for ever, and still a moment that a clock can tell, where
/// `Duration::MAX` from now is none.
#[cfg(feature = "remote")]
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// How often an idle engine has the scheduler look at those that have more than they can run at once, in
/// milliseconds. Longer than what is sent ahead should take, so that an engine that is silent for as long
/// works on something longer; short beside what is worth moving.
pub(crate) const RECALL_LOOK_MS: u64 = 2;

/// Bytes of a [`Blob`](crate::Blob) from which on it travels beside what is encoded, uncopied: below, copying costs less than
/// a piece of its own.
pub(crate) const BLOB_BYTES_MIN: usize = 16 << 10;

/// Longest arguments or value of one task that is encoded, in bytes; what is in blobs does not count.
pub(crate) const ENCODED_BYTES_MAX: usize = 8 << 20;

/// Bytes of several items from which on no more go together.
pub(crate) const ITEMS_BYTES_MAX: usize = 32 << 20;

/// Longest blob that travels, in bytes.
pub(crate) const BLOB_BYTES_MAX: usize = 1 << 30;

/// All blobs of one task that travel beside what is encoded, in bytes.
pub(crate) const BESIDE_BYTES_MAX: usize = 2 << 30;

/// Most blobs of one task that travel beside what is encoded.
pub(crate) const BLOBS_MAX: usize = 1_024;

/// How long a peer may take to say who it is, in milliseconds: what it has to do before, a program does in a few.
#[cfg(feature = "remote")]
pub(crate) const HANDSHAKE_MS_MAX: u64 = 10_000;

/// Functions that one client elsewhere may name: some are kept for as long as the program runs, and one client is not to use
/// up the room for that of all.
#[cfg(feature = "remote")]
pub(crate) const CLIENT_FUNCTIONS_MAX: usize = 2_000;

/// Engines in all the sets together that one client elsewhere aims at; 4 bytes each.
#[cfg(feature = "remote")]
pub(crate) const AIMED_ENGINES_MAX: usize = 4 << 20;

/// Engines that a controller may tell a client of: more than let themselves be reached, and few enough to be told again.
#[cfg(feature = "remote")]
pub(crate) const ENGINES_TOLD_MAX: usize = 1 << 16;

/// Longest label of a task that travels, in bytes: it is kept with the task's record.
#[cfg(feature = "remote")]
pub(crate) const LABEL_BYTES_MAX: usize = 4 << 10;

/// Longest reason for a cancel that travels, in bytes: each of the tasks gets it, and there may be a
/// million.
#[cfg(feature = "remote")]
pub(crate) const CANCEL_REASON_BYTES_MAX: usize = 1 << 10;

/// Questions of one client elsewhere that are not answered, and as many wishes that wait for calls; each is a few hundred
/// bytes, if it is no long cancel.
#[cfg(feature = "remote")]
pub(crate) const QUESTIONS_MAX: usize = 4_096;

/// How many of them may be where tasks are: an engine that stands still is waited for, and other questions are not to wait for it.
#[cfg(feature = "remote")]
pub(crate) const CLIENT_LOOKS_MAX: usize = QUESTIONS_MAX / 2;

/// What one client elsewhere wants done behind calls that have not come, in bytes: two cancels of a map in a million pieces.
#[cfg(feature = "remote")]
pub(crate) const BEHIND_BYTES_MAX: usize = 32 << 20;

/// Names that may be taken on one engine by what is pushed there: far more than a program names by hand, and
/// few enough that one that makes up names is told before it fills the memory.
pub const PUSHED_NAMES_MAX: usize = 4_096;

/// Engines that came or went and that a subscriber has not taken note of; then it is told how many it missed.
pub const ENGINE_EVENTS_MAX: usize = 1_024;

/// Actors that are told of engines that come and go.
pub(crate) const ENGINE_SUBSCRIBERS_MAX: usize = 1_024;

/// Most distinct sets of engines that tasks may aim at before unused ones are forgotten: each is a bitmap
/// of all engines.
pub(crate) const TARGET_SETS_MAX: usize = 1024;

/// Most queues of tasks that may run anywhere, beside the first: one for each client that has some, and for each function
/// where not every engine has all. They count among [`TARGET_SETS_MAX`], and leave most of it to views. A function that
/// finds no room is refused.
pub(crate) const OPEN_SETS_MAX: usize = 256;

/// Of these, how many there may be before no further client gets one for what others have a queue for: beyond it clients
/// share. Engines take from clients in turn, so more would not be served sooner; the rest is for functions.
pub(crate) const CLIENT_SETS_MAX: usize = 128;

/// Most items that a `map` submits ahead of what was read, unless its `buffersize` says otherwise: at a
/// microsecond a task a millisecond of work, so that the workers have something to do while the reader looks at
/// a result; and an input without end costs no more memory than this.
pub(crate) const MAP_AHEAD: usize = 1_024;

/// Most items of a `map` that are handed over together where no `chunksize` says otherwise, and for how long
/// they may be collected, in microseconds: a hand-over costs about as much as a tiny task, and the first item of
/// a slow input must not wait for the last.
pub(crate) const MAP_BATCH_MAX: usize = 128;
/// See [`MAP_BATCH_MAX`].
pub(crate) const MAP_BATCH_US_MAX: u64 = 100;

/// Questions where a task is that wait for the engine that has it; a further one is refused. An engine that stands still is waited
/// for until it counts as lost, some seconds; each question is 300 bytes meanwhile.
pub(crate) const LOOKS_MAX: usize = 16_384;

/// How long an idle callback thread stays, in milliseconds: long enough for a burst, short enough that an
/// idle program has no such threads.
pub(crate) const CALLBACK_THREAD_IDLE_MS: u64 = 2_000;

/// Checks how many threads or processes are to be started together.
///
/// # Errors
/// [`Error::Zero`] for none, [`Error::TooMany`] for more than [`WORKERS_MAX`], naming the setting.
pub(crate) fn check_workers(what: &'static str, n: usize) -> Result<(), Error> {
    match n {
        0 => Err(Error::Zero { what }),
        1..=WORKERS_MAX => Ok(()),
        asked => Err(Error::TooMany { what, asked, max: WORKERS_MAX }),
    }
}

/// The bounds of one cluster. Hitting one is an error to the caller, never memory.
///
/// ```
/// use callboard::{Limits, prelude::*};
/// # #[task] fn square(x: u64) -> u64 { x * x }
///
/// let mut limits = Limits::default();
/// limits.pending_tasks_max = 100;
/// let cluster = Cluster::threads(1).limits(limits).start()?;
/// let refused = cluster.client().load_balanced().map(square, 0..101).results()?;
/// assert!(matches!(refused[0], Err(TaskError::Overloaded { what: "tasks", limit: 100 })));
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Tasks accepted and not yet settled. At 370 bytes a task, a million is 370 MB.
    pub pending_tasks_max: usize,
    /// Bytes of arguments accepted and not yet settled, as [`size_hint`](crate::Task::size_hint) tells.
    pub pending_bytes_max: usize,
    /// Work sent ahead to one engine, in microseconds of expected run time: hides the latency of the way
    /// there without piling long tasks on one engine.
    pub engine_backlog_us: u64,
    /// Tasks sent to one engine and not yet returned. Bounds what an engine hands back when it stops.
    pub engine_outstanding_max: u32,
    /// Records of settled tasks kept for whoever asks; the oldest go first. 100 bytes each.
    pub records_max: usize,
    /// Bytes of kept values; the oldest fetched go first.
    pub kept_bytes_max: usize,
    /// What one task printed that is kept with its record, in bytes of each stream; the end of it.
    pub printed_bytes_max: usize,
    /// What all tasks printed that is kept with their records, in bytes; the oldest goes first.
    pub kept_printed_bytes_max: usize,
    /// How long a record is kept, in seconds.
    pub record_age_s_max: u64,
    /// Callbacks registered and not yet run.
    pub callbacks_pending_max: usize,
    /// Threads that run callbacks; more than a few would hide that callbacks block.
    pub callback_threads_max: usize,
    /// How long stopping waits for tasks that run, in milliseconds; then their engines are named and left.
    pub stop_wait_ms_max: u64,
    /// How often an engine process that died is launched again within `engine_restart_window_s`; then it is given up.
    pub engine_restarts_max: u32,
    /// See `engine_restarts_max`; in seconds.
    pub engine_restart_window_s: u64,
    /// Engines and clients elsewhere that are spoken with, or may come back; one more is refused. Each costs a descriptor, a
    /// buffer of 64 KiB and what TLS keeps: of 10 000 the buffers alone are 650 MB.
    pub sessions_max: usize,
    /// How long an idle thread looks for work before it sleeps, in microseconds. Waking a sleeping thread
    /// costs 30 us and more; looking costs the processor meanwhile. 0 sleeps at once.
    pub spin_us: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending_tasks_max: 1_000_000,
            pending_bytes_max: 1 << 30,
            engine_backlog_us: 500,
            engine_outstanding_max: 4_096,
            records_max: 100_000,
            kept_bytes_max: 256 << 20,
            printed_bytes_max: 64 << 10,
            kept_printed_bytes_max: 64 << 20,
            record_age_s_max: 3_600,
            callbacks_pending_max: 1_000_000,
            callback_threads_max: 8,
            stop_wait_ms_max: 5_000,
            engine_restarts_max: 5,
            engine_restart_window_s: 60,
            sessions_max: 10_000,
            spin_us: 50,
        }
    }
}

impl Limits {
    /// Checks that no bound forbids everything.
    ///
    /// # Errors
    /// [`Error::Zero`], naming the bound.
    pub fn check(&self) -> Result<(), Error> {
        let counts = [
            ("limits.pending_tasks_max", self.pending_tasks_max),
            ("limits.pending_bytes_max", self.pending_bytes_max),
            ("limits.engine_outstanding_max", self.engine_outstanding_max as usize),
            ("limits.callbacks_pending_max", self.callbacks_pending_max),
            ("limits.callback_threads_max", self.callback_threads_max),
            ("limits.sessions_max", self.sessions_max),
        ];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((what, _)) => Err(Error::Zero { what }),
            None => Ok(()),
        }
    }

    pub(crate) fn spin(&self) -> Duration {
        Duration::from_micros(self.spin_us)
    }

    /// Returns what is allowed of one engine process that dies.
    #[cfg(all(unix, feature = "remote"))]
    pub(crate) fn engine_restarts(&self) -> crate::process::Restarts {
        crate::process::Restarts::new(self.engine_restarts_max, Duration::from_secs(self.engine_restart_window_s))
    }

    pub(crate) fn stop_wait(&self) -> Duration {
        Duration::from_millis(self.stop_wait_ms_max)
    }
}
