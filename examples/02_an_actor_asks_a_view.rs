//! An actor that has work done elsewhere, and handles other messages meanwhile: two ways.
//!
//! `cargo run --example 02_an_actor_asks_a_view`

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use callboard::LoadBalancedView;
use callboard::prelude::*;

/// Ends the work that follows; real work ends by itself.
static ENOUGH: AtomicBool = AtomicBool::new(false);

/// Stands for work that takes long.
#[task]
fn square_slowly(x: u64) -> u64 {
    while !ENOUGH.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
    x * x
}

struct Clerk {
    view: LoadBalancedView,
    answered: usize,
}

impl Actor for Clerk {
    type Context = Context<Self>;
}

/// A question that is answered with the value.
#[derive(Message)]
#[rtype(result = "Result<u64, TaskError>")]
struct Square(u64);

/// The first way: the answer is a future that the actor polls between its messages. What follows it has the
/// actor's state at hand.
impl Handler<Square> for Clerk {
    type Result = ResponseActFuture<Self, Result<u64, TaskError>>;

    fn handle(&mut self, msg: Square, _: &mut Context<Self>) -> Self::Result {
        let ar = self.view.apply(square_slowly(msg.0));
        Box::pin(ar.into_actor(self).map(|outcome, clerk, _| {
            clerk.answered += 1;
            outcome
        }))
    }
}

/// An order that nobody waits for.
#[derive(Message)]
#[rtype(result = "Result<(), callboard::Error>")]
struct Note(u64);

/// What comes back of it.
#[derive(Message)]
#[rtype(result = "()")]
struct Noted(Result<u64, TaskError>);

impl From<Result<u64, TaskError>> for Noted {
    fn from(outcome: Result<u64, TaskError>) -> Self {
        Self(outcome)
    }
}

/// The second way: the value comes as a message of the actor's own.
impl Handler<Note> for Clerk {
    type Result = Result<(), callboard::Error>;

    fn handle(&mut self, msg: Note, ctx: &mut Context<Self>) -> Self::Result {
        self.view.apply(square_slowly(msg.0)).pipe_to(ctx.address().recipient::<Noted>())
    }
}

impl Handler<Noted> for Clerk {
    type Result = ();

    fn handle(&mut self, msg: Noted, _: &mut Context<Self>) {
        self.answered += 1;
        match msg.0 {
            Ok(value) => println!("noted {value}"),
            Err(error) => println!("{error}"),
        }
    }
}

/// Asks how many questions were answered so far.
#[derive(Message)]
#[rtype(result = "usize")]
struct HowMany;

impl Handler<HowMany> for Clerk {
    type Result = usize;

    fn handle(&mut self, _: HowMany, _: &mut Context<Self>) -> usize {
        self.answered
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::threads(1).start()?;
    let clerk = Clerk { view: cluster.client().load_balanced(), answered: 0 }.start();

    let square = clerk.send(Square(7));
    clerk.send(Note(9)).await??;
    for _ in 0..2 {
        println!("{} answered, and the clerk talks", clerk.send(HowMany).await?);
    }
    ENOUGH.store(true, Ordering::Release);
    let square = square.await??;
    while clerk.send(HowMany).await? < 2 {
        actix::clock::sleep(Duration::from_millis(1)).await;
    }
    println!("the square is {square}; 2 answered");
    cluster.shutdown(Pending::Finish).await?;
    Ok(())
}
