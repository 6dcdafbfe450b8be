//! Programs of a client elsewhere, on hosts: the part of its proxy that starts and ends them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;

use super::client_proxy::ClientProxy;
use crate::host::{HostJob, Hosts, NotNow, ProgramHash, Shipment};
use crate::launchers::{JobState, LaunchedJob};
use crate::net::Arrivals;
use crate::task::drawn;
use crate::wire::clients::{Answer, Refusal, RunOnHosts, ToClient};
use crate::wire::frame::{Lane, Message};

/// What a client's proxy has of hosts.
pub(super) struct OnHosts {
    pub(super) parts: HostParts,
    /// Programs that the client was asked for, and those that came.
    programs: HashMap<ProgramHash, Option<Bytes>>,
    running: HashMap<u64, Vec<HostJob>>,
}

/// Where hosts are, and where it is known who has joined.
#[derive(Clone, Default)]
pub(crate) struct HostParts {
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) arrivals: Arc<Arrivals>,
}

/// What a client has asked for, and waits for.
struct Starting {
    /// The number of the question.
    number: u64,
    shipment: Arc<Shipment>,
    engines: usize,
    /// When it is given up.
    by: Instant,
}

/// Longest that a client may have hosts waited for.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// How long a client may take to send a program that is wanted.
const SHIP_WAIT: Duration = Duration::from_secs(300);

/// How long engines may take to join once they are started.
const JOIN_WAIT: Duration = Duration::from_secs(60);

/// How long engines that are ended may go on with what they run, and have to be gone.
const LEAVE_WAIT: Duration = Duration::from_secs(25);

/// How often one looks.
const LOOK: Duration = Duration::from_millis(20);

/// Launches that one client may have, and engines of one.
const LAUNCHES_MAX: usize = 1_000;
const ENGINES_MAX: u32 = 100_000;

/// Programs that one client is asked for at a time: each may be a gigabyte, which is kept until it is started.
const PROGRAMS_MAX: usize = 4;

/// Arguments of a program, in bytes.
const ARGS_BYTES_MAX: usize = 64 << 10;

impl OnHosts {
    pub(super) fn new(parts: HostParts) -> Self {
        Self { parts, programs: HashMap::new(), running: HashMap::new() }
    }

    /// Notes that a program is wanted; returns whether the client is to be asked for it now.
    fn want(&mut self, program: ProgramHash) -> bool {
        let is_room = self.programs.len() < PROGRAMS_MAX;
        match self.programs.entry(program) {
            Entry::Vacant(wanted) if is_room => {
                wanted.insert(None);
                true
            }
            Entry::Vacant(_) | Entry::Occupied(_) => false,
        }
    }

    /// Ends all of them: the client is gone. Their tasks go on meanwhile.
    pub(super) fn end_all(&mut self) {
        for (launch, jobs) in self.running.drain() {
            self.parts.arrivals.forget(launch);
            drop(actix::spawn(leave(jobs)));
        }
    }
}

/// Has engines leave, and ends what has not left in time.
async fn leave(jobs: Vec<HostJob>) {
    jobs.iter().for_each(LaunchedJob::leave);
    let by = Instant::now() + LEAVE_WAIT;
    while Instant::now() < by && jobs.iter().any(|job| !job.state().is_ended()) {
        actix::clock::sleep(LOOK).await;
    }
}

fn refused(why: impl Into<Box<str>>) -> Refusal {
    Refusal::Other(why.into())
}

impl ClientProxy {
    /// Starts a program of the client's on hosts, and answers when its engines have joined.
    pub(super) fn run_on_hosts(&mut self, number: u64, wanted: RunOnHosts, ctx: &mut Context<Self>) {
        let RunOnHosts { program, args, engines, wait_ms } = wanted;
        let args_bytes: usize = args.iter().map(|arg| arg.len() + 1).sum();
        let problem = if !program.is_sound() {
            Some("what is said of the program makes no sense".into())
        } else if args_bytes > ARGS_BYTES_MAX {
            Some(format!("the program has arguments of {args_bytes} bytes; at most {ARGS_BYTES_MAX} travel"))
        } else if !(1..=ENGINES_MAX).contains(&engines) {
            Some(format!("{engines} engines are wanted; ask for 1 to {ENGINES_MAX} at a time"))
        } else if self.on_hosts.running.len() >= LAUNCHES_MAX {
            Some(format!("{LAUNCHES_MAX} programs of this client run already; end some"))
        } else {
            None
        };
        if let Some(problem) = problem {
            return self.say_answer(number, Err(refused(problem)), Vec::new());
        }
        let shipment = Arc::new(Shipment { launch: drawn(), program, args });
        self.on_hosts.parts.arrivals.expect(shipment.launch);
        self.questions += 1;
        let by = Instant::now() + Duration::from_millis(wait_ms).min(WAIT_MAX);
        self.try_to_start(Starting { number, shipment, engines: engines as usize, by }, ctx);
    }

