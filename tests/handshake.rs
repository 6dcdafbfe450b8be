//! The handshake: who understands each other has a session, whoever does not is told why, in bounded time.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use callboard::task::{TaskKind, TaskTable};
use callboard::wire::handshake::{HandshakeError, Hello, Role, join, welcome};
use callboard::wire::opening::{Known, Opened, Opening, answer_opening, hear_opening, open};
use callboard::wire::retained::Received;
use callboard::{Task, task};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::Instant;

const WAIT: Duration = Duration::from_secs(3);

const WELCOME: [Role; 2] = [Role::Engine, Role::Client];

/// A table that is not sent to a peer of the same build.
static NO_TASKS: std::sync::LazyLock<TaskTable> = std::sync::LazyLock::new(TaskTable::default);

fn hello(role: Role, cluster: u64) -> Hello {
    Hello { role, cluster, incarnation: 1, build: 2 }
}

#[tokio::test(start_paused = true)]
async fn each_hears_who_the_other_is_and_what_follows_is_left_to_them() {
    let (mut here, mut there) = duplex(1_000);
    let (controller, engine) = (hello(Role::Controller, 7), hello(Role::Engine, 7));
    let (heard_here, heard_there) = tokio::join!(
        async {
            let heard = welcome(&mut here, &controller, &WELCOME, WAIT).await;
            here.write_all(b"next").await.unwrap();
            heard
        },
        join(&mut there, &engine, &NO_TASKS, WAIT)
    );
    assert_eq!((heard_here, heard_there), (Ok((engine, None)), Ok(controller)));
    let mut next = [0; 4];
    there.read_exact(&mut next).await.unwrap();
    assert_eq!(&next, b"next");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_belong_here_is_refused_and_told_why() {
    let cases = [
        (hello(Role::Engine, 8), HandshakeError::WrongCluster),
        (hello(Role::Controller, 7), HandshakeError::WrongRole(Role::Controller)),
    ];
    for (theirs, expected) in cases {
        let (mut here, mut there) = duplex(1_000);
        let ours = hello(Role::Controller, 7);
        let (refused, told) =
            tokio::join!(welcome(&mut here, &ours, &WELCOME, WAIT), join(&mut there, &theirs, &NO_TASKS, WAIT));
        assert_eq!(told, Err(HandshakeError::Refused(expected.to_string().into())));
        assert_eq!(refused, Err(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_seen_by_its_first_bytes() {
    let mismatch = HandshakeError::VersionMismatch { ours: (2, 2), theirs: (3, 9) };
    let too_large = HandshakeError::Protocol("a header of 5000 is over the limit of 4096".into());
    let long = [&b"call\x02\0\x02\0"[..], &[8, 0, 0, 0, 0, 0, 0, 0], &[0x88, 0x13, 0, 0, 0, 0, 0, 0]].concat();
    let cases = [
        (b"GET / HTTP/1.1\r\n".to_vec(), HandshakeError::NoCallboard),
        (b"call\x03\0\x09\0".to_vec(), mismatch),
        (long, too_large),
        (b"call".to_vec(), HandshakeError::Lost),
    ];
    for (bytes, expected) in cases {
        let (mut here, mut there) = duplex(1_000);
        there.write_all(&bytes).await.unwrap();
        there.shutdown().await.unwrap();
        assert_eq!(welcome(&mut here, &hello(Role::Controller, 7), &WELCOME, WAIT).await, Err(expected));
    }
    // One that says nothing.
    let (mut here, _silent) = duplex(1_000);
    let began = Instant::now();
    let late = welcome(&mut here, &hello(Role::Controller, 7), &WELCOME, WAIT).await;
    assert_eq!((late, began.elapsed()), (Err(HandshakeError::TimedOut(WAIT)), WAIT));
}

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[tokio::test(start_paused = true)]
async fn an_engine_of_another_build_says_which_tasks_it_has() {
    let other = TaskKind { fingerprint: 1, key: 9, ..*square::kind() };
    let (mut here, mut there) = duplex(1_000);
    let (controller, engine) = (hello(Role::Controller, 7), Hello { build: 3, ..hello(Role::Engine, 7) });
    let tasks = TaskTable::of([square::kind(), &other]);
    let (heard, _) =
        tokio::join!(welcome(&mut here, &controller, &WELCOME, WAIT), join(&mut there, &engine, &tasks, WAIT));
    assert_eq!(heard, Ok((engine.clone(), Some(tasks.clone()))));

    // More than is taken, and not in order.
    let many: Vec<TaskKind> = (0..60_000).map(|n| TaskKind { key: u64::MAX - n, ..*square::kind() }).collect();
    let (twice, too_many) = (TaskTable::of([&other, &other]), TaskTable::of(&many));
    for (tasks, told) in [(twice, "not in order"), (too_many, "over the limit")] {
        let (mut here, mut there) = duplex(1_000);
        let greeted = async {
            let heard = welcome(&mut here, &controller, &WELCOME, WAIT).await;
            drop(here);
            heard
        };
        let (heard, said) = tokio::join!(greeted, join(&mut there, &engine, &tasks, WAIT));
        let errors = format!("{:?} {said:?}", heard.unwrap_err());
        assert!(errors.contains(told), "{errors}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_dials_opens_a_session_and_hears_what_the_controller_has_of_it() {
    let (mut here, mut there) = duplex(1_000);
    let received = Received { control: u64::MAX, bulk: 3 };
    let opening = Opening { session: u64::MAX, epoch: 7, known: Some(Known { began: 5, received }) };
    let cases = [
        (Opened::Begun, Ok(None)),
        (Opened::Resumed(received), Ok(Some(received))),
        (Opened::Refused("there is no room".into()), Err(HandshakeError::Refused("there is no room".into()))),
    ];
    for (opened, expected) in cases {
        let answered = async {
            let heard = hear_opening(&mut here, WAIT).await;
            answer_opening(&mut here, &opened, WAIT).await.unwrap();
            heard
        };
        let (heard, answer) = tokio::join!(answered, open(&mut there, &opening, WAIT));
        assert_eq!((heard, answer), (Ok(opening), expected));
    }
    let began = Instant::now();
    assert_eq!(hear_opening(&mut here, WAIT).await, Err(HandshakeError::TimedOut(WAIT)));
    assert_eq!(open(&mut there, &opening, WAIT).await, Err(HandshakeError::TimedOut(WAIT)));
    assert_eq!(began.elapsed(), 2 * WAIT);
    // More than a stranger may say.
    let (mut here, mut there) = duplex(1_000);
    there.write_all(&[8, 0, 0, 0, 0, 0, 0, 0, 0x88, 0x13, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let too_large = HandshakeError::Protocol("a header of 5000 is over the limit of 4096".into());
    assert_eq!(hear_opening(&mut here, WAIT).await, Err(too_large));
}
