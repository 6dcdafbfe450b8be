//! Sessions that outlive their connections, on the controller's side: whose each is, and how a peer comes back to its own.
//!
//! One task owns a session. A peer that has lost its connection dials again, shows who it is as anybody, and names the
//! session; its new connection is handed to the owner, who has the session go on over it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use actix::prelude::*;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::gate::STRANGER_WAIT;
use super::network::Connection;
use crate::remote::{NOT_RESUMED, Said, attend};
use crate::wire::handshake::Role;
use crate::wire::opening::{Opened, Opening, answer_opening};
use crate::wire::retained::Received;
use crate::wire::session::{Ending, Speaker};

/// The sessions that there are, by what their peers are and the numbers that these gave them.
#[derive(Default)]
pub(super) struct HeldSessions(Mutex<HashMap<(Role, u64), Entry>>);

struct Entry {
    /// With which connection it began, as far as the peer knows.
    began: u32,
    /// Which connection of the session came last.
    epoch: u32,
    next: mpsc::Sender<Comeback>,
}

/// A peer has come back, over another connection.
pub(super) struct Comeback {
    stream: Box<dyn Connection>,
    /// What it has received; `None` if it was not told that the session has begun.
    received: Option<Received>,
}

/// Connections of one session that its owner has not taken: the last one counts, and others are given up.
const COMEBACKS_MAX: usize = 4;

/// A session, for its owner. Nobody comes back to it once this is dropped.
pub(super) struct HeldSession<'a> {
    all: &'a HeldSessions,
    key: (Role, u64),
    next: mpsc::Receiver<Comeback>,
    pub(super) speaker: Speaker,
}

impl HeldSessions {
    /// Hands a connection to the owner of the session that its peer had; gives it back where there is none.
    pub(super) fn hand_over(
        &self,
        role: Role,
        opening: Opening,
        stream: Box<dyn Connection>,
    ) -> Result<(), Box<dyn Connection>> {
        let mut all = self.0.lock();
        let Some(entry) = all.get_mut(&(role, opening.session)) else { return Err(stream) };
        if opening.epoch <= entry.epoch {
            // It was on its way for long: another has taken its place. Dropping it ends it.
            return Ok(());
        }
        entry.epoch = opening.epoch;
        let known = opening.known.filter(|known| known.began == entry.began);
        let received = known.map(|known| known.received);
        if received.is_none() {
            // For its peer it begins now.
            entry.began = opening.epoch;
        }
        // Where there is no room its peer dials again.
        drop(entry.next.try_send(Comeback { stream, received }));
        Ok(())
    }

    /// Begins a session; `None` if its number is another's.
    pub(super) fn begin(&self, role: Role, opening: Opening, speaker: Speaker) -> Option<HeldSession<'_>> {
        let (tell, next) = mpsc::channel(COMEBACKS_MAX);
        let key = (role, opening.session);
        let mut all = self.0.lock();
        if all.contains_key(&key) {
            return None;
        }
        all.insert(key, Entry { began: opening.epoch, epoch: opening.epoch, next: tell });
        Some(HeldSession { all: self, key, next, speaker })
    }

    /// Has nobody come back to a session any more: where its owner waits for that, it does not wait longer.
    pub(super) fn give_up(&self, role: Role, session: u64) {
        self.0.lock().remove(&(role, session));
    }
}

