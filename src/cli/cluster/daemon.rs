//! A cluster in the background: this program once more, in a session of its own. What it says until its engines answer comes
//! through a pipe to the process that started it, a line each.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

use super::super::exit::{Code, Failure};
use super::super::log::Logging;
use super::super::program::Program;
use super::super::signals::{Signals, block_on};
use super::run::{Listener, run};
use super::start::{Args, Started};
use crate::net::Home;

/// What the process in the background says.
#[derive(Serialize, Deserialize)]
enum Word {
    /// What may be of interest meanwhile.
    Note(String),
    /// The engines answer. The last word.
    Ready(Started),
    /// It came to nothing, and nothing is left. The last word.
    Failed { code: Code, text: String },
}

/// The process that started this one, which listens until the engines answer.
pub(super) struct Starter(File);

impl Starter {
    /// Finds it at the other end of standard output.
    fn find() -> io::Result<Self> {
        Ok(Self(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }

    pub(super) fn note(&mut self, text: String) -> Result<(), Failure> {
        self.say(&Word::Note(text))
    }

    pub(super) fn ready(&mut self, started: Started) -> Result<(), Failure> {
        self.say(&Word::Ready(started))
    }

    /// Fails where nobody listens any more: then the start was interrupted.
    fn say(&mut self, word: &Word) -> Result<(), Failure> {
        let line = serde_json::to_string(word)? + "\n";
        let said = self.0.write_all(line.as_bytes());
        said.map_err(|_| Failure::new(Code::Interrupted, "whoever started this cluster has gone"))
    }
}

/// Is the process in the background.
pub(super) fn be(args: &Args, program: &Program, logging: &Logging) -> Result<(), Failure> {
    let (starter, mut last) = (Starter::find()?, Starter::find()?);
    // No terminal has a hold on it, nor the group of whoever started it.
    rustix::process::setsid()?;
    run(args, program, logging, Listener::Starter(starter)).map_err(|failure| {
        let code = failure.code();
        let said = last.say(&Word::Failed { code, text: failure.text() });
        // Where nobody listens any more, it is told in the log.
        if said.is_ok() { Failure::ToldElsewhere(code) } else { failure }
    })
}

/// Starts a cluster in the background; returns when its engines answer.
pub(super) fn start(args: &Args, program: &Program, logging: &Logging) -> Result<(), Failure> {
    block_on(async {
        // Before there is anything to be left behind.
        let mut signals = Signals::new()?;
        let mut background = Background::launch(args, logging)?;
        loop {
            let word = tokio::select! {
                biased;
                why = signals.next() => return Err(background.end(args, why).await),
                word = background.hear() => word?,
            };
            match word {
                Some(Word::Note(text)) => program.say(text),
                Some(Word::Ready(started)) => return Ok(started.print(program)?),
                Some(Word::Failed { code, text }) => {
                    let _ = background.process.wait();
                    return Err(Failure::new(code, text));
                }
                None => return Err(background.died(args)?),
            }
        }
    })?
}

/// The process in the background, before it is left to itself.
struct Background {
    process: Child,
    words: Lines<BufReader<Receiver>>,
}

/// How long it may take to end that was interrupted.
const END_WAIT: Duration = Duration::from_secs(15);

impl Background {
    fn launch(args: &Args, logging: &Logging) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(logging.to_args())
            .args(args.to_background())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let words = process.stdout.take().expect("it was piped");
        let words = BufReader::new(Receiver::from_owned_fd(words.into())?).lines();
        Ok(Self { process, words })
    }

    /// Waits for its next word; `None` if it has ended without one.
    async fn hear(&mut self) -> Result<Option<Word>, Failure> {
        while let Some(line) = self.words.next_line().await? {
            match serde_json::from_str(&line) {
                Ok(word) => return Ok(Some(word)),
                // A program of yours may say something before it is the command.
                Err(_) => drop(writeln!(io::stdout(), "{line}")),
            }
        }
        Ok(None)
    }

    /// Has it end, and waits for that.
    async fn end(mut self, args: &Args, why: &str) -> Failure {
        let pid = Pid::from_child(&self.process);
        // It cannot be another's number: nobody has waited for its end.
        let _ = kill_process(pid, Signal::TERM);
        let silent = async { while let Ok(Some(_)) = self.words.next_line().await {} };
        if timeout(END_WAIT, silent).await.is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        // It has removed what it had made, unless it was killed.
        let _ = Home::find().and_then(|home| home.clear(&args.name));
        Failure::new(
            Code::Interrupted,
            format!("{why} while cluster {} was starting; nothing is left of it", args.name),
        )
    }

    /// Says how it has ended without a word.
    fn died(mut self, args: &Args) -> Result<Failure, Failure> {
        let status = self.process.wait()?;
        Home::find()?.clear(&args.name)?;
        let text = format!("cluster {} ended while it was starting: {status}", args.name);
        Ok(Failure::new(Code::Failed, text))
    }
}
