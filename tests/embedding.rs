//! At home in every kind of program: plain `main`, tokio of both flavours, actix, actix-web.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use callboard::Error;
use callboard::prelude::*;

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn nap(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// What every embedding must do, from async code.
async fn works() {
    let cluster = Cluster::threads(2).start().unwrap();
    let rc = cluster.client();
    assert_eq!(rc.load_balanced().apply(square(9)).await, Ok(81));
    assert_eq!(rc.all().apply(square(3)).await, Ok(vec![9, 9]));
    rc.wait_for_engines(2).await.unwrap();
    assert_eq!(rc.queue_status().await.unwrap().pending, 0);

    // Blocking here would stop the runtime.
    let ar = rc.load_balanced().apply(nap(30));
    assert_eq!(ar.get(), Err(TaskError::WouldBlock));
    assert_eq!(ar.get_timeout(Duration::from_secs(1)), Err(TaskError::WouldBlock));
    assert!(matches!(rc.all().apply(nap(30)).get(), Err(Error::WouldBlock)));
    assert!(matches!(rc.queue_status().get(), Err(Error::WouldBlock)));
    assert!(TaskError::WouldBlock.to_string().contains(".await"));
    // On a blocking thread of the same runtime it is fine.
    let blocking = tokio::task::spawn_blocking(move || (ar.get(), rc.all().apply(square(2)).get().unwrap()));
    assert_eq!(blocking.await.unwrap(), (Ok(30), vec![4, 4]));
    cluster.shutdown(Pending::Finish).await.unwrap();
}

/// Waiting must not stop the runtime: a background ticks meanwhile.
async fn ticks_while_it_waits() {
    let cluster = Cluster::threads(2).start().unwrap();
    let dv = cluster.client().all();
    let started = Instant::now();
    let ticking = async {
        let mut ticks = 0;
        let mut late = Duration::ZERO;
        let mut interval = tokio::time::interval(Duration::from_millis(10));
        loop {
            let due = interval.tick().await;
            late = late.max(due.elapsed());
            ticks += 1;
            if started.elapsed() > Duration::from_millis(200) {
                return (ticks, late);
            }
        }
    };
    let (values, (ticks, _late)) = tokio::join!(dv.apply(nap(200)), ticking);
    assert_eq!(values, Ok(vec![200, 200]));
    assert!(ticks >= 15, "{ticks} ticks of 10 ms in 200 ms");
}

#[test]
fn in_a_plain_main() {
    let cluster = Cluster::threads(2).start().unwrap();
    assert_eq!(cluster.client().load_balanced().apply(square(5)).get(), Ok(25));
}

#[test]
fn on_a_tokio_runtime_of_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(works());
    runtime.block_on(ticks_while_it_waits());
    runtime.block_on(async { tokio::spawn(works()).await.unwrap() });
}

#[test]
fn on_a_tokio_runtime_of_several_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(works());
    runtime.block_on(async {
        tokio::spawn(works()).await.unwrap();
        let cluster = Cluster::threads(1).start().unwrap();
        let ar = cluster.client().load_balanced().apply(nap(20));
        // Allowed where tokio has made room for it.
        assert_eq!(tokio::spawn(async move { tokio::task::block_in_place(|| ar.get()) }).await.unwrap(), Ok(20));
    });
    let _inside = runtime.enter();
    let cluster = Cluster::threads(1).start().unwrap();
    assert_eq!(cluster.client().load_balanced().apply(nap(5)).get(), Ok(5), "entered, but not driven by this thread");
}

#[test]
fn in_an_actix_system() {
    actix::System::new().block_on(async {
        works().await;
        ticks_while_it_waits().await;
        // The cluster joined the system it was started in.
        let cluster = Cluster::threads(1).start().unwrap();
        assert!(cluster.addresses().scheduler.connected());
        let arbiter = actix::Arbiter::new();
        let (tell, told) = tokio::sync::oneshot::channel();
        let rc = cluster.client();
        arbiter.spawn(async move {
            let ar = rc.load_balanced().apply(square(4));
            tell.send((ar.get(), ar.await)).unwrap();
        });
        let (blocked, awaited) = told.await.unwrap();
        assert!(blocked == Err(TaskError::WouldBlock) || blocked == Ok(16), "{blocked:?}");
        assert_eq!(awaited, Ok(16));
        arbiter.stop();
        arbiter.join().unwrap();
    });
}

#[test]
fn a_system_that_ends_first_leaves_no_result_behind() {
    let system = actix::System::new();
    let (cluster, ar) = system.block_on(async {
        let cluster = Cluster::threads(1).start().unwrap();
        let rc = cluster.client();
        drop(rc.load_balanced().apply(nap(50)));
        let ar = rc.load_balanced().apply(nap(1));
        actix::System::current().stop();
        (cluster, ar)
    });
    system.run().unwrap();
    let outcome = ar.get_timeout(Duration::from_secs(10));
    assert!(matches!(outcome, Ok(1) | Err(TaskError::Disconnected | TaskError::Cancelled { .. })), "{outcome:?}");
    drop(cluster);
}

#[test]
fn two_clusters_in_one_program_do_not_meet() {
    let (one, two) = (Cluster::threads(1).start().unwrap(), Cluster::threads(3).start().unwrap());
    assert_eq!((one.client().len(), two.client().len()), (1, 3));
    let ar = one.client().load_balanced().apply(square(2));
    let inner = two.client();
    let nested = one.client().load_balanced().apply_fn(move || inner.load_balanced().apply(square(3)).get());
    assert_eq!((ar.get(), nested.get()), (Ok(4), Ok(Ok(9))), "a task may wait for another cluster");
    drop(one);
    assert_eq!(two.client().load_balanced().apply(square(4)).get(), Ok(16));
}

#[test]
fn inside_actix_web_workers() {
    use actix_web::{App, HttpResponse, HttpServer, web};

    async fn handler(rc: web::Data<Client>, x: web::Path<u64>) -> HttpResponse {
        match rc.load_balanced().apply(square(*x)).await {
            Ok(value) => HttpResponse::Ok().body(value.to_string()),
            Err(error) => HttpResponse::ServiceUnavailable().body(error.to_string()),
        }
    }
    /// Starts a cluster of its own, inside a worker.
    async fn starts_one() -> HttpResponse {
        let cluster = Cluster::threads(1).start().unwrap();
        let value = cluster.client().load_balanced().apply(square(11)).await.unwrap();
        cluster.shutdown(Pending::Finish).await.unwrap();
        HttpResponse::Ok().body(value.to_string())
    }
    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.rsplit("\r\n").next().unwrap().to_string()
    }

    actix_web::rt::System::new().block_on(async {
        let cluster = Cluster::threads(2).start().unwrap();
        let rc = web::Data::new(cluster.client());
        let app = move || {
            App::new()
                .app_data(rc.clone())
                .route("/own", web::get().to(starts_one))
                .route("/{x}", web::get().to(handler))
        };
        let server = HttpServer::new(app).workers(2).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        for x in 0..20_u64 {
            assert_eq!(get(address, &format!("/{x}")).await, (x * x).to_string());
        }
        assert_eq!(get(address, "/own").await, "121");
        handle.stop(true).await;
        cluster.shutdown(Pending::Finish).await.unwrap();
    });
}
