//! What runs on a host for one session: a thread that carries out what the controller says, in order, and looks after what it has
//! started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::cache::Cache;
use super::program::ProgramHash;
use crate::launchers::{JobOutput, JobState, LaunchedJob, ProcessJob, Start};
use crate::net::ConnectionFile;
use crate::wire::frame::Lane;
use crate::wire::hosts::{FromHost, ToHost};
use crate::wire::protocol::encode;
use crate::wire::session::{Credit, Speaker};

/// What is to be done.
pub(super) enum Order {
    /// What the controller said, with the buffer that came with it.
    Said(ToHost, Option<Bytes>, Credit),
    /// Start nothing any more, and have all leave.
    Leave,
}

/// How often one looks at what runs.
const LOOK: Duration = Duration::from_millis(50);

/// How often what one has printed is told.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// How many bytes may wait to be said before nothing more is told of what is printed.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How long what runs has to leave when the session has ended: nobody waits for it.
const LEAVE: Duration = Duration::from_secs(2);

/// The engines that run for one session.
pub(super) struct Jobs {
    cache: Arc<Mutex<Cache>>,
    file: ConnectionFile,
    speaker: Speaker,
    allows_programs: bool,
    /// The last program that was not kept, and why.
    refused: Option<(ProgramHash, String)>,
    running: BTreeMap<(u64, u32), Job>,
    is_leaving: bool,
}

/// An engine that runs, or has ended a moment ago.
struct Job {
    process: ProcessJob,
    program: ProgramHash,
    folder: PathBuf,
    told: JobOutput,
    told_at: Instant,
}

impl Jobs {
    pub(super) fn new(cache: Arc<Mutex<Cache>>, file: ConnectionFile, speaker: Speaker, allows_programs: bool) -> Self {
        Self { cache, file, speaker, allows_programs, refused: None, running: BTreeMap::new(), is_leaving: false }
    }

