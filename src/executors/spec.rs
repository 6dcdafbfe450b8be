//! Which executor a program uses, as a text: in an argument, a setting or the environment.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::limits::WORKERS_MAX;

/// Which executor to use, read from a text such as `threads:8`; [`open`](Self::open) makes it.
///
/// | text | what it is |
/// |---|---|
/// | `threads:8` | a [`ThreadPoolExecutor`](crate::ThreadPoolExecutor) |
/// | `engines:8` | engines that are threads, of a cluster of its own |
/// | `processes:8` | a [`ProcessPoolExecutor`](crate::ProcessPoolExecutor) |
/// | `tcp:8` | processes that dial over TCP on loopback, of a cluster of its own |
/// | `cluster:night` | a cluster of this machine, by its name |
/// | `cluster:run/callboard-client.json` | a cluster anywhere, by its connection file: what ends in `.json` or has a `/` |
/// | `dask:tcp://host:8786` | a Dask scheduler |
/// | `dask:local:4` | a [`LocalDask`](crate::LocalDask) cluster of its own: so many workers on this machine |
///
/// Those with a number have as many workers as there are processors where it is left out. `processes`, `tcp` and `dask` run this
/// very program, whose `main` calls [`init`](crate::init) first.
///
/// ```
/// use callboard::executors::ExecutorSpec;
/// use callboard::prelude::*;
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let spec: ExecutorSpec = "threads:2".parse()?;
/// let ex = spec.open()?;
/// assert_eq!((ex.name(), ex.max_workers()), ("ThreadPoolExecutor", 2));
/// assert_eq!(ex.submit(square(7)).get()?, 49);
/// # Ok::<(), callboard::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExecutorSpec {
    /// A pool of so many threads.
    Threads(usize),
    /// So many engines that are threads, of a cluster of its own.
    Engines(usize),
    /// A pool of so many processes.
    Processes(usize),
    /// So many engines that dial over TCP, of a cluster of its own.
    Tcp(usize),
    /// A cluster elsewhere: its name on this machine, or its connection file.
    Cluster(String),
    /// A Dask scheduler: its address. A host that is called `local` is written with what comes before it, `tcp://local:8786`.
    Dask(String),
    /// A Dask cluster on this machine of so many workers, of its own.
    DaskLocal(usize),
}

/// The variable of the environment that names an executor.
pub const EXECUTOR_VARIABLE: &str = "CALLBOARD_EXECUTOR";

/// What may stand in a text.
const VALID: &str = "valid are threads:N, engines:N, processes:N, tcp:N, cluster:NAME, cluster:FILE.json, dask:ADDRESS and \
                     dask:local:N";

impl ExecutorSpec {
    /// Reads what the environment names by `CALLBOARD_EXECUTOR`; `None` if it names nothing: the variable is not there, or empty.
    ///
    /// ```
    /// use callboard::executors::ExecutorSpec;
    ///
    /// let spec = ExecutorSpec::from_env()?.unwrap_or(ExecutorSpec::Threads(4));
    /// # Ok::<(), callboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Spec`] if it is none, with the name of the variable.
    pub fn from_env() -> Result<Option<Self>, Error> {
        match std::env::var_os(EXECUTOR_VARIABLE).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => read(EXECUTOR_VARIABLE, &text.to_string_lossy()).map(Some),
        }
    }

    /// Reads several, with commas between.
    ///
    /// ```
    /// use callboard::executors::ExecutorSpec;
    ///
    /// let specs = ExecutorSpec::list("threads:2,processes:2")?;
    /// assert_eq!(specs, [ExecutorSpec::Threads(2), ExecutorSpec::Processes(2)]);
    /// # Ok::<(), callboard::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Spec`] for the first that is none.
    pub fn list(text: &str) -> Result<Vec<Self>, Error> {
        text.split(',').map(|one| one.trim().parse()).collect()
    }
}

impl FromStr for ExecutorSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        read("executor", text)
    }
}

fn read(place: &'static str, text: &str) -> Result<ExecutorSpec, Error> {
    read_spec(text).map_err(|problem| Error::Spec { place, text: text.into(), problem: problem.into() })
}

fn read_spec(text: &str) -> Result<ExecutorSpec, String> {
    let (kind, rest) = match text.split_once(':') {
        Some((kind, rest)) => (kind, Some(rest)),
        None => (text, None),
    };
    let count = || count_of(kind, rest);
    if let Some(of_local) = rest.filter(|_| kind == "dask").and_then(|rest| rest.strip_prefix("local")) {
        match of_local.split_at_checked(1) {
            None => return count_of("dask:local", None).map(ExecutorSpec::DaskLocal),
            Some((":", number)) => return count_of("dask:local", Some(number)).map(ExecutorSpec::DaskLocal),
            // A host whose name begins so.
            Some(_) => {}
        }
    }
    let named = |what: &str| match rest {
        Some(rest) if !rest.is_empty() => Ok(rest.to_owned()),
        _ => Err(format!("which {what}? write {kind}:{what}", what = what)),
    };
    match kind {
        "threads" => count().map(ExecutorSpec::Threads),
        "engines" => count().map(ExecutorSpec::Engines),
        "processes" => count().map(ExecutorSpec::Processes),
        "tcp" => count().map(ExecutorSpec::Tcp),
        "cluster" => named("NAME").map(ExecutorSpec::Cluster),
        "dask" => named("ADDRESS").map(ExecutorSpec::Dask),
        "" => Err(format!("it names nothing; {VALID}")),
        _ => Err(format!("there is no kind {kind:?}; {VALID}")),
    }
}

