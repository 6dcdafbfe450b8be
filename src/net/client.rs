//! A client's side: dials its controller, and speaks with it as long as the client or a result of it is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::ThreadId;
use std::time::Duration;

use actix::Addr;
use actix_rt::System;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::dial::Dial;
use super::dialler::{Dialler, Session};
use super::directory::CLIENT_FILE;
use super::folder::Life;
use super::home::{ClusterName, Home};
use super::way::{Connection as Stream, Tcp, Way};
use crate::actors::Threads;
use crate::apart;
use crate::async_result::{Reply, may_block};
use crate::client::Client;
use crate::error::Error;
use crate::limits::Limits;
use crate::registry::Registry;
use crate::remote::{Away, ClientActors, Connected, ControllerProxy, Gone, Leave, NOT_RESUMED, TOO_SLOW, attend};
use crate::task::drawn;
use crate::wire::handshake::Role;
use crate::wire::session::{Ending, SessionLimits};

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

    /// Connects to a cluster of this machine by its name: one that was started by `callboard cluster start NAME`.
    ///
    /// Answers as [`connect`](Self::connect), and [`Error::ConnectionFile`] if no cluster of this name runs.
    ///
    /// ```no_run
    /// use callboard::prelude::*;
    /// # #[task] fn square(x: u64) -> u64 { x * x }
    ///
    /// let rc = Client::connect_to("default").get()?; // in async code `.await?`
    /// println!("{} engines", rc.len());
    /// # Ok::<(), callboard::Error>(())
    /// ```
    pub fn connect_to(name: &str) -> Reply<Self> {
        match file_of(name) {
            Ok(file) => Self::connect(file),
            Err(error) => Reply::refused(error),
        }
    }
}

/// Returns the file with which clients of a cluster connect that has this name, and runs.
fn file_of(name: &str) -> Result<PathBuf, Error> {
    let problem = |path: PathBuf, problem: String| Error::ConnectionFile { path, problem: problem.into() };
    let named = name.parse::<ClusterName>().map_err(|why| problem(name.into(), why))?;
    let home = Home::find()?;
    let file = home.folder(&named).join(CLIENT_FILE);
    match home.life(&named)? {
        Life::Alive(_) => Ok(file),
        Life::None => {
            Err(problem(file, format!("no cluster is called {name}; start one: callboard cluster start {name}")))
        }
        Life::Dead => {
            Err(problem(file, format!("cluster {name} has died; start it again: callboard cluster start {name}")))
        }
    }
}

