//! What a client elsewhere claims: the functions that it calls, the engines that it aims at, the numbers of its tasks. Pure:
//! a call comes out as what a view makes, or as a sentence about what is wrong with it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::conversation::AIMS_MAX;
use super::functions::{NAMED_MAX, Named, named};
use super::numbers::Numbers;
use crate::catch::shortened;
use crate::error::TaskError;
use crate::ledger::Request;
use crate::limits::{AIMED_ENGINES_MAX, CLIENT_FUNCTIONS_MAX, LABEL_BYTES_MAX};
use crate::registry::Registry;
use crate::task::{EngineId, ErasedTask, Extras, Payload, Relayed, Retries, Span, Target, TaskId, WireCall, key_of};
use crate::wire::clients::{Aim, Function, Submitted};
use crate::wire::frame::Message;

/// What becomes of a call.
pub(super) enum Called {
    /// It is as a view makes it, and so many bytes long.
    Taken(Request, usize),
    /// There is no room for it.
    Refused { id: TaskId, count: u32, key: u64, error: TaskError },
}

/// What one client has claimed.
pub(super) struct Claims {
    client: u64,
    /// Functions that it has named, by their keys; `None` of those for which there was no room.
    functions: HashMap<u64, Option<Named>>,
    /// How often it has named one.
    named: usize,
    /// Engines that it aims at, by its numbers.
    aims: HashMap<u32, Arc<[EngineId]>>,
    /// How many these are in all.
    aimed: usize,
    numbers: Numbers,
}

impl Claims {
    /// Makes those of the client of this number, which has claimed nothing.
    pub(super) fn of(client: u64) -> Self {
        Self {
            client,
            functions: HashMap::new(),
            named: 0,
            aims: HashMap::new(),
            aimed: 0,
            numbers: Numbers::default(),
        }
    }

    /// It calls these functions from now on.
    pub(super) fn name(&mut self, functions: Vec<Function>, registry: &Registry) -> Result<(), Box<str>> {
        for function in functions {
            if self.named >= CLIENT_FUNCTIONS_MAX {
                return Err(format!("it names functions more than {CLIENT_FUNCTIONS_MAX} times").into());
            }
            self.named += 1;
            let key = key_of(&function.name, function.version);
            self.functions.insert(key, named(function, registry)?);
        }
        Ok(())
    }

    /// It aims at these engines by this number from now on.
    pub(super) fn aim(&mut self, number: u32, engines: Vec<EngineId>) -> Result<(), Box<str>> {
        if number >= AIMS_MAX {
            return Err("it aims at too many sets of engines".into());
        }
        let more = engines.len();
        let before = self.aims.insert(number, engines.into());
        self.aimed = self.aimed + more - before.map_or(0, |before| before.len());
        if self.aimed > AIMED_ENGINES_MAX {
            return Err(format!("it aims at more engines than {AIMED_ENGINES_MAX} in all").into());
        }
        Ok(())
    }

    /// Makes of a call what a view makes.
    pub(super) fn request(&mut self, call: Submitted, message: &Message) -> Result<Called, Box<str>> {
        let Submitted { id, count, key, aim, retries, label, deadline_ns, is_kept, chunksize, arguments } = call;
        if id.client != self.client {
            return Err("it submits a task by another client's number".into());
        }
        let named = *self.functions.get(&key).ok_or("it calls a function that it has not named")?;
        let (inline, blobs) = arguments.take(&message.buffers).ok_or("arguments are in a buffer that did not come")?;
        if !self.numbers.try_use(id.seq, count) {
            return Err("it gives a task a number that is no task's, or was another's".into());
        }
        let Some(Named { kind, is_ours }) = named else {
            let error = TaskError::Overloaded { what: "functions", limit: NAMED_MAX };
            return Ok(Called::Refused { id, count, key, error });
        };
        let relayed = Relayed::new(kind, WireCall { key, count, inline, blobs });
        let relayed = relayed.filter(|relayed| relayed.live() == count);
        let relayed = relayed.ok_or_else(|| format!("what came are not the arguments of {count} tasks"))?;
        let relayed = if is_ours { relayed } else { relayed.foreign() };
        let target = match aim {
            Aim::Any => Target::Any,
            Aim::One(engine) => Target::One(engine),
            Aim::Of(number) => {
                Target::Of(self.aims.get(&number).ok_or("it aims at engines of no such number")?.clone())
            }
        };
        let (errors, losses) = retries;
        let label = label.map(|label| shortened(&label, LABEL_BYTES_MAX).into());
        let deadline = deadline_ns.map(Duration::from_nanos);
        let extras = Extras { label, deadline, keep: is_kept, chunksize: NonZeroU32::new(chunksize) };
        let extras = (extras != Extras::default()).then(|| Arc::new(extras));
        let retries = Retries { errors, losses };
        let (bytes, payload) = (relayed.bytes(), Payload::Typed(Box::new(relayed)));
        Ok(Called::Taken(Request { id, kind, payload, target, retries, extras }, bytes))
    }

    /// Returns those of the tasks that it has submitted.
    pub(super) fn own(&self, tasks: Vec<Span>) -> Result<Vec<Span>, Box<str>> {
        if tasks.iter().any(|span| span.first.client != self.client) {
            return Err("it cancels another client's tasks".into());
        }
        if tasks.iter().any(|span| span.count == 0) {
            return Err("it cancels no tasks at all".into());
        }
        Ok(self.numbers.used_of(tasks))
    }
}
