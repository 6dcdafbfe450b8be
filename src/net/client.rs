//! A client's side: dials its controller, and speaks with it as long as the client or a result of it is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::ThreadId;
use std::time::Duration;

use actix::{Addr, System};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::dial::{Backoff, Dial, Dialler};
use super::drawn;
use crate::actors::Threads;
use crate::apart;
use crate::async_result::{Reply, may_block};
use crate::client::Client;
use crate::error::Error;
use crate::limits::Limits;
use crate::registry::Registry;
use crate::remote::{BegunAnew, ClientActors, ControllerProxy, Gone, Leave, attend};
use crate::wire::handshake::Role;
use crate::wire::session::{SessionLimits, Speaker};

/// How long a client looks for its controller, by default: somebody waits for it.
const SEARCH: Duration = Duration::from_secs(10);

/// How long a client that goes waits until what it has submitted is said.
const GOODBYE: Duration = Duration::from_secs(2);

impl Client {
    /// Connects to the cluster whose connection file this is; it may be on another machine.
    ///
    /// Views, results, callbacks and executors are as those of a cluster of this process. Where the connection is lost for
    /// good, what is pending settles as [`Disconnected`](crate::TaskError::Disconnected). The connection ends with the last
    /// clone, view and result; tasks that were submitted run on.
    ///
    /// Answers [`Error::ConnectionFile`] if the file is not as it should be, [`Error::Unreachable`] if no controller is found
    /// for ten seconds ([`Dial::search_for`] sets how long), [`Error::Refused`] if it does not let us in.
    ///
    /// ```no_run
    /// use callboard::prelude::*;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// let rc = Client::connect("callboard-client.json").get()?; // in async code `.await?`
    /// assert_eq!(rc.load_balanced().apply(square(7)).get()?, 49);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn connect(file: impl Into<PathBuf>) -> Reply<Self> {
        Dial::with(file).search_for(SEARCH).connect()
    }
}

impl Dial {
    /// Connects as a client, as by [`Client::connect`].
    pub fn connect(self) -> Reply<Client> {
        let (tell, told) = oneshot::channel();
        match start(self, tell) {
            Ok(()) => Reply::new(async move { told.await.unwrap_or(Err(Error::ClusterStopped)) }),
            Err(error) => Reply::new(async move { Err(error) }),
        }
    }
}

/// Starts the thread that speaks with the controller; `tell` hears of the client, or why there is none.
fn start(dial: Dial, tell: Tell) -> Result<(), Error> {
    let limits = dial.limits.clone();
    limits.check()?;
    // Drawn, so that ids stay unique over restarts and among clients that know nothing of each other. A controller lets no
    // second one of a number in.
    let client = drawn();
    let registry = Registry::auto()?;
    let line = Line { dialler: dial.dialler(Role::Client, client, &registry)?, client, asker: Arc::default() };
    let speak = move || {
        let (threads, asker) = (Arc::new(Threads::default()), line.asker.clone());
        let (end, ended) = channel();
        System::new().block_on(line.speak(limits.clone(), registry, threads.clone(), tell, ended));
        // Callbacks may still run. Who has given up the client may be one of them.
        let asker = asker.lock().unwrap_or_else(|| std::thread::current().id());
        if let Err(error) = threads.join(limits.stop_wait(), asker) {
            tracing::warn!(%error, "a client has gone");
        }
        drop(end);
    };
    let started = std::thread::Builder::new().name("cb-client".into()).spawn(speak);
    started.map(drop).map_err(|error| Error::System { doing: "starting a client's thread", reason: error.to_string() })
}

/// Who waits for a client, or why there is none.
type Tell = oneshot::Sender<Result<Client, Error>>;

/// One client, and whom it speaks with.
struct Line {
    dialler: Dialler,
    client: u64,
    /// Who has given up the client, and waits for its end.
    asker: Arc<Mutex<Option<ThreadId>>>,
}

impl Line {
    async fn speak(self, limits: Limits, registry: Registry, threads: Arc<Threads>, tell: Tell, ended: Receiver<()>) {
        let stream = match self.dialler.find(&mut Backoff::from_now()).await {
            Ok(stream) => stream,
            // Who asked may have gone away.
            Err(error) => return drop(tell.send(Err(error))),
        };
        let (known, ready) = oneshot::channel();
        let actors = ClientActors::start(self.client, limits, registry, threads, known);
        let connection = Connection { proxy: actors.proxy.clone(), ended: Mutex::new(ended), asker: self.asker };
        let client = Client::connected(actors.link.clone(), self.client, Box::new(connection));
        let speaker = Speaker::new(SessionLimits { outbound_bytes_max: usize::MAX, ..SessionLimits::default() });
        actors.proxy.do_send(BegunAnew(speaker.clone()));
        actix::spawn(async move {
            let is_ready = ready.await.is_ok();
            drop(tell.send(if is_ready { Ok(client) } else { Err(Error::ClusterStopped) }));
        });
        let (reader, writer) = tokio::io::split(stream);
        let ending = attend(reader, writer, &speaker, &actors.proxy).await;
        tracing::info!(%ending, "the session with the controller has ended");
        let _ = actors.proxy.send(Gone).await;
        actors.end().await;
    }
}

/// A client's connection. Dropped with its last clone, view and result: then it is given up.
struct Connection {
    proxy: Addr<ControllerProxy>,
    /// Closed when all has ended.
    ended: Mutex<Receiver<()>>,
    asker: Arc<Mutex<Option<ThreadId>>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        *self.asker.lock() = Some(std::thread::current().id());
        let proxy = self.proxy.clone();
        apart::speak(move || proxy.do_send(Leave));
        if may_block() {
            // What was submitted is said before the program may end.
            let _ = self.ended.lock().recv_timeout(GOODBYE);
        }
    }
}