    /// Carries out what is ordered, until nobody orders anything any more; then ends what is left.
    pub(super) fn carry_out(mut self, orders: &Receiver<Order>) {
        loop {
            let order = if self.running.is_empty() {
                orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                orders.recv_timeout(LOOK)
            };
            match order {
                Ok(Order::Said(said, program, credit)) => {
                    self.on_said(said, program);
                    drop(credit);
                }
                Ok(Order::Leave) => {
                    self.is_leaving = true;
                    self.running.values().for_each(|job| job.process.leave());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
            self.look();
            if self.is_leaving && self.running.is_empty() {
                self.speaker.close(LEFT);
            }
        }
    }

    fn say(&self, what: &FromHost) {
        self.speaker.say_or_end(Lane::Bulk, encode(what, Vec::new()));
    }

    fn on_said(&mut self, said: ToHost, program: Option<Bytes>) {
        match said {
            ToHost::Keep { .. } if !self.allows_programs => {}
            ToHost::Keep { hash, name } => {
                let mut gone = Vec::new();
                let kept = self.cache.lock().keep(hash, &name, &program.unwrap_or_default(), &mut gone);
                gone.into_iter().for_each(|hash| self.say(&FromHost::Lacks(hash)));
                match kept {
                    Ok(()) => {
                        tracing::info!(program = %hash, %name, "a program has come");
                        self.refused.take_if(|(refused, _)| *refused == hash);
                        self.say(&FromHost::Has(hash));
                    }
                    Err(problem) => {
                        tracing::warn!(program = %hash, %name, problem, "a program was not kept");
                        self.refused = Some((hash, problem));
                    }
                }
            }
            ToHost::Start { launch, job, program, args } => {
                if let Err(problem) = self.start(launch, job, program, args) {
                    tracing::warn!(%program, problem, "a program was not started");
                    let cause = problem.into();
                    self.say(&FromHost::Ended { launch, job, cause, has_died: true });
                }
            }
            ToHost::Leave(launch, job) => self.of(launch, job).for_each(|job| job.process.leave()),
            ToHost::Kill(launch, job) => self.of(launch, job).for_each(|job| job.process.kill()),
        }
    }

    fn of(&self, launch: u64, job: u32) -> impl Iterator<Item = &Job> {
        self.running.get(&(launch, job)).into_iter()
    }

    fn start(&mut self, launch: u64, job: u32, program: ProgramHash, args: Vec<Vec<u8>>) -> Result<(), String> {
        if !self.allows_programs {
            return Err(ALLOWS_NONE.into());
        }
        if self.is_leaving {
            return Err("the host leaves".into());
        }
        if let Some((_, problem)) = self.refused.as_ref().filter(|(hash, _)| *hash == program) {
            let problem = problem.clone();
            self.say(&FromHost::Lacks(program));
            return Err(problem);
        }
        if self.running.contains_key(&(launch, job)) {
            return Err("it runs already".into());
        }
        let begun = self.cache.lock().begin(program);
        let path = begun.inspect_err(|_| self.say(&FromHost::Lacks(program)))?;
        let started = self.start_at(path, launch, job, args);
        match started {
            Ok((process, folder)) => {
                tracing::info!(%program, launch = format_args!("{launch:016x}"), job, "a program runs as an engine");
                let (told, told_at) = (JobOutput::default(), Instant::now());
                self.running.insert((launch, job), Job { process, program, folder, told, told_at });
                Ok(())
            }
            Err(problem) => {
                self.cache.lock().on_ended(program);
                Err(problem)
            }
        }
    }

    fn start_at(
        &self,
        path: PathBuf,
        launch: u64,
        job: u32,
        args: Vec<Vec<u8>>,
    ) -> Result<(ProcessJob, PathBuf), String> {
        let name = format!("{launch:016x}-{job}");
        let folder = self.cache.lock().run_folder(&name);
        let folder = folder.map_err(|error| format!("no folder for it can be made: {error}"))?;
        let argv: Vec<_> =
            [path.into_os_string()].into_iter().chain(args.into_iter().map(OsString::from_vec)).collect();
        let text = self.file.for_launch(launch, true).text();
        let text = text.map_err(|error| format!("its connection file cannot be written: {error}"))?;
        let start = Start { name, argv, folder: Some(folder.clone()), stdin: Some(text), engines: 1, hints: HINTS };
        match ProcessJob::start(start) {
            Ok(process) => Ok((process, folder)),
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                Err(error.to_string())
            }
        }
    }

    /// Tells what has been printed and what has ended.
    fn look(&mut self) {
        let mut over = Vec::new();
        for (&(launch, number), job) in &mut self.running {
            let state = job.process.state();
            let is_time = job.told_at.elapsed() >= TOLD_EVERY && self.speaker.waiting(Lane::Bulk) < WAITING_BYTES_MAX;
            if is_time || state.is_ended() {
                job.told_at = Instant::now();
                let output = job.process.output();
                if output != job.told {
                    let (stdout, stderr) = (output.stdout.as_str().into(), output.stderr.as_str().into());
                    job.told = output;
                    let printed = FromHost::Printed { launch, job: number, stdout, stderr };
                    self.speaker.say_or_end(Lane::Bulk, encode(&printed, Vec::new()));
                }
            }
            if let JobState::Ended { cause } = state {
                tracing::info!(launch = format_args!("{launch:016x}"), job = number, %cause, "an engine has ended");
                over.push((launch, number));
                let ended =
                    FromHost::Ended { launch, job: number, cause, has_died: job.process.has_died() == Some(true) };
                self.speaker.say_or_end(Lane::Bulk, encode(&ended, Vec::new()));
            }
        }
        over.iter().for_each(|key| self.forget(key));
    }

    fn forget(&mut self, key: &(u64, u32)) {
        let Some(Job { process, program, folder, .. }) = self.running.remove(key) else { return };
        // First the process, which runs in the folder.
        drop(process);
        let _ = fs::remove_dir_all(&folder);
        self.cache.lock().on_ended(program);
    }

    /// The session is over, and its engines are nobody's.
    fn end(mut self) {
        self.running.values().for_each(|job| job.process.leave());
        let by = Instant::now() + LEAVE;
        while Instant::now() < by && self.running.values().any(|job| !job.process.state().is_ended()) {
            std::thread::sleep(LOOK);
        }
        let left: Vec<_> = self.running.keys().copied().collect();
        left.iter().for_each(|key| self.forget(key));
    }
}

/// What is said of a host that runs no programs.
pub(super) const ALLOWS_NONE: &str = "it runs no programs that are shipped; start it with --allow-programs";

/// Why the session of a host ends that was told to leave.
const LEFT: &str = "the host was told to leave";

/// What some codes mean with which a program ends.
const HINTS: &[(i32, &str)] =
    &[(2, "a program is shipped that is its own engines: its main calls callboard::init() first")];