impl HeldSession<'_> {
    /// Speaks with the peer over this connection, and over those with which it comes back, until the session ends or the
    /// peer stays away for longer than `wait` says; returns how it ended.
    pub(super) async fn attend<A>(
        &mut self,
        first: Box<dyn Connection>,
        actor: &Addr<A>,
        wait: impl Fn(&Ending) -> Duration,
    ) -> Ending
    where
        A: Actor<Context = Context<A>> + Handler<Said>,
    {
        match self.attend_all(first, actor, wait).await {
            Err(ending) => ending,
            Ok(never) => match never {},
        }
    }

    async fn attend_all<A>(
        &mut self,
        first: Box<dyn Connection>,
        actor: &Addr<A>,
        wait: impl Fn(&Ending) -> Duration,
    ) -> Result<Infallible, Ending>
    where
        A: Actor<Context = Context<A>> + Handler<Said>,
    {
        let mut stream = first;
        loop {
            let (reader, writer) = tokio::io::split(stream);
            let ending = tokio::select! {
                biased;
                // It may be back before the end of its old connection is noticed here. That is dropped then.
                Some(comeback) = self.next.recv() => match self.resume(comeback).await {
                    Ok(resumed) => {
                        stream = resumed;
                        continue;
                    }
                    Err(ending) => ending,
                },
                ending = attend(reader, writer, &self.speaker, actor) => ending,
            };
            stream = self.wait_for_comeback(ending, &wait).await?;
        }
    }

    /// Waits until the peer is back; else returns how the session ended.
    async fn wait_for_comeback(
        &mut self,
        mut ending: Ending,
        wait: &impl Fn(&Ending) -> Duration,
    ) -> Result<Box<dyn Connection>, Ending> {
        if !self.speaker.has_ended() {
            let (role, session) = self.key;
            tracing::info!(?role, session = format_args!("{session:x}"), %ending, "a connection is lost; its peer may come back");
        }
        while !self.speaker.has_ended() {
            let waits = wait(&ending);
            let mut came = timeout(waits, self.next.recv()).await;
            if came.is_err() {
                // We may have stood still meanwhile, and know it now.
                came = timeout(wait(&ending).saturating_sub(waits), self.next.recv()).await;
            }
            let Ok(Some(comeback)) = came else {
                self.speaker.abandon(NOT_RESUMED);
                break;
            };
            match self.resume(comeback).await {
                Ok(stream) => return Ok(stream),
                Err(lost) => ending = lost,
            }
        }
        Err(ending)
    }

    async fn resume(&self, comeback: Comeback) -> Result<Box<dyn Connection>, Ending> {
        let Comeback { mut stream, received } = comeback;
        let ours = self.speaker.suspend();
        // Where the peer does not know of the session, it has said nothing in it and heard nothing.
        let opened = if received.is_some() { Opened::Resumed(ours) } else { Opened::Begun };
        answer_opening(&mut stream, &opened, STRANGER_WAIT).await.map_err(|_| Ending::Lost)?;
        match self.speaker.resume(received.unwrap_or_default()) {
            Ok(()) => Ok(stream),
            Err(error) => {
                self.speaker.abandon(error.to_string());
                Err(Ending::Protocol(error.to_string().into()))
            }
        }
    }
}

