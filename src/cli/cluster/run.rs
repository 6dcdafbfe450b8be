//! The controller of a cluster with a name, from the first file to the last: in this process.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::demo::getpid;
use super::super::exit::{Code, Failure};
use super::super::log::Logging;
use super::super::program::Program;
use super::super::progress::{slowly, unfinished};
use super::super::signals::{Signals, block_on};
use super::daemon::Starter;
use super::elsewhere::Look;
use super::engines::Engines;
use super::facts::{Facts, in_words};
use super::log_file::LogFile;
use super::start::{Args, Started};
use crate::launchers::Launched;
use crate::net::{Folder, Holder, Home, Take};
use crate::{Cluster, Listen, Listening, Pending};

/// Who hears how the start goes.
pub(super) enum Listener {
    /// Whoever is at the terminal.
    Terminal,
    /// The process that started this one, to be in the background.
    Starter(Starter),
}

/// Is a cluster until it is told to end. Leaves nothing.
pub(super) fn run(args: &Args, program: &Program, logging: &Logging, listener: Listener) -> Result<(), Failure> {
    block_on(Run { args, program, logging, listener, launched: None }.run())?
}

/// How long hosts are waited for, and how often one looks.
const HOSTS_WAIT: Duration = Duration::from_secs(20);
const HOSTS_LOOK: Duration = Duration::from_millis(250);

struct Run<'a> {
    args: &'a Args,
    program: &'a Program,
    logging: &'a Logging,
    listener: Listener,
    /// Engines that another program has started. They end with the cluster, and this is for as long.
    launched: Option<Arc<Launched>>,
}

