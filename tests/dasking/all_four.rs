//! The tutorial's claim: the same function gives the same answers on four mechanisms, in one program.

use std::process::Command;

use callboard::prelude::*;
use callboard::{ExecutorSpec, ProcessPoolExecutor, ThreadPoolExecutor, as_completed};

use super::Test;
use super::site::{Site, python};

pub(super) const TESTS: &[Test] = &[("one_function_gives_the_same_answers_on_all_four", one_function_on_all_four)];

/// The 2-norm of an array of ones.
#[task]
fn norm_of_ones(n: usize) -> f64 {
    vec![1.0_f64; n].iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[task]
fn root(x: f64) -> Result<f64, String> {
    if x < 0.0 { Err(format!("{x} has none")) } else { Ok(x.sqrt()) }
}

/// Written once: a map, single tasks, and one that fails.
fn answers(ex: &dyn Executor) -> (Vec<f64>, Vec<Result<f64, String>>) {
    let norms = ex.map(norm_of_ones, (0..16).map(|exponent| 1 << exponent)).collect::<Result<_, _>>().unwrap();
    let roots: Vec<_> = [4.0, -1.0, 2.0].map(|x| ex.submit(root(x))).into();
    let text = |error| match error {
        TaskError::Failed { text, .. } => text.into(),
        other => other.to_string(),
    };
    (norms, roots.into_iter().map(|root| root.get().map_err(text)).collect())
}

/// Is the program that an executor is chosen for by a line, if the arguments say so.
pub(super) fn be_one(arguments: &[String]) -> bool {
    let [what, line] = arguments else { return false };
    if what == "answers" {
        println!("{:?}", answers(&line.parse::<ExecutorSpec>().unwrap().open().unwrap()));
    }
    what == "answers"
}

fn one_function_on_all_four() {
    let site = Site::of(2);
    let cluster = Cluster::threads(2).start().unwrap();
    let four: [Box<dyn Executor>; 4] = [
        Box::new(ThreadPoolExecutor::new(2).unwrap()),
        Box::new(ProcessPoolExecutor::new(2).unwrap()),
        Box::new(cluster.client().load_balanced().executor()),
        Box::new(site.connect()),
    ];
    let norms: Vec<f64> = (0..16).map(|exponent| f64::from(1 << exponent).sqrt()).collect();
    let expected = (norms, vec![Ok(2.0), Err("-1 has none".into()), Ok(2_f64.sqrt())]);
    for ex in &four {
        assert_eq!(answers(&**ex), expected, "{ex:?}");
    }
    // Their results wait together.
    let mixed: Vec<_> = four.iter().map(|ex| ex.submit(norm_of_ones(9))).collect();
    assert_eq!(as_completed(mixed).map(|ar| ar.get().unwrap()).sum::<f64>(), 12.0);
    // And each is chosen by a line. A program of its own, so that the interpreter can be named.
    for line in ["threads:2", "processes:2", "engines:2", "dask:local:2", &format!("dask:{}", site.address)] {
        let mut program = Command::new(std::env::current_exe().unwrap());
        let said = program.args(["answers", line]).env("CALLBOARD_PYTHON", python().unwrap()).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{expected:?}\n"), "{line}");
    }
}
