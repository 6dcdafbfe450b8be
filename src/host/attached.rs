//! A host as the controller knows it: what it is, what it has, and what runs there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

use actix::prelude::*;
use bytes::Bytes;
use parking_lot::Mutex;

use super::hosts::Hosts;
use super::jobs::ALLOWS_NONE;
use super::program::{Program, ProgramHash};
use crate::catch::shortened;
use crate::error::Error;
use crate::launchers::{JobOutput, JobState, KEPT_BYTES_MAX, LaunchedJob};
use crate::remote::Said;
use crate::wire::frame::Lane;
use crate::wire::hosts::{Description, FromHost, ToHost};
use crate::wire::protocol::{decode, encode};
use crate::wire::session::Speaker;

/// A host that is there.
pub(crate) struct Attached {
    speaker: Speaker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` until it has said what it is.
    description: Option<Description>,
    programs: BTreeSet<ProgramHash>,
    /// When a connection to it was lost last.
    lost: Option<Instant>,
    /// It does not come back.
    is_gone: bool,
    /// What runs there: of which launch, and which of it.
    jobs: BTreeMap<(u64, u32), Arc<Mutex<Told>>>,
}

/// What is known of one that was started.
#[derive(Default)]
struct Told {
    output: JobOutput,
    ended: Option<Ended>,
}

/// How one ended.
struct Ended {
    cause: Box<str>,
    has_died: bool,
}

/// What is started on hosts: a program, so often.
#[derive(Clone, Debug)]
pub(crate) struct Shipment {
    /// The launch, whose number the engines tell.
    pub(crate) launch: u64,
    pub(crate) program: Program,
    pub(crate) args: Vec<Vec<u8>>,
}

/// Programs of a host that are remembered. It says more only if it lies.
const PROGRAMS_MAX: usize = 10_000;

/// Longest word on how something ended, in bytes.
const CAUSE_BYTES_MAX: usize = 4 << 10;

impl Attached {
    pub(crate) fn new(speaker: Speaker) -> Self {
        Self { speaker, state: Mutex::default() }
    }

    fn say(&self, what: &ToHost, buffers: Vec<Bytes>) {
        self.speaker.say_or_end(Lane::Bulk, encode(what, buffers));
    }

    /// Returns what it is called; `None` if it has not said it.
    pub(super) fn name(&self) -> Option<Box<str>> {
        self.state.lock().description.as_ref().map(|description| description.name.clone())
    }

    /// Returns how many engines more it may run of a program, or why none.
    pub(super) fn room_for(&self, program: &Program) -> Result<usize, String> {
        let state = self.state.lock();
        let Some(Description { machine, engines_max, allows_programs, .. }) = &state.description else { return Ok(0) };
        if !allows_programs {
            return Err(ALLOWS_NONE.into());
        }
        // Heard since, it is back.
        if state.lost.is_some_and(|lost| self.speaker.silence() >= lost.elapsed()) {
            return Err("the connection to it is lost".into());
        }
        match machine.lacks(&program.needs) {
            Some(lack) => Err(lack),
            None => Ok((*engines_max as usize).saturating_sub(state.jobs.len())),
        }
    }

    pub(super) fn has(&self, program: ProgramHash) -> bool {
        self.state.lock().programs.contains(&program)
    }

    /// Ships a program, which it may not have.
    pub(super) fn ship(&self, program: &Program, bytes: Bytes) {
        self.say(&ToHost::Keep { hash: program.hash, name: program.name.clone() }, vec![bytes]);
        // What comes behind finds it there, or is told why not.
        self.state.lock().programs.insert(program.hash);
    }

    /// Starts one engine of a shipment, of which it has the program; if it dies, one of these hosts may start it again.
    pub(super) fn start(self: &Arc<Self>, shipment: &Arc<Shipment>, job: u32, hosts: Weak<Hosts>) -> HostJob {
        let Shipment { launch, program, args } = &**shipment;
        let told = Arc::new(Mutex::new(Told::default()));
        let mut state = self.state.lock();
        if state.is_gone {
            told.lock().ended = Some(Ended { cause: "the host is gone".into(), has_died: true });
        } else {
            state.jobs.insert((*launch, job), told.clone());
        }
        drop(state);
        self.say(&ToHost::Start { launch: *launch, job, program: program.hash, args: args.clone() }, Vec::new());
        HostJob { host: self.clone(), hosts, shipment: shipment.clone(), job, told }
    }

    /// A connection to it is lost; it may come back.
    pub(crate) fn on_connection_lost(&self) {
        self.state.lock().lost = Some(Instant::now());
    }

    /// It is gone, and all that ran there with it.
    pub(crate) fn on_lost(&self, why: &str) {
        let mut state = self.state.lock();
        state.is_gone = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        for told in jobs.values() {
            let cause = format!("the host is gone: {why}").into();
            told.lock().ended.get_or_insert(Ended { cause, has_died: true });
        }
    }

    fn on_said(&self, said: FromHost) -> Result<(), Box<str>> {
        let mut state = self.state.lock();
        match said {
            FromHost::Here(mut description) => {
                if !description.machine.is_sound() || description.programs.len() > PROGRAMS_MAX {
                    return Err("it describes itself at too great length".into());
                }
                // It is shown to people.
                let name = description.name.escape_debug().to_string();
                description.name = shortened(&name, super::NAME_BYTES_MAX).into();
                let Description { name, machine, engines_max, allows_programs, .. } = &description;
                tracing::info!(host = %name, %machine, engines_max, allows_programs, "a host is ready");
                state.programs = std::mem::take(&mut description.programs).into_iter().collect();
                if state.description.replace(description).is_some() {
                    return Err("it describes itself a second time".into());
                }
            }
            FromHost::Has(program) if state.programs.len() >= PROGRAMS_MAX && !state.programs.contains(&program) => {
                return Err("it has too many programs".into());
            }
            FromHost::Has(program) => drop(state.programs.insert(program)),
            FromHost::Lacks(program) => drop(state.programs.remove(&program)),
            FromHost::Printed { launch, job, stdout, stderr } => {
                if stdout.len().max(stderr.len()) > 4 * KEPT_BYTES_MAX {
                    return Err("it tells too much of what was printed".into());
                }
                if let Some(told) = state.jobs.get(&(launch, job)) {
                    told.lock().output = JobOutput { stdout: stdout.into(), stderr: stderr.into() };
                }
            }
            FromHost::Ended { launch, job, cause, has_died } => {
                if let Some(told) = state.jobs.remove(&(launch, job)) {
                    let cause = shortened(&cause, CAUSE_BYTES_MAX).into();
                    told.lock().ended = Some(Ended { cause, has_died });
                }
            }
        }
        Ok(())
    }
}

/// An engine on a host. Dropping it ends it.
pub(crate) struct HostJob {
    host: Arc<Attached>,
    hosts: Weak<Hosts>,
    shipment: Arc<Shipment>,
    /// Which of the launch it is.
    job: u32,
    told: Arc<Mutex<Told>>,
}

impl LaunchedJob for HostJob {
    fn name(&self) -> String {
        format!("host {} ({})", self.host.name().unwrap_or_default(), self.job)
    }

    fn engines(&self) -> usize {
        1
    }

    fn state(&self) -> JobState {
        match &self.told.lock().ended {
            Some(Ended { cause, .. }) => JobState::Ended { cause: cause.clone() },
            None => JobState::Running,
        }
    }

    fn has_died(&self) -> Option<bool> {
        Some(self.told.lock().ended.as_ref().is_some_and(|ended| ended.has_died))
    }

    fn again(&self) -> Result<Box<dyn LaunchedJob>, Error> {
        let refused = |problem: String| Error::Launch { by: "hosts".into(), problem: problem.into() };
        let hosts = self.hosts.upgrade().ok_or(Error::ClusterStopped)?;
        Ok(Box::new(hosts.start_again(&self.shipment, self.job).map_err(refused)?))
    }

    fn output(&self) -> JobOutput {
        self.told.lock().output.clone()
    }

    fn leave(&self) {
        if !self.state().is_ended() {
            self.host.say(&ToHost::Leave(self.shipment.launch, self.job), Vec::new());
        }
    }

    fn kill(&self) {
        if !self.state().is_ended() {
            self.host.say(&ToHost::Kill(self.shipment.launch, self.job), Vec::new());
        }
    }
}

impl Drop for HostJob {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Hears what a host says.
pub(crate) struct HostProxy(pub(crate) Arc<Attached>);

impl Actor for HostProxy {
    type Context = Context<Self>;
}

impl Handler<Said> for HostProxy {
    type Result = ();

    fn handle(&mut self, msg: Said, ctx: &mut Context<Self>) {
        let Said { message, credit } = msg;
        if let Err(reason) = decode(&message).and_then(|said| self.0.on_said(said)) {
            tracing::warn!(%reason, "a host broke the protocol");
            self.0.speaker.close(format!("protocol: {reason}"));
            ctx.stop();
        }
        drop(credit);
    }
}
