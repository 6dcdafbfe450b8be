//! Watching many tasks complete: a progress bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::many::Wish;
use super::map::AsyncMapResult;
use crate::error::Error;

/// How often a bar is drawn anew.
const BAR_INTERVAL: Duration = Duration::from_millis(100);

/// How often a line is printed where there is no terminal, if something has changed.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

impl<T: Send + 'static> AsyncMapResult<T> {
    /// Blocks until all tasks are settled, and shows on standard error how far they are: as a progress bar if it
    /// is a terminal, else as a line a second while something changes, and one at the end.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] on a thread that drives a runtime or an arbiter.
    pub fn wait_interactive(&self) -> Result<(), Error> {
        if stderr().is_terminal() {
            return self.wait_with_bar();
        }
        self.wait_with_lines(|line| {
            // Whoever read this may have seen enough.
            let _ = writeln!(stderr(), "{line}");
        })
    }

    fn wait_with_bar(&self) -> Result<(), Error> {
        let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} {msg} {elapsed}");
        let style = style.expect("the template is one that indicatif knows").progress_chars("=> ");
        let bar = ProgressBar::new(self.len() as u64).with_style(style).with_prefix(self.many.kind.short_name());
        let waited = self.wait_in_steps(BAR_INTERVAL, |done, failed| {
            bar.set_message(if failed > 0 { format!("({failed} failed)") } else { String::new() });
            bar.set_position(done.into());
        });
        // Left on the screen as it is: whole, or as far as it came.
        bar.abandon();
        waited
    }

    fn wait_with_lines(&self, mut print: impl FnMut(String)) -> Result<(), Error> {
        let (name, start) = (self.many.kind.short_name(), Instant::now());
        let mut printed = None;
        self.wait_in_steps(LINE_INTERVAL, |done, failed| {
            if printed.replace((done, failed)) == Some((done, failed)) {
                return;
            }
            let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
            print(format!("{name}: {done} of {} done{failed}, {:.1} s", self.len(), start.elapsed().as_secs_f64()));
        })
    }

    /// Waits, and shows how far it is every `interval`, and at the end.
    fn wait_in_steps(&self, interval: Duration, mut show: impl FnMut(u32, u32)) -> Result<(), Error> {
        loop {
            let is_done = self.wait_for(Wish::All, Some(Instant::now() + interval))?;
            let (done, failed) = self.many.progress();
            show(done, failed);
            if is_done {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::async_result::{Many, decode_value};
    use crate::error::TaskError;
    use crate::messages::Settle;
    use crate::prelude::*;
    use crate::task::{Attempt, Chunk, ErasedTask, Run, Status, TaskId};

    #[crate::task]
    fn nothing() {}

    #[test]
    fn without_a_terminal_a_line_is_printed_when_something_has_changed_and_at_the_end() {
        let cluster = Cluster::threads(1).start().unwrap();
        let origin = cluster.client().load_balanced().map(|_| nothing(), 0..1).origin.clone();
        let many = Many::new(TaskId { client: 1, seq: 1 }, 3, nothing::kind(), None, decode_value::<()>);
        let result = AsyncMapResult::new(many.clone(), origin);
        let run = Run { status: Status::Done, attempt: Attempt(1), ..Run::none(&TaskError::Disconnected) };
        let mut lines = Vec::new();
        let waiting = std::thread::spawn(move || {
            result.wait_with_lines(|line| lines.push(line)).unwrap();
            lines
        });
        let value = Box::new(Chunk::new([nothing()])).run(&TaskContext::here()).unwrap();
        many.settle(0, 1, run.clone(), Ok(value));
        std::thread::sleep(LINE_INTERVAL * 5 / 2);
        many.settle(1, 2, run, Err(TaskError::NoEngines));
        let lines = waiting.join().unwrap();
        let starts: Vec<&str> = lines.iter().map(|line| line.rsplit_once(',').unwrap().0).collect();
        assert_eq!(starts, ["nothing: 1 of 3 done", "nothing: 3 of 3 done, 2 failed"]);
    }
}
