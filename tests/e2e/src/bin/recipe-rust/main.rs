//! A server on the sockets that it is given (`LISTEN_FDS`); it ends when its clients know.

mod app;

use std::convert::Infallible;
use std::error::Error;
use std::os::fd::FromRawFd as _;
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// How long a stopping server keeps idle connections, each answer saying `Connection: close`.
/// Longer than the proxy keeps one (`docs/recipes/README.md`, "The proxy in front").
const LINGER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Serving,
    /// Nothing is accepted any more; answers close their connection.
    Lingering,
    /// What is idle is closed; what has begun is finished.
    Ending,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Whatever can fail at the start fails before anything is served.
    app::load()?;
    let count: i32 = std::env::var("LISTEN_FDS")?.parse()?;
    let (phase, watched) = watch::channel(Phase::Serving);
    // Each connection has a sender: the last one is dropped when all of them have ended.
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let mut terminated = signal(SignalKind::terminate())?;
    for fd in 3..3 + count {
        // SAFETY: whoever set LISTEN_FDS has opened these descriptors for us, and nobody else takes them.
        let listener = unsafe { std::net::TcpListener::from_raw_fd(fd) };
        listener.set_nonblocking(true)?;
        tokio::spawn(accept(TcpListener::from_std(listener)?, watched.clone(), alive.clone()));
    }
    drop(alive);
    terminated.recv().await;
    phase.send(Phase::Lingering)?;
    let _ = tokio::time::timeout(LINGER, ended.recv()).await;
    // Without receivers there is nothing left to tell.
    let _ = phase.send(Phase::Ending);
    ended.recv().await;
    Ok(())
}

async fn accept(listener: TcpListener, mut phase: watch::Receiver<Phase>, alive: mpsc::Sender<()>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (phase, alive) = (phase.clone(), alive.clone());
                    tokio::spawn(async move {
                        serve(stream, phase).await;
                        drop(alive);
                    });
                }
                // Out of descriptors, most likely: some will be closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            // New connections stay in the kernel's queue for the process beside this one.
            _ = phase.changed() => return,
        }
    }
}

async fn serve(stream: TcpStream, mut phase: watch::Receiver<Phase>) {
    let watched = phase.clone();
    let service = service_fn(move |request| {
        let watched = watched.clone();
        async move {
            let mut response = app::answer(request).await;
            if *watched.borrow() != Phase::Serving {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection =
        std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let is_over = async { phase.wait_for(|phase| *phase == Phase::Ending).await.is_ok() };
    tokio::select! {
        // An error is the client's: it has gone.
        _ = connection.as_mut() => {}
        _ = is_over => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