    fn try_to_start(&mut self, mut starting: Starting, ctx: &mut Context<Self>) {
        let (launch, hash) = (starting.shipment.launch, starting.shipment.program.hash);
        let bytes = self.on_hosts.programs.get(&hash).cloned().flatten();
        let is_late = Instant::now() >= starting.by;
        match self.on_hosts.parts.hosts.start(&starting.shipment, bytes.as_ref(), starting.engines) {
            Ok(jobs) => {
                self.on_hosts.programs.remove(&hash);
                self.on_hosts.running.insert(launch, jobs);
                starting.by = Instant::now() + JOIN_WAIT;
                return self.await_joined(starting, ctx);
            }
            Err(NotNow::NoRoom(told)) if is_late => return self.not_on_hosts(&starting, told),
            Err(NotNow::NoRoom(_)) => {}
            Err(NotNow::Wanted) => {
                if self.on_hosts.want(hash) {
                    self.say(Lane::Control, &ToClient::Wanted(hash), Vec::new());
                    starting.by = starting.by.max(Instant::now() + SHIP_WAIT);
                } else if is_late {
                    return self.not_on_hosts(&starting, "the program has not come in time".into());
                }
            }
        }
        ctx.run_later(LOOK, move |proxy, ctx| proxy.try_to_start(starting, ctx));
    }

    fn await_joined(&mut self, starting: Starting, ctx: &mut Context<Self>) {
        let launch = starting.shipment.launch;
        let joined = self.on_hosts.parts.arrivals.of(launch);
        let ended = self.on_hosts.running.get(&launch).into_iter().flatten().find_map(|job| match job.state() {
            JobState::Ended { cause } => Some(format!("{}: {cause}", job.name())),
            _ => None,
        });
        match ended {
            _ if joined.len() >= starting.engines => {
                self.questions -= 1;
                self.say_answer(starting.number, Ok(Answer::OnHosts(launch, joined)), Vec::new());
            }
            Some(cause) => self.not_on_hosts(&starting, cause),
            None if Instant::now() >= starting.by => {
                self.not_on_hosts(&starting, format!("an engine has not joined within {JOIN_WAIT:?}"));
            }
            None => {
                ctx.run_later(LOOK, move |proxy, ctx| proxy.await_joined(starting, ctx));
            }
        }
    }

    fn not_on_hosts(&mut self, starting: &Starting, why: String) {
        let Starting { number, shipment, .. } = starting;
        self.questions -= 1;
        self.on_hosts.programs.remove(&shipment.program.hash);
        self.on_hosts.parts.arrivals.forget(shipment.launch);
        if let Some(jobs) = self.on_hosts.running.remove(&shipment.launch) {
            drop(actix::spawn(leave(jobs)));
        }
        self.say_answer(*number, Err(refused(why)), Vec::new());
    }

    /// Ends what was started, and answers when it is gone.
    pub(super) fn leave_hosts(&mut self, number: u64, launch: u64, ctx: &mut Context<Self>) {
        let jobs = self.on_hosts.running.remove(&launch).unwrap_or_default();
        self.on_hosts.parts.arrivals.forget(launch);
        self.questions += 1;
        // They finish what they run also where the client does not wait for it.
        let left = actix::spawn(leave(jobs));
        ctx.spawn(left.into_actor(self).map(move |_, proxy, _| {
            proxy.questions -= 1;
            proxy.say_answer(number, Ok(Answer::Done), Vec::new());
        }));
    }

    /// A program has come that was asked for.
    pub(super) fn on_program(&mut self, hash: ProgramHash, message: &Message) -> Result<(), Box<str>> {
        let [bytes] = &message.buffers[..] else { return Err("a program comes in one buffer".into()) };
        match self.on_hosts.programs.get_mut(&hash) {
            // Whether it is that one, whoever runs it finds out.
            Some(program @ None) => *program = Some(bytes.clone()),
            // The answer went out meanwhile.
            _ => tracing::debug!(%hash, "a program came that nobody waits for"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_for_a_few_programs_at_a_time_and_once_for_each() {
        let hash = |byte: u8| ProgramHash::of(&[byte]);
        let mut on_hosts = OnHosts::new(HostParts::default());
        let asked = (0..8).filter(|&byte| on_hosts.want(hash(byte))).count();
        assert_eq!((asked, on_hosts.programs.len()), (PROGRAMS_MAX, PROGRAMS_MAX));
        assert!(!on_hosts.want(hash(0)), "it was asked for before");
        on_hosts.programs.remove(&hash(0));
        assert!(on_hosts.want(hash(7)), "now there is room");
    }
}