impl Drop for HeldSession<'_> {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::net::backoff::Backoff;
    use crate::net::dialler::Dialler;
    use crate::net::way::{self, Failed, Way};
    use crate::wire::handshake::{Hello, welcome};
    use crate::wire::opening::hear_opening;
    use crate::wire::session::SessionLimits;

    impl Connection for DuplexStream {
        fn lift(&mut self) {}
    }

    /// Hands the other end of each connection to a controller.
    struct Handed(mpsc::UnboundedSender<DuplexStream>);

    impl Way for Handed {
        async fn connect(&self, _: &str) -> Result<Box<dyn way::Connection>, Failed> {
            let (here, there) = duplex(1 << 10);
            self.0.send(there).map_err(|_| Failed::ForGood("the test is over".into()))?;
            Ok(Box::new(here))
        }

        fn draw(&self) -> u64 {
            7
        }
    }

    fn hello(role: Role) -> Hello {
        Hello { role, cluster: 1, incarnation: 1, build: 1 }
    }

    async fn greet(dialled: &mut mpsc::UnboundedReceiver<DuplexStream>) -> (DuplexStream, Opening) {
        let mut stream = dialled.recv().await.unwrap();
        welcome(&mut stream, &hello(Role::Controller), &[Role::Engine], STRANGER_WAIT).await.unwrap();
        let opening = hear_opening(&mut stream, STRANGER_WAIT).await.unwrap();
        (stream, opening)
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_goes_on_for_a_peer_that_was_told_of_it_and_begins_for_any_other() {
        let (tell, mut dialled) = mpsc::unbounded_channel();
        let (search, tasks) = (Duration::from_secs(60), Default::default());
        let dialler = Dialler {
            address: "here".into(),
            search,
            way: Handed(tell),
            hello: hello(Role::Engine),
            tasks,
            is_leashed: false,
        };
        let (mut theirs, mut backoff) = (dialler.session(SessionLimits::LASTING), Backoff::from_now());
        let held = HeldSessions::default();
        let mut ours = None;
        // The first time there is none; the second time it was given up.
        for _ in 0..2 {
            drop(ours.take());
            let controller = async {
                let (stream, opening) = greet(&mut dialled).await;
                let stream = held.hand_over(Role::Engine, opening, Box::new(stream)).err().unwrap();
                let mut session = held.begin(Role::Engine, opening, Speaker::lasting(SessionLimits::LASTING)).unwrap();
                // Its answer is lost, and the peer comes back without it.
                drop(stream);
                let (stream, opening) = greet(&mut dialled).await;
                assert!(held.hand_over(Role::Engine, opening, Box::new(stream)).is_ok());
                let comeback = session.next.recv().await.unwrap();
                let stream = session.resume(comeback).await.unwrap_or_else(|ending| panic!("{ending}"));
                (session, stream)
            };
            let ((mut session, stream), opened) = tokio::join!(controller, dialler.open(&mut theirs, &mut backoff));
            assert!(!opened.unwrap().1, "it begins");
            drop(stream);
            let controller = async {
                let (stream, opening) = greet(&mut dialled).await;
                assert!(held.hand_over(Role::Engine, opening, Box::new(stream)).is_ok());
                let comeback = session.next.recv().await.unwrap();
                session.resume(comeback).await.unwrap_or_else(|ending| panic!("{ending}"))
            };
            let (_, opened) = tokio::join!(controller, dialler.open(&mut theirs, &mut backoff));
            assert!(opened.unwrap().1, "it goes on");
            ours = Some(session);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_still_while_it_waits_for_a_peer_waits_for_longer() {
        let held = HeldSessions::default();
        let opening = Opening { session: 1, epoch: 1, known: None };
        for (stands_still, is_back) in [(true, true), (false, false)] {
            let speaker = Speaker::lasting(SessionLimits::LASTING);
            let mut session = held.begin(Role::Engine, opening, speaker).unwrap();
            let began = Instant::now();
            let wait = |_: &Ending| match began.elapsed() {
                waited if stands_still && waited > Duration::ZERO => Duration::from_secs(10),
                _ => Duration::from_millis(500),
            };
            let (here, _there) = duplex(1 << 10);
            let back = async {
                sleep(Duration::from_secs(9)).await;
                let opening = Opening { epoch: 2, ..opening };
                assert_eq!(held.hand_over(Role::Engine, opening, Box::new(here)).is_ok(), is_back);
            };
            let waiting = async {
                let came = session.wait_for_comeback(Ending::Lost, &wait).await.is_ok();
                drop(session);
                came
            };
            assert_eq!(tokio::join!(waiting, back).0, is_back);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_session_that_its_peer_has_given_up() {
        let held = HeldSessions::default();
        let opening = Opening { session: 7, epoch: 1, known: None };
        let mut session = held.begin(Role::Client, opening, Speaker::lasting(SessionLimits::LASTING)).unwrap();
        let (speaker, began) = (session.speaker.clone(), Instant::now());
        let gives_up = async {
            sleep(Duration::from_secs(1)).await;
            speaker.abandon("it has begun another");
            held.give_up(Role::Client, 7);
        };
        let minute = |_: &Ending| Duration::from_secs(60);
        let (waited, ()) = tokio::join!(session.wait_for_comeback(Ending::Lost, &minute), gives_up);
        assert!(waited.is_err());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
