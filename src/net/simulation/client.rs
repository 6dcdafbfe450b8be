//! A client elsewhere: submits work while its connections are cut, and judges what becomes of it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::{Faults, Scene, dialler, limits};
use crate::actors::Threads;
use crate::client::Client;
use crate::net::client::Line;
use crate::registry::Registry;
use crate::remote::simulation::{FAULTS_S, PATIENCE, Random, Square, is_shy};
use crate::task::Retries;
use crate::wire::handshake::Role;
use crate::{AsyncMapResult, AsyncResult, Error, With};

/// How long after the last fault everybody is there again.
const CALM: Duration = Duration::from_secs(20);

/// What was submitted together, and what it may come to. Its tasks have the numbers from `first` on.
struct Submitted {
    first: u64,
    retries: Retries,
    is_kept: bool,
    is_cancelled: bool,
    results: Results,
}

enum Results {
    Each(Vec<AsyncResult<u64>>),
    Map(AsyncMapResult<u64>),
}

/// A client with what it has submitted.
struct Customer {
    scene: Rc<Scene>,
    random: Random,
    rc: Client,
    next: u64,
    submitted: Vec<Submitted>,
    /// Values that were asked for by the ids of their tasks.
    fetched: Vec<(u64, JoinHandle<Result<u64, Error>>)>,
}

/// Connects, works until the faults are over and once more then, and leaves. Its tasks have numbers of their own, from
/// `first` on.
pub(super) async fn client(host: String, first: u64, seed: u64, scene: Rc<Scene>) -> turmoil::Result {
    let mut random = Random(seed);
    let (rc, speaking) = connected(&host, &mut random, &scene).await?;
    let mut customer =
        Customer { scene: scene.clone(), random, rc, next: first, submitted: Vec::new(), fetched: Vec::new() };
    while turmoil::sim_elapsed().unwrap_or_default() < Duration::from_secs(FAULTS_S) {
        customer.submit();
        customer.ask_for_something().await;
        sleep(customer.random.ms(300)).await;
    }
    customer.judge().await;
    sleep(CALM).await;
    // Whatever has become of it, it works again.
    let again = customer.rc.load_balanced().map(Square, 0..10);
    scene.count(0..10);
    assert_eq!(timeout(PATIENCE, again).await.expect("it settles in time"), Ok((0..10).map(|x| x * x).collect()));
    let records = customer.rc.records().await?;
    assert_eq!(records.len() as u64, customer.next - first + 10, "each has settled, and once");
    drop(customer);
    timeout(PATIENCE, speaking).await.expect("it leaves in time")?;
    scene.clients.set(scene.clients.get() - 1);
    Ok(())
}

/// Connects, sooner or later.
async fn connected(
    host: &str,
    random: &mut Random,
    scene: &Rc<Scene>,
) -> Result<(Client, JoinHandle<()>), Box<dyn std::error::Error>> {
    loop {
        let client = random.next();
        let dialler = dialler(Role::Client, host, Duration::from_secs(10), client, scene)?;
        let line = Line { dialler, client, asker: Arc::default() };
        let (tell, told) = oneshot::channel();
        // Nobody waits for the end of a thread.
        let (_, ended) = std::sync::mpsc::channel();
        let speaking = line.speak(limits(), Registry::auto()?, Arc::new(Threads::default()), tell, ended);
        let speaking = spawn_local(speaking);
        match told.await? {
            Ok(rc) => return Ok((rc, speaking)),
            Err(error) => scene.world.note(format!("{host}: {error}")),
        }
    }
}

impl Customer {
    fn submit(&mut self) {
        let Self { random, rc, next, .. } = self;
        let view = rc.load_balanced();
        let (first, errors, losses) = (*next, random.below(3) as u16, random.below(4) as u16);
        let with = view.with().retries(errors).retries_on_loss(losses);
        let is_kept = random.once_in(4);
        let with = if is_kept { with.keep() } else { with };
        let results = if random.once_in(5) {
            let items = 1 + random.below(40);
            let with = if random.once_in(2) { with.chunksize(1 + random.below(20) as u32) } else { with };
            let map = with.map(Square, first..first + items);
            *next += items;
            if random.once_in(2) { Results::Each(map.split()) } else { Results::Map(map) }
        } else {
            *next += 1;
            Results::Each(vec![with.apply(Square(first))])
        };
        self.scene.count(first..*next);
        let retries = Retries { errors, losses };
        self.submitted.push(Submitted { first, retries, is_kept, is_cancelled: false, results });
    }

    /// Cancels, gives up or fetches something, or asks how it goes.
    async fn ask_for_something(&mut self) {
        let Self { random, rc, submitted, .. } = self;
        let at = random.below(submitted.len() as u64) as usize;
        match random.below(40) {
            0..3 => {
                submitted[at].is_cancelled = true;
                let count = match &submitted[at].results {
                    Results::Map(map) => map.cancel("no need"),
                    Results::Each(each) => each.iter().filter(|one| random.once_in(2) && one.cancel("no need")).count(),
                };
                self.scene.cancelled.set(self.scene.cancelled.get() + count as u64);
            }
            3..5 => drop(submitted.swap_remove(at)),
            5..9 => {
                if let Submitted { first, results: Results::Each(each), is_kept: true, .. } = &submitted[at]
                    && !is_shy(*first)
                {
                    let one = &each[0];
                    let value = rc.fetch(one.id());
                    self.fetched.push((*first, spawn_local(value)));
                }
            }
            9 => {
                let status = timeout(PATIENCE, rc.queue_status()).await.expect("it is answered in time");
                let is_away = matches!(status, Err(Error::Disconnected));
                assert!(status.is_ok() || is_away && self.scene.faults == Faults::All, "{status:?}");
            }
            _ => {}
        }
    }

    /// Waits for all, and judges it.
    async fn judge(&mut self) {
        for (x, value) in std::mem::take(&mut self.fetched) {
            match timeout(PATIENCE, value).await.expect("it is answered in time").expect("nothing panics") {
                Ok(value) => assert_eq!(value, x * x),
                Err(error) => self.scene.judge_answer(error),
            }
        }
        for Submitted { first, retries, is_cancelled, results, .. } in std::mem::take(&mut self.submitted) {
            let each = match results {
                Results::Each(each) => each,
                Results::Map(map) => map.split(),
            };
            for (x, one) in (first..).zip(each) {
                let id = one.id();
                let outcome = timeout(PATIENCE, one).await.expect("it settles in time");
                self.scene.judge_outcome(x, id, retries, is_cancelled, outcome);
            }
        }
    }
}
