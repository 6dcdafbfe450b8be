//! What is known of many tasks: which engines ran them, when, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use super::map::AsyncMapResult;
use super::part::{Parts, part_with};
use crate::error::Error;
use crate::task::{EngineId, Moment, Record, Run};

impl<T: Send + 'static> AsyncMapResult<T> {
    /// Blocks until all tasks are settled and returns copies of their values by the engine that made them.
    ///
    /// Of results of several clusters that were joined, engines with one id are taken for one.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::OfNoEngine`] if a value was not made by an engine, but by a promise that was joined.
    pub fn by_engine(&self) -> Result<BTreeMap<EngineId, Vec<T>>, Error>
    where
        T: Clone,
    {
        let values = self.get()?;
        let mut by_engine: BTreeMap<EngineId, Vec<T>> = BTreeMap::new();
        for (value, record) in values.into_iter().zip(self.metadata()) {
            let engine = record.engine.ok_or(Error::OfNoEngine { task: record.id })?;
            by_engine.entry(engine).or_default().push(value);
        }
        Ok(by_engine)
    }

    /// Blocks until all tasks are settled and returns a copy of the one value that each engine made:
    /// `get_dict` in ipyparallel.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::SeveralOnOneEngine`] if an engine ran more than one of the tasks.
    pub fn get_dict(&self) -> Result<BTreeMap<EngineId, T>, Error>
    where
        T: Clone,
    {
        let one = |(engine, mut values): (EngineId, Vec<T>)| match (values.len(), values.pop()) {
            (1, Some(value)) => Ok((engine, value)),
            (tasks, _) => Err(Error::SeveralOnOneEngine { engine, tasks }),
        };
        self.by_engine()?.into_iter().map(one).collect()
    }

    /// Returns what is known of each task. Items that travelled together have their times together.
    pub fn metadata(&self) -> Vec<Record> {
        let heirs = self.many.heirs();
        if !heirs.is_empty() {
            return heirs.iter().map(|heir| heir.record()).collect();
        }
        let records = |parts: &mut Parts<T>| (0..self.many.len()).map(|index| self.record(parts, index)).collect();
        self.many.look(records).unwrap_or_default()
    }

    /// Returns when what came together ran.
    fn runs(&self) -> Vec<Run> {
        let heirs = self.many.heirs();
        if heirs.is_empty() {
            return self.many.look(|parts| parts.values().map(|part| part.run.clone()).collect()).unwrap_or_default();
        }
        let mut runs: Vec<Run> = heirs.iter().filter_map(|heir| heir.run()).collect();
        // What came together had its times together.
        let times = |run: &Run| (run.engine, run.started, run.completed);
        runs.dedup_by(|one, other| one.started.is_some() && times(one) == times(other));
        runs
    }

    /// Returns the time from the submission to the last outcome, or to now while some are missing.
    pub fn elapsed(&self) -> Duration {
        self.wall_time().unwrap_or_else(|| Moment::now().since(self.many.created))
    }

    /// Returns the time from the submission to the last outcome; `None` while some are missing.
    pub fn wall_time(&self) -> Option<Duration> {
        let last = self.ready().then(|| self.runs().iter().map(|run| run.completed).max())?;
        Some(last.map_or(Duration::ZERO, |last| last.since(self.many.created)))
    }

    /// Returns how long the tasks ran, all added up: the time that one engine would have taken; `None` while
    /// some are not settled.
    ///
    /// Divided by [`wall_time`](Self::wall_time) it is the speed-up.
    pub fn serial_time(&self) -> Option<Duration> {
        let ran = |run: &Run| Some(run.completed.since(run.started?));
        self.ready().then(|| self.runs().iter().filter_map(ran).sum())
    }

    fn record(&self, parts: &Parts<T>, index: u32) -> Record {
        let run = part_with(parts, index).map(|(part, at)| {
            let part = &parts[&part];
            Run { status: part.status(at), ..part.run.clone() }
        });
        self.many.record(index, run)
    }
}
