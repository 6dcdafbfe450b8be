//! `mpiexec`, of Open MPI.

use std::os::unix::fs::PermissionsExt;

use callboard::launchers::{JobState, Mpi};

use super::command::Commanded;
use super::daemons::are_there;
use super::{PATIENCE, failed, site};

pub(super) const TESTS: &[(&str, fn())] = &[("mpi", everything)];

/// What Open MPI wants to be told where tests run.
const HERE: [&str; 2] = ["--allow-run-as-root", "--oversubscribe"];

fn everything() {
    if !are_there(&["mpiexec"], "openmpi-bin") {
        return;
    }
    engines_join_work_print_and_end();
    whoever_does_not_join_is_told_with_what_mpiexec_says();
    the_command_starts_and_stops_them();
}

fn engines_join_work_print_and_end() {
    let site = site();
    let engines = site.cluster.launch(Mpi::new().args(HERE).program_args([&site.word]), 3).unwrap();
    assert_eq!(engines.joined().get_timeout(PATIENCE).unwrap().len(), 3);
    assert_eq!(engines.states(), [("mpiexec".into(), JobState::Running)]);
    site.works_with(3);
    site.prints(&engines);
    let [file] = &site.files()[..] else { panic!("{:?}", site.files()) };
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    engines.end().get_timeout(PATIENCE).unwrap();
    site.nothing_is_left();
    // Dropped, before they have joined.
    drop(site.cluster.launch(Mpi::new().args(HERE).program_args([&site.word]), 2).unwrap());
    site.nothing_is_left();
}

fn whoever_does_not_join_is_told_with_what_mpiexec_says() {
    let site = site();
    let missing = site.cluster.launch(Mpi::new().args(HERE).program("/nowhere/engine"), 2).unwrap();
    let told = failed(&missing);
    assert!(told.starts_with("mpiexec: it ended with exit status: "), "{told}");
    assert!(missing.output()[0].stderr.contains("/nowhere/engine: not found"), "{:?}", missing.output());
    let refused = site.cluster.launch(Mpi::new().args(["--no-such-option"]), 2).unwrap();
    let told = failed(&refused);
    assert!(told.contains("no-such-option"), "{told}");
    let told = site.cluster.launch(Mpi::new().command("/nowhere/mpiexec"), 1).unwrap_err().to_string();
    assert!(told.contains("there is no program /nowhere/mpiexec"), "{told}");
    drop((missing, refused));
    site.nothing_is_left();
}

fn the_command_starts_and_stops_them() {
    let ours = Commanded::new();
    let [as_root, more] = HERE.map(|arg| format!("--launch-arg={arg}"));
    let args = ["--engines", "mpi", "-n", "2", &as_root, &more];
    ours.works(&args, "2 by mpi", 2);
    ours.fails("nowhere", &args, &["mpiexec: it ended with exit status: "]);
}
