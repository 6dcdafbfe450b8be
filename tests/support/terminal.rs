//! A terminal for a program: what it shows is read, and what is typed comes to it, Ctrl-C as a signal.
//!
//! The program that makes one calls [`become_foreground`] first in its `main`: between the terminal and the program that is to
//! run on it there is this program once more, which makes the terminal its own.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Tells the process in between which terminal it is to have.
const VARIABLE: &str = "CALLBOARD_TEST_TERMINAL";

/// What the process in between says.
const READY: &str = "(a terminal)";

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs what is to run on the terminal, if this is the process in between.
pub fn become_foreground() {
    let Some(terminal) = std::env::var_os(VARIABLE) else { return };
    rustix::process::setsid().unwrap();
    let terminal = OpenOptions::new().read(true).write(true).open(terminal).unwrap();
    rustix::process::ioctl_tiocsctty(&terminal).unwrap();
    rustix::stdio::dup2_stdin(&terminal).unwrap();
    rustix::stdio::dup2_stdout(&terminal).unwrap();
    rustix::stdio::dup2_stderr(&terminal).unwrap();
    drop(terminal);
    // From now on what is typed is for this process.
    println!("{READY}");
    let mut args = std::env::args_os().skip(1);
    let error = Command::new(args.next().unwrap()).args(args).env_remove(VARIABLE).exec();
    panic!("{error}");
}

/// A program on a terminal of its own.
pub struct Terminal {
    program: Child,
    keyboard: Option<Arc<File>>,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    pub fn run(command: &Command) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let mut between = Command::new(std::env::current_exe().unwrap());
        between.arg(command.get_program()).args(command.get_args()).env(VARIABLE, Path::new(&name));
        between.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let program = between.spawn().unwrap();
        let keyboard = Arc::new(File::from(terminal));
        let (tell, screen) = channel();
        let reading = Arc::downgrade(&keyboard);
        std::thread::spawn(move || {
            // The terminal is closed with its keyboard: this has it only for a moment.
            while let Some(screen) = reading.upgrade() {
                let mut ready = [PollFd::new(&*screen, PollFlags::IN)];
                let moment = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
                if poll(&mut ready, Some(&moment)).unwrap() == 0 {
                    continue;
                }
                let mut bytes = [0; 4096];
                // An error is the end: nobody has the other side open any more.
                match (&*screen).read(&mut bytes) {
                    Ok(n @ 1..) if tell.send(bytes[..n].to_vec()).is_ok() => {}
                    _ => return,
                }
            }
        });
        let mut terminal = Self { program, keyboard: Some(keyboard), screen, shown: String::new() };
        terminal.await_text(READY, 1);
        terminal
    }

    pub fn press_ctrl_c(&self) {
        self.keyboard.as_deref().unwrap().write_all(b"\x03").unwrap();
    }

    /// Waits until a text was shown so many times.
    #[track_caller]
    pub fn await_text(&mut self, text: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.shown.matches(text).count() < times {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(wait) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => panic!("{text:?} is not shown {times} times ({why}): {}", self.shown),
            }
        }
    }

    /// Waits for the program's end; returns its exit code, and all that was shown.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.shown);
            std::thread::sleep(Duration::from_millis(2));
        };
        // What it has shown is read to its end, or for as long as somebody else has the terminal open.
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_millis(300)) {
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        (status.code(), std::mem::take(&mut self.shown))
    }

    /// Kills the program, which cannot do anything about it.
    pub fn kill(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }

    /// Takes the terminal away, as when its window is closed.
    pub fn close(&mut self) {
        self.keyboard = None;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
