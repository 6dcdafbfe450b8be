//! What the command says of itself, word for word: a change of it is seen.
#![allow(clippy::unwrap_used)]

use std::process::Command;

fn callboard(args: &str) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_callboard")).args(args.split_whitespace()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn each_command_teaches_itself_with_examples() {
    let commands = [
        "",
        "cluster",
        "cluster start",
        "cluster stop",
        "cluster list",
        "status",
        "controller",
        "engine",
        "host",
        "bench",
        "compare",
        "completions",
    ];
    for command in commands {
        let (code, help, complaints) = callboard(&format!("{command} --help"));
        assert_eq!((code, &*complaints), (Some(0), ""), "{command}");
        assert!(help.contains("Examples:\n  callboard "), "{command}: {help}");
        assert!(!help.contains("{program}"), "{command}: {help}");
        insta::assert_snapshot!(format!("help_{}", command.replace(' ', "_")), help);
    }
}

#[test]
fn what_is_wrong_with_a_command_line_is_said_and_its_code_is_2() {
    let wrong = [
        ("name", "cluster start a/b"),
        ("count", "cluster start -n 0"),
        ("engines", "cluster start --engines fairies"),
        ("hosts_directory", "cluster start --engines hosts -n 2"),
        ("hosts_port", "cluster start --engines hosts -n 2 --directory run"),
        ("hosts_count", "cluster start --engines hosts --directory run --listen 127.0.0.1:4700"),
        ("interval", "status --watch 0"),
        ("name_and_file", "status night --file callboard-client.json"),
        ("shell", "completions tortoise"),
        ("level", "--log loud cluster list"),
        ("executor", "compare --executors threads:2,thread:8"),
        ("command", "clutser start"),
        ("hosts_missing", "cluster start --engines ssh"),
        ("hosts_of_others", "cluster start --engines slurm -n 2 --host a"),
        ("host", "cluster start --engines ssh --host a:none"),
        ("program_of_ours", "cluster start --program /opt/engine"),
        ("launch_arg_of_ours", "cluster start --engines threads --launch-arg=-v"),
        ("count_missing", "cluster start --engines mpi --daemonize"),
    ];
    for (name, args) in wrong {
        let (code, printed, complaints) = callboard(args);
        assert_eq!((code, &*printed), (Some(2), ""), "{args}");
        insta::assert_snapshot!(format!("wrong_{name}"), complaints);
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script, complaints) = callboard(&format!("completions {shell}"));
        assert_eq!((code, &*complaints), (Some(0), ""), "{shell}");
        for word in [
            "cluster",
            "status",
            "controller",
            "engine",
            "bench",
            "compare",
            "completions",
            "start",
            "stop",
            "list",
            "daemonize",
        ] {
            assert!(script.contains(word), "{word} is not in the completions of {shell}");
        }
    }
    let (_, script, _) = callboard("completions bash");
    let mut bash = Command::new("bash");
    // What it completes `callboard cluster st` to, by the function that the script defines.
    let ask =
        "\nCOMP_WORDS=(callboard cluster st); COMP_CWORD=2; _callboard callboard st cluster; echo \"${COMPREPLY[@]}\"";
    match bash.arg("-c").arg(script + ask).output() {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "start stop", "{output:?}"),
        Err(error) => println!("skipped: there is no bash ({error})"),
    }
}
