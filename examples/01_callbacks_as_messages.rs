//! The end of a task as an actor's message: `on_done` tells that it ended, `pipe_to` brings the value itself.
//!
//! `cargo run --example 01_callbacks_as_messages`

use actix::prelude::*;
use callboard::prelude::*;
use callboard::{Error, LoadBalancedView};

/// The whole root of a square number.
#[task]
fn root(x: i64) -> Result<i64, String> {
    (0..=x).find(|r| r * r == x).ok_or(format!("{x} is no square"))
}

/// What a task returned, as a message of our own.
#[derive(Message)]
#[rtype(result = "()")]
struct Root(Result<i64, TaskError>);

impl From<Result<i64, TaskError>> for Root {
    fn from(outcome: Result<i64, TaskError>) -> Self {
        Self(outcome)
    }
}

/// Asks for one root after the other; never waits for any.
struct Student {
    view: LoadBalancedView,
    to_do: Vec<i64>,
}

impl Student {
    fn ask_next(&mut self, me: Addr<Self>) -> Result<(), Error> {
        let Some(x) = self.to_do.pop() else {
            System::current().stop();
            return Ok(());
        };
        let ar = self.view.apply(root(x));
        // Both come through the mailbox, in the order in which they are asked for here.
        ar.on_done(me.clone().recipient())?;
        ar.pipe_to(me.recipient::<Root>())
    }
}

impl Actor for Student {
    type Context = Context<Self>;
}

impl Handler<TaskDone> for Student {
    type Result = ();

    fn handle(&mut self, msg: TaskDone, _: &mut Context<Self>) {
        println!("{} {} at attempt {}", msg.record.name(), msg.record.status, msg.record.attempt);
    }
}

impl Handler<Root> for Student {
    type Result = ();

    fn handle(&mut self, msg: Root, ctx: &mut Context<Self>) {
        match msg.0 {
            Ok(value) => println!("the root is {value}"),
            Err(TaskError::Failed { text, .. }) => println!("there is none: {text}"),
            Err(error) => println!("{error}"),
        }
        if let Err(error) = self.ask_next(ctx.address()) {
            println!("{error}");
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = System::new();
    // Started inside the system, the cluster's actors live in it.
    let (cluster, _student) = system.block_on(async {
        let cluster = Cluster::threads(2).start()?;
        let mut student = Student { view: cluster.client().load_balanced(), to_do: vec![50, 49] };
        let student = Student::create(|ctx| {
            let asked = student.ask_next(ctx.address());
            asked.unwrap_or_else(|error| println!("{error}"));
            student
        });
        // Who holds no address of an actor loses the actor: a callback lets its own go once it has spoken.
        Ok::<_, Error>((cluster, student))
    })?;
    system.run()?;
    drop(cluster);
    Ok(())
}