fn count_of(kind: &str, rest: Option<&str>) -> Result<usize, String> {
    let Some(rest) = rest else { return Ok(std::thread::available_parallelism().map_or(1, usize::from)) };
    match rest.parse() {
        Ok(n @ 1..=WORKERS_MAX) => Ok(n),
        _ => Err(format!("{rest:?} is no number from 1 to {WORKERS_MAX}; write {kind}:4, say")),
    }
}

impl fmt::Display for ExecutorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(n) => write!(f, "threads:{n}"),
            Self::Engines(n) => write!(f, "engines:{n}"),
            Self::Processes(n) => write!(f, "processes:{n}"),
            Self::Tcp(n) => write!(f, "tcp:{n}"),
            Self::Cluster(which) => write!(f, "cluster:{which}"),
            Self::Dask(address) => write!(f, "dask:{address}"),
            Self::DaskLocal(n) => write!(f, "dask:local:{n}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(text: &str) -> String {
        text.parse::<ExecutorSpec>().unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_and_what_is_valid() {
        assert_eq!(
            problem("thread:8"),
            "executor \"thread:8\": there is no kind \"thread\"; valid are threads:N, engines:N, processes:N, tcp:N, \
             cluster:NAME, cluster:FILE.json, dask:ADDRESS and dask:local:N"
        );
        let number = |text: &str| {
            format!("executor \"processes:{text}\": {text:?} is no number from 1 to 4096; write processes:4, say")
        };
        for text in ["", "0", "-1", "four", "4097", "4 ", "1e3"] {
            assert_eq!(problem(&format!("processes:{text}")), number(text));
        }
        assert_eq!(problem("cluster"), "executor \"cluster\": which NAME? write cluster:NAME");
        assert_eq!(problem("dask:"), "executor \"dask:\": which ADDRESS? write dask:ADDRESS");
        assert_eq!(
            problem("dask:local:8786"),
            "executor \"dask:local:8786\": \"8786\" is no number from 1 to 4096; write dask:local:4, say"
        );
        assert!(problem("").starts_with("executor \"\": it names nothing; valid are threads:N"));
        assert!(problem("Threads:2").contains("no kind \"Threads\""));
    }

    #[test]
    fn a_text_may_leave_the_number_out_and_an_address_may_have_colons() {
        let here = std::thread::available_parallelism().unwrap().get();
        assert_eq!("threads".parse(), Ok(ExecutorSpec::Threads(here)));
        assert_eq!("dask:tcp://host:8786".parse(), Ok(ExecutorSpec::Dask("tcp://host:8786".into())));
        assert_eq!("dask:local".parse(), Ok(ExecutorSpec::DaskLocal(here)));
        assert_eq!("dask:local:2".parse(), Ok(ExecutorSpec::DaskLocal(2)));
        for host in ["localhost:8786", "tcp://local:8786"] {
            assert_eq!(format!("dask:{host}").parse(), Ok(ExecutorSpec::Dask(host.into())));
        }
        assert_eq!("cluster:a/b.json".parse(), Ok(ExecutorSpec::Cluster("a/b.json".into())));
        let listed = ExecutorSpec::list("threads:1, tcp:3,cluster:night").unwrap();
        assert_eq!(listed.len(), 3);
        assert!(ExecutorSpec::list("threads:1,,tcp:3").is_err());
    }

    fn specs() -> impl Strategy<Value = ExecutorSpec> {
        let named = "[a-zA-Z0-9:/._-]{1,30}";
        prop_oneof![
            (1..=WORKERS_MAX).prop_map(ExecutorSpec::Threads),
            (1..=WORKERS_MAX).prop_map(ExecutorSpec::Engines),
            (1..=WORKERS_MAX).prop_map(ExecutorSpec::Processes),
            (1..=WORKERS_MAX).prop_map(ExecutorSpec::Tcp),
            named.prop_map(ExecutorSpec::Cluster),
            named.prop_filter("no host", |name| !name.starts_with("local")).prop_map(ExecutorSpec::Dask),
            (1..=WORKERS_MAX).prop_map(ExecutorSpec::DaskLocal),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_what_it_was(spec in specs()) {
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<ExecutorSpec>();
        }
    }
}