impl Dial {
    /// Connects as a client, as by [`Client::connect`].
    pub fn connect(self) -> Reply<Client> {
        let (tell, told) = oneshot::channel();
        match start(self, tell) {
            Ok(()) => Reply::new(async move { told.await.unwrap_or(Err(Error::ClusterStopped)) }),
            Err(error) => Reply::refused(error),
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
pub(super) type Tell = oneshot::Sender<Result<Client, Error>>;

/// One client, and whom it speaks with.
pub(super) struct Line<W = Tcp> {
    pub(super) dialler: Dialler<W>,
    pub(super) client: u64,
    /// Who has given up the client, and waits for its end.
    pub(super) asker: Arc<Mutex<Option<ThreadId>>>,
}

impl<W: Way> Line<W> {
    pub(super) async fn speak(
        self,
        limits: Limits,
        registry: Registry,
        threads: Arc<Threads>,
        tell: Tell,
        ended: Receiver<()>,
    ) {
        let (mut session, mut backoff) = (self.dialler.session(SESSION), Backoff::from_now());
        let stream = match self.dialler.open(&mut session, &mut backoff).await {
            Ok((stream, _)) => stream,
            // Who asked may have gone away.
            Err(error) => return drop(tell.send(Err(error))),
        };
        let (known, ready) = oneshot::channel();
        let actors = ClientActors::start(self.client, limits, registry, threads, known);
        let given_up = Arc::new(Notify::new());
        let connection = Connection {
            proxy: actors.proxy.clone(),
            given_up: given_up.clone(),
            ended: Mutex::new(ended),
            asker: self.asker.clone(),
        };
        let client = Client::connected(actors.link.clone(), self.client, Box::new(connection));
        actors.proxy.do_send(Connected { speaker: session.speaker.clone(), run: session.run });
        actix_rt::spawn(async move {
            let is_ready = ready.await.is_ok();
            drop(tell.send(if is_ready { Ok(client) } else { Err(Error::ClusterStopped) }));
        });
        let ending = self.keep(stream, session, &actors.proxy, &given_up).await;
        tracing::warn!(ending, address = self.dialler.address, "the client has no controller any more");
        let _ = actors.proxy.send(Gone).await;
        actors.end().await;
    }

    /// Speaks with the controller, and looks for it where it is away, until one of the two has gone for good; returns why.
    async fn keep(
        &self,
        mut stream: Box<dyn Stream>,
        mut session: Session,
        proxy: &Addr<ControllerProxy>,
        given_up: &Notify,
    ) -> String {
        loop {
            let (reader, writer) = tokio::io::split(stream);
            let ending = attend(reader, writer, &session.speaker, proxy).await;
            if session.speaker.has_ended() && !is_of_session_alone(&ending) {
                return ending.to_string();
            }
            tracing::warn!(%ending, address = self.dialler.address, "the connection to the controller is lost; it is looked for");
            // Whether that was noticed by its silence or by an error that took as long; unless we stood still ourselves.
            let away = session.speaker.silence().min(Duration::from_millis(SESSION.lost_ms));
            // Whoever waits for results is told when the controller stays away. It is looked for all the same.
            let mut backoff = Backoff::from_now();
            let (mut deadline, mut is_given_up) = (Some(Instant::now() + AWAY.saturating_sub(away)), false);
            stream = loop {
                let opened = tokio::select! {
                    biased;
                    opened = self.dialler.open(&mut session, &mut backoff) => opened,
                    () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                        deadline = None;
                        session.speaker.abandon(NOT_RESUMED);
                        proxy.do_send(Away);
                        if is_given_up {
                            return "what the client had submitted last was not taken".into();
                        }
                        continue;
                    }
                    () = given_up.notified() => {
                        // What it submitted is still said, if that can be said in time.
                        is_given_up = true;
                        if deadline.is_none() {
                            return "the client has left".into();
                        }
                        continue;
                    }
                };
                match opened {
                    Ok((stream, true)) => break stream,
                    Ok((stream, false)) => {
                        proxy.do_send(Connected { speaker: session.speaker.clone(), run: session.run });
                        break stream;
                    }
                    Err(Error::Unreachable { .. }) => backoff.begin_again(Duration::ZERO),
                    Err(error) => return error.to_string(),
                }
            };
        }
    }
}

/// Returns whether only a session is over, and another may begin.
fn is_of_session_alone(ending: &Ending) -> bool {
    matches!(ending, Ending::ClosedByPeer(why) if [NOT_RESUMED, TOO_SLOW].contains(&&**why))
}

/// How long a controller may be away before results are lost that wait for it.
const AWAY: Duration = Duration::from_secs(5);

/// The bounds of a client's session. That nothing is heard is noticed in time to look for the controller before it counts as
/// away.
const SESSION: SessionLimits = SessionLimits { lost_ms: 3_000, ..SessionLimits::LASTING };

/// A client's connection. Dropped with its last clone, view and result: then it is given up.
struct Connection {
    proxy: Addr<ControllerProxy>,
    given_up: Arc<Notify>,
    /// Closed when all has ended.
    ended: Mutex<Receiver<()>>,
    asker: Arc<Mutex<Option<ThreadId>>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        *self.asker.lock() = Some(std::thread::current().id());
        let (proxy, given_up) = (self.proxy.clone(), self.given_up.clone());
        apart::speak(move || {
            proxy.do_send(Leave);
            given_up.notify_one();
        });
        if may_block() {
            // What was submitted is said before the program may end.
            let _ = self.ended.lock().recv_timeout(GOODBYE);
        }
    }
}