impl Run<'_> {
    async fn run(mut self) -> Result<(), Failure> {
        // From now on signals end this in good order.
        let mut signals = Signals::new()?;
        let mut folder = self.take_folder()?;
        let log = self.tell_into(&folder)?;
        let cluster = Cluster::without_engines().engine_args(self.logging.to_args()).start()?;
        let begun = tokio::select! {
            biased;
            why = signals.next() => {
                Err(Failure::new(Code::Interrupted, format!("{why} while cluster {} was starting", self.args.name)))
            }
            begun = self.begin(&cluster, &folder, log.as_ref().map(LogFile::path)) => begun,
        };
        let done = match begun {
            Ok(()) => {
                if let Some(why) = self.until_end(&cluster, &mut signals).await {
                    let pending = cluster.client().queue_status().await.map_or(0, |status| status.pending);
                    tracing::info!(pending, "{why}: the cluster ends, and pending tasks are cancelled");
                }
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        self.end(cluster, &mut signals).await;
        // In this order: the log does not come back.
        drop(log);
        folder.clear();
        done
    }

    fn take_folder(&mut self) -> Result<Folder, Failure> {
        let (home, name) = (Home::find()?, &self.args.name);
        match home.take(name)? {
            Take::Refused(holder) => Err(self.runs_already(&home, &holder)),
            Take::Taken { folder, over_dead } => {
                if over_dead {
                    self.note(format!("cluster {name} had died without being stopped; what it left was removed"))?;
                }
                Ok(folder)
            }
        }
    }

    fn runs_already(&self, home: &Home, holder: &Holder) -> Failure {
        let (name, program) = (&self.args.name, self.program);
        let address =
            Facts::read(&home.folder(name)).map_or("still starting".into(), |facts| format!("at {}", facts.address));
        let text = format!(
            "cluster {name} runs already: pid {}, {address}; stop it with: {program} cluster stop {name}",
            holder.pid
        );
        Failure::new(Code::RunsAlready, text)
    }

    /// Has what this process tells in the background told in the cluster's log.
    fn tell_into(&self, folder: &Folder) -> Result<Option<LogFile>, Failure> {
        match self.listener {
            Listener::Terminal => Ok(None),
            Listener::Starter(_) => Ok(Some(LogFile::begin(folder)?)),
        }
    }

    /// Listens, starts the engines, and says so when they answer.
    async fn begin(&mut self, cluster: &Cluster, folder: &Folder, log: Option<PathBuf>) -> Result<(), Failure> {
        let Args { name, engines, .. } = self.args;
        let (count, client) = (self.args.count(), cluster.client());
        // They start while the certificates are made; those that dial cannot.
        let adding = engines.add(cluster, count);
        let listening = self.listen(cluster, folder)?;
        let address = listening.address().to_string();
        Facts::of_this_process(name.to_string(), *engines, count, address.clone()).write(folder.path())?;
        let (adding, look) = match adding {
            Some(adding) => (adding, None),
            None => {
                let launched = self.launch(cluster, &listening).await?;
                (launched.joined(), Some(Look::at(launched)?))
            }
        };
        let mut heard = Ok(());
        let say = async |waited| {
            let (joined, waited) = (client.len(), in_words(waited));
            let waiting = look.as_ref().map(|look| look.waiting()).unwrap_or_default();
            heard = self.note(format!("{joined} of {count} engines have joined after {waited}{waiting}"));
        };
        slowly(adding, say).await?;
        heard?;
        let mut heard = Ok(());
        let say = async |waited| heard = self.note(format!("engines have not answered for {}", in_words(waited)));
        slowly(client.every().apply(getpid()), say).await?;
        heard?;
        tracing::info!(address, engines = engines.counted(count), "cluster {name} runs");
        let (engine_file, client_file) = (listening.engine_file(), listening.client_file());
        let (name, pid) = (name.to_string(), std::process::id());
        self.ready(Started { name, pid, engines: *engines, count, address, engine_file, client_file, log })
    }

    fn listen(&self, cluster: &Cluster, folder: &Folder) -> Result<Listening, Failure> {
        let directory = self.args.directory.as_deref().unwrap_or(folder.path());
        let mut listen = Listen::at(&self.args.listen).directory(directory);
        if let Some(address) = &self.args.reached_at {
            listen = listen.reached_at(address);
        }
        let listening = cluster.listen(listen)?;
        if self.args.directory.is_some() {
            // Where those look who know the cluster by its name.
            folder.keep(&listening.engine_file())?;
            folder.keep(&listening.client_file())?;
        }
        Ok(listening)
    }

    /// Has another program start the engines.
    async fn launch(&mut self, cluster: &Cluster, listening: &Listening) -> Result<Arc<Launched>, Failure> {
        let (args, address) = (self.args, listening.address());
        if address.ip().is_loopback() && args.reached_at.is_none() {
            self.note(format!("only engines of this machine reach {address}; for others say --listen HOST:PORT"))?;
        }
        let launched = match args.engines {
            Engines::Hosts => self.launch_on_hosts(cluster).await?,
            engines => args.elsewhere.launch(engines, cluster, args.count(), self.logging)?,
        };
        Ok(self.launched.insert(Arc::new(launched)).clone())
    }

    /// Has hosts start the engines once they have room: those that are there dial every second.
    async fn launch_on_hosts(&mut self, cluster: &Cluster) -> Result<Launched, Failure> {
        // Read once, however often hosts are asked.
        let (program, n) = (self.args.elsewhere.packed(self.logging)?, self.args.count());
        let (began, mut told) = (Instant::now(), Duration::ZERO);
        loop {
            match cluster.launch(program.clone(), n) {
                Err(_) if began.elapsed() < HOSTS_WAIT => {}
                launched => return Ok(launched?.restarting()?),
            }
            if began.elapsed() >= told + Duration::from_secs(1) {
                told = began.elapsed() + Duration::from_secs(4);
                self.note(format!("hosts with room for {n} engines are waited for"))?;
            }
            tokio::time::sleep(HOSTS_LOOK).await;
        }
    }

    fn note(&mut self, text: String) -> Result<(), Failure> {
        match &mut self.listener {
            Listener::Terminal => self.program.say(text),
            Listener::Starter(starter) => starter.note(text)?,
        }
        Ok(())
    }

    fn ready(&mut self, started: Started) -> Result<(), Failure> {
        match &mut self.listener {
            // It runs also where nobody reads that.
            Listener::Terminal => drop(started.print(self.program)),
            Listener::Starter(starter) => starter.ready(started)?,
        }
        Ok(())
    }

    /// Waits until it is time to end; returns why, if not everything has ended by then.
    async fn until_end(&self, cluster: &Cluster, signals: &mut Signals) -> Option<&'static str> {
        let client = cluster.client();
        let finished = async {
            // Answered when no engine joins any more: there are never so many.
            drop(client.wait_for_engines(usize::MAX).await);
            tracing::info!("ended by a client: pending tasks are finished, unless it has cancelled them");
            let say = async |waited| tracing::info!("after {}: {}", in_words(waited), unfinished(&client).await);
            drop(slowly(client.shutdown(Pending::Finish), say).await);
        };
        let lifetime = async {
            match self.args.lifetime {
                Some(s) => tokio::time::sleep(Duration::from_secs(s)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            why = signals.next() => Some(why),
            () = finished => None,
            () = lifetime => Some("at the end of its lifetime"),
        }
    }

    /// Ends the cluster. Told once more to end, it does not wait for what runs.
    async fn end(&self, cluster: Cluster, signals: &mut Signals) {
        let name = &self.args.name;
        let say =
            async |waited| tracing::info!("cluster {name} has not ended after {}: tasks still run", in_words(waited));
        let ended = tokio::select! {
            ended = slowly(cluster.shutdown(Pending::Cancel), say) => ended,
            // Engines that are processes end with this one. Others would not, and have no more than seconds for what
            // they run.
            _ = signals.next(), if self.launched.is_none() => Ok(()),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "cluster {name} has ended");
        }
    }
}
