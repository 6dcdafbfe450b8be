//! What a thread pool is to be like, and its start.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{Shared, ThreadPoolExecutor};
use crate::admission::Admission;
use crate::catch::user_code;
use crate::error::Error;
use crate::executors::InFlight;
use crate::limits::{Limits, check_workers};
use crate::task::TaskFailure;

/// What a [`ThreadPoolExecutor`] is to be like; [`start`](ThreadPoolBuilder::start) makes it.
#[derive(Clone, Debug)]
#[must_use = "the threads start with .start()"]
pub struct ThreadPoolBuilder {
    workers: usize,
    thread_name: String,
    stack_size: Option<usize>,
    initializer: Option<Initializer>,
    limits: Limits,
}

/// What the system refuses where it does.
const STARTING: &str = "starting a thread pool";

/// What each thread runs first; a clone for each.
type Initialize = dyn Fn() -> Result<(), TaskFailure> + Send + Sync;

#[derive(Clone)]
struct Initializer(Arc<Initialize>);

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Initializer>")
    }
}

impl ThreadPoolBuilder {
    pub(super) fn of(workers: usize) -> Self {
        let (thread_name, limits) = ("cb-pool".into(), Limits::default());
        Self { workers, thread_name, stack_size: None, initializer: None, limits }
    }

    /// Sets what the threads are called: `name-0`, `name-1`, ..
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Sets the size of each thread's stack, in bytes.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets what each thread runs before anything else. [`start`](Self::start) waits for all of them, and is refused if one fails or
    /// panics.
    ///
    /// ```
    /// use callboard::{ThreadPoolExecutor, prelude::*};
    /// use std::cell::Cell;
    ///
    /// thread_local!(static SEED: Cell<u64> = const { Cell::new(0) });
    ///
    /// #[task]
    /// fn seed() -> u64 { SEED.get() }
    ///
    /// let ex = ThreadPoolExecutor::builder(2).initializer(|| Ok(SEED.set(42))).start()?;
    /// assert_eq!(ex.submit(seed()).get()?, 42);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn initializer(mut self, initialize: impl Fn() -> Result<(), TaskFailure> + Send + Sync + 'static) -> Self {
        self.initializer = Some(Initializer(Arc::new(initialize)));
        self
    }

    /// Sets how much may be pending; the other limits are a cluster's.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Zero`] for no threads or a limit of zero, [`Error::TooMany`] for more than 4096 threads, [`Error::System`] if there
    /// is no thread to be had or none can be called so, [`Error::EngineFailed`] if an initializer failed: then no thread is left.
    pub fn start(self) -> Result<ThreadPoolExecutor, Error> {
        check_workers("the number of threads", self.workers)?;
        self.limits.check()?;
        if self.thread_name.contains('\0') {
            let reason = format!("no thread can be called {:?}: there is a zero in it", self.thread_name);
            return Err(Error::System { doing: STARTING, reason });
        }
        let (pool, threads) = self.spawn()?;
        let shared = Shared {
            pool: RwLock::new(Some(pool)),
            in_flight: InFlight::new(),
            admission: Arc::new(Admission::new(&self.limits)),
            threads: Mutex::new(Some(threads)),
            is_over: watch::Sender::new(false),
        };
        let (pending_max, pending_bytes_max) = (self.limits.pending_tasks_max, self.limits.pending_bytes_max);
        let workers = self.workers;
        Ok(ThreadPoolExecutor { shared: Arc::new(shared), workers, pending_max, pending_bytes_max })
    }

    /// Starts the threads, and waits for their initializers.
    fn spawn(&self) -> Result<(rayon::ThreadPool, Vec<JoinHandle<()>>), Error> {
        let mut threads = Vec::with_capacity(self.workers);
        let (tell, told) = mpsc::channel();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.workers)
            .spawn_handler(|thread| {
                let name = format!("{}-{}", self.thread_name, thread.index());
                let mut builder = std::thread::Builder::new().name(name);
                if let Some(bytes) = self.stack_size {
                    builder = builder.stack_size(bytes);
                }
                let (first, tell) = (self.initializer.clone(), tell.clone());
                threads.push(builder.spawn(move || {
                    let began = first.map_or(Ok(()), |first| first.run());
                    let has_begun = began.is_ok();
                    // Nobody listens where another thread could not be started.
                    let _ = tell.send(began);
                    if has_begun {
                        thread.run();
                    }
                })?);
                Ok(())
            })
            .build()
            .map_err(|error| Error::System { doing: STARTING, reason: error.to_string() })?;
        // Threads are waited for only where there is something to hear.
        let waited_for = if self.initializer.is_some() { self.workers } else { 0 };
        let begun: Result<(), Box<str>> = told.iter().take(waited_for).collect();
        if let Err(cause) = begun {
            drop(pool);
            threads.into_iter().for_each(|thread| drop(thread.join()));
            return Err(Error::EngineFailed { cause });
        }
        Ok((pool, threads))
    }
}

impl Initializer {
    fn run(&self) -> Result<(), Box<str>> {
        match user_code(|| (self.0)()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(format!("its initializer failed: {}", failure.into_text()).into()),
            Err(message) => Err(format!("its initializer panicked: {message}").into()),
        }
    }
}
