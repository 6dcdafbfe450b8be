//! The web service of `examples/05_web_service.rs`, over real connections.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

mod support;
use support::{eventually, example};

/// A prime: trial division takes seconds at the least.
const HEAVY: &str = "/factor/18446744073709551557";

/// The service's engines, and how many requests it lets in.
const ENGINES: usize = 2;
const PENDING_MAX: usize = 4;

struct Service {
    child: Child,
    address: SocketAddr,
    out: BufReader<ChildStdout>,
}

impl Service {
    fn start() -> Self {
        let mut child =
            Command::new(example("05_web_service")).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("the address").parse().unwrap();
        Self { child, address, out }
    }

    /// Sends a request and leaves it there.
    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    /// Returns the answer's status and text, headers included.
    fn get(&self, path: &str) -> (u16, String) {
        read(self.ask(path))
    }

    /// Returns how many tasks are pending, how many engines are busy, how many tasks were cancelled.
    fn status(&self) -> (usize, usize, usize) {
        let (code, text) = self.get("/status");
        assert_eq!(code, 200, "{text}");
        let line = text.lines().last().unwrap();
        let numbers: Vec<usize> =
            line.split(", ").map(|part| part.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        (numbers[0], numbers[1], numbers[2])
    }

    /// Keeps every engine busy; returns the connections.
    fn keep_busy(&self) -> Vec<TcpStream> {
        let heavy = (0..ENGINES).map(|_| self.ask(HEAVY)).collect();
        eventually("every engine is busy", || self.status().1 == ENGINES);
        heavy
    }

    fn terminate(&self) {
        let kill = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end of the process; returns whether it succeeded, and what else it printed.
    fn end(mut self) -> (bool, String) {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (status.unwrap().success(), rest)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut stream: TcpStream) -> (u16, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or_else(|| panic!("no answer: {answer:?}")), answer)
}

#[test]
fn light_requests_are_answered_while_every_engine_is_busy() {
    let service = Service::start();
    let heavy = service.keep_busy();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let started = Instant::now();
            let (code, text) = service.get("/health");
            assert!(code == 200 && text.ends_with("ok\n"), "{text}");
            started.elapsed()
        })
        .collect();
    assert_eq!(service.status(), (ENGINES, ENGINES, 0), "the heavy ones were running all the time");
    times.sort_unstable();
    println!("light requests beside busy engines: p50 {:?}, p99 {:?}, most {:?}", times[100], times[198], times[199]);
    assert!(times[199] < Duration::from_secs(1), "{:?}", times[199]);
    drop(heavy);
}

#[test]
fn a_client_that_goes_away_frees_its_engine() {
    let service = Service::start();
    let heavy = service.keep_busy();
    let waiting = service.ask("/factor/91");
    eventually("the next one waits", || service.status() == (ENGINES + 1, ENGINES, 0));
    drop(heavy);
    let started = Instant::now();
    let (code, text) = read(waiting);
    assert!(code == 200 && text.ends_with("\n7\n"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(5), "at once, not after the heavy ones: {:?}", started.elapsed());
    eventually("both are cancelled and both engines are free", || service.status() == (0, 0, ENGINES));
}

#[test]
fn what_goes_wrong_has_its_status_code() {
    let service = Service::start();
    let (code, text) = service.get("/factor/1");
    assert!(code == 422 && text.contains("1 has no prime factor"), "{text}");
    assert_eq!(service.get("/factor/many").0, 404);

    let mut heavy = service.keep_busy();
    heavy.extend((ENGINES..PENDING_MAX).map(|_| service.ask(HEAVY)));
    eventually("as many as it lets in", || service.status().0 == PENDING_MAX);
    let (code, text) = service.get("/factor/91");
    assert!(code == 503 && text.to_lowercase().contains("retry-after: 1"), "{text}");
    assert!(text.contains("tasks: 4 are pending already"), "{text}");
    drop(heavy);
    eventually("there is room again", || service.get("/factor/91").0 == 200);
}

#[test]
fn a_busy_service_ends_in_order() {
    let service = Service::start();
    let (code, text) = service.get("/factor/35");
    assert!(code == 200 && text.ends_with("\n5\n"), "{text}");
    let heavy = service.keep_busy();
    service.terminate();
    eventually("no new request is let in", || TcpStream::connect(service.address).is_err());
    // Requests under way have some seconds; then their handlers are dropped and their tasks cancelled.
    let (is_success, rest) = service.end();
    assert!(is_success);
    assert_eq!(rest, "ended in order\n");
    drop(heavy);
}
