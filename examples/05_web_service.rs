//! A web service that keeps its heavy work on engines, and so answers everything else at once.
//!
//! `cargo run --release --example 05_web_service -- 127.0.0.1:8080`, then
//! `curl localhost:8080/factor/1000000016000000063`. Ctrl-C or SIGTERM ends it in order.

use std::fmt;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{App, HttpResponse, HttpServer, ResponseError, get, web};
use callboard::prelude::*;
use callboard::{Limits, Status};

/// Engines: as many as there are processors to spare.
const ENGINES: usize = 2;

/// Requests that may be at work or wait for an engine; more are told to come back.
const PENDING_MAX: usize = 4;

/// The smallest prime factor. Looks now and then whether anybody still wants it.
#[task]
fn factor(cx: &TaskContext, n: u64) -> Result<u64, String> {
    for (i, d) in (2..).take_while(|d| *d <= n / d).enumerate() {
        if n.is_multiple_of(d) {
            return Ok(d);
        }
        if i.is_multiple_of(1 << 16) && cx.is_cancelled() {
            return Err("nobody wants it any more".into());
        }
    }
    if n < 2 { Err(format!("{n} has no prime factor")) } else { Ok(n) }
}

/// A task that ended without a value, as an HTTP answer.
#[derive(Debug)]
struct Failure(TaskError);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0)
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        match self.0 {
            // The task's own error: the request asked for something that is not there.
            TaskError::Failed { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            TaskError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            // Too much to do, or no engine at the moment: another time it may work.
            TaskError::Overloaded { .. } | TaskError::EngineLost { .. } => StatusCode::SERVICE_UNAVAILABLE,
            // The service ends.
            TaskError::Cancelled { .. } | TaskError::Disconnected => StatusCode::SERVICE_UNAVAILABLE,
            // A bug of ours.
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if self.status_code() == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        response.body(self.to_string())
    }
}

#[get("/factor/{n}")]
async fn factor_of(rc: web::Data<Client>, n: web::Path<u64>) -> Result<String, Failure> {
    let view = rc.load_balanced().with().deadline(Duration::from_secs(60));
    // A client that goes away has its handler dropped, and with it the task.
    let factor = view.apply(factor(*n)).cancel_on_drop().await.map_err(Failure)?;
    Ok(format!("{factor}\n"))
}

#[get("/health")]
async fn health() -> &'static str {
    "ok\n"
}

#[get("/status")]
async fn status(rc: web::Data<Client>) -> HttpResponse {
    let (Ok(now), Ok(records)) = (rc.queue_status().await, rc.records().await) else {
        return HttpResponse::ServiceUnavailable().finish();
    };
    let busy = now.engines.iter().filter(|engine| engine.outstanding > 0).count();
    let cancelled = records.iter().filter(|record| record.status == Status::Cancelled).count();
    HttpResponse::Ok().body(format!("pending {}, busy {busy}, cancelled {cancelled}\n", now.pending))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let mut limits = Limits::default();
    limits.pending_tasks_max = PENDING_MAX;
    // `/status` reads them all.
    limits.records_max = 1_000;
    let cluster = Cluster::threads(ENGINES).limits(limits).start()?;
    let rc = web::Data::new(cluster.client());

    let app = move || App::new().app_data(rc.clone()).service(factor_of).service(health).service(status);
    let server = HttpServer::new(app)
        .workers(2)
        // Or actix-web would not notice that a client went away before the answer is written.
        .h1_allow_half_closed(false)
        .shutdown_timeout(3)
        .bind(address)?;
    for address in server.addrs() {
        println!("listening on {address}");
    }
    // Until Ctrl-C or SIGTERM; requests under way get some seconds more.
    server.run().await?;
    cluster.shutdown(Pending::Cancel).await?;
    println!("ended in order");
    Ok(())
}
