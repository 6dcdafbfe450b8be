//! What a child runs before anything else: the call that its parent hands down, an initializer.
//!
//! It goes down beside the files, before the handshake, and is run by the worker before it takes a task: so it may take its
//! time, what it prints is forwarded, and what it leaves in thread-locals is there for tasks. If it fails, the child says why
//! as its last words and ends with a status of its own, by which the parent knows.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::attempt;
use crate::error::TaskError;
use crate::registry::Registry;
use crate::task::{Attempt, ErasedTask, Task, TaskContext, TaskId, Typed, WireCall};

/// The status of a child whose initializer failed; `EX_CONFIG` of `sysexits.h`.
pub(super) const UNFIT: i32 = 78;

/// What the last words of such a child begin with.
const LAST_WORDS: &str = "callboard: the initializer failed: ";

/// The parent's side: the call, and who is told if it fails.
#[derive(Clone)]
pub(crate) struct First {
    /// The key, the arguments and the large buffers, in postcard.
    call: Arc<[u8]>,
    on_failure: Arc<dyn Fn(Box<str>) + Send + Sync>,
}

impl First {
    /// Makes it of a task; `on_failure` gets the reason, on the arbiter of the children.
    ///
    /// # Errors
    /// What the codec refuses.
    pub(crate) fn new(
        task: impl Task,
        on_failure: impl Fn(Box<str>) + Send + Sync + 'static,
    ) -> Result<Self, postcard::Error> {
        let Some(call) = Typed(task).encode() else { return Err(postcard::Error::SerializeBufferFull) };
        let WireCall { key, inline, blobs, .. } = call?;
        let call = postcard::to_stdvec(&(key, inline, blobs))?.into();
        Ok(Self { call, on_failure: Arc::new(on_failure) })
    }

    /// Sends it to a child that has not said anything yet.
    pub(super) async fn hand_down(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        to.write_all(&(self.call.len() as u64).to_le_bytes()).await?;
        to.write_all(&self.call).await
    }

    /// A child has ended before its initializer returned.
    pub(super) fn failed(&self, cause: &str, last_words: Option<&str>) {
        let reason = match last_words {
            Some(words) => words
                .strip_prefix(LAST_WORDS)
                .map_or_else(|| format!("{cause}; it printed last: {words}"), str::to_owned),
            None => cause.to_owned(),
        };
        (self.on_failure)(reason.into());
    }
}

impl std::fmt::Debug for First {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<First {} bytes>", self.call.len())
    }
}

/// The child's side.
pub(super) struct Initializer {
    call: WireCall,
    registry: Arc<Registry>,
}

impl Initializer {
    /// Takes over what the parent hands down.
    pub(super) fn take_over(mut from: impl Read, registry: Arc<Registry>) -> io::Result<Self> {
        let mut length = [0; 8];
        from.read_exact(&mut length)?;
        let mut call = Vec::new();
        from.take(u64::from_le_bytes(length)).read_to_end(&mut call)?;
        let (key, inline, blobs): (u64, Bytes, Vec<Bytes>) = postcard::from_bytes(&call).map_err(io::Error::other)?;
        Ok(Self { call: WireCall { key, count: 1, inline, blobs }, registry })
    }

    /// Runs it; ends this process if it fails.
    pub(super) fn run(&self) {
        if let Err(reason) = self.attempt() {
            eprintln!("{LAST_WORDS}{}", reason.replace('\n', "; "));
            std::process::exit(UNFIT);
        }
    }

    fn attempt(&self) -> Result<(), String> {
        let task = match self.registry.decode(&self.call) {
            Some(Ok(task)) => task,
            Some(Err(error)) => return Err(format!("its arguments cannot be read: {error}")),
            None => return Err("this program has no such task; build it with the crate that defines it".into()),
        };
        let cx = TaskContext {
            task: TaskId::of_process(),
            engine: None,
            attempt: Attempt(1),
            label: None,
            cancel: Arc::default(),
            namespace: Arc::default(),
        };
        match attempt::make(task, &cx) {
            Ok(_) => Ok(()),
            Err(TaskError::Failed { place, text }) => Err(format!("{}: {text}", place.name)),
            Err(TaskError::Panicked { place, message }) => Err(format!("{} panicked: {message}", place.name)),
            Err(error) => Err(error.to_string()),
        }
    }
}
