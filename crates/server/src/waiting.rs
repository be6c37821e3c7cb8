//! What a process answers that cannot serve yet, because its engine is not there.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::body::Body;
use tracing::debug;

use crate::grpc::is_grpc;
use crate::serve::Listener;
use crate::tls::TlsAcceptor;

/// Connections that are answered at the same time; further ones wait to be accepted. Probes and the first clients.
const CONNECTIONS_MAX: usize = 256;

/// Runs `work`, and meanwhile says on `listeners` that the process lives and is not ready: `/livez` is ok, `/readyz`,
/// `/health` and every call of gRPC say `why`. Connections are closed when the work is done, so that clients come again.
///
/// Cancel-safety: dropping it drops the work.
pub async fn while_waiting<T>(listeners: &[&Listener], why: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let mut connections: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + '_>>> =
        FuturesUnordered::new();
    loop {
        let room = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            // What is waited for first: nobody has to be told any more when it is there.
            biased;
            done = &mut work => return done,
            Some(()) = connections.next() => {}
            (stream, tls) = accept(listeners), if room => {
                connections.push(Box::pin(answer_on(stream, tls, why)));
            }
        }
    }
}

/// The next connection on any of the listeners. One that fails is passed over: the real server looks into that.
async fn accept<'a>(listeners: &[&'a Listener]) -> (TcpStream, Option<&'a TlsAcceptor>) {
    let accepting = listeners.iter().map(|listener| {
        Box::pin(async move {
            match listener.socket.accept().await {
                Ok((stream, _)) => (stream, listener.tls.as_ref()),
                Err(error) => {
                    debug!(%error, "a connection could not be accepted");
                    std::future::pending().await
                }
            }
        })
    });
    futures_util::future::select_all(accepting).await.0
}

async fn answer_on(stream: TcpStream, tls: Option<&TlsAcceptor>, why: &str) {
    match tls {
        None => answer_all(stream, why).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(accepted) => answer_all(accepted.stream, why).await,
            Err(error) => debug!(%error, "a TLS handshake failed"),
        },
    }
}

async fn answer_all<S>(stream: S, why: &str)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&request, why);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        debug!(error, "a connection ended");
    }
}

fn answer<B>(request: &Request<B>, why: &str) -> Response<Body> {
    if is_grpc(request) {
        return Status::unavailable(format!("etcdserver: not ready: {why}")).into_http();
    }
    let (status, text) = match request.uri().path() {
        path if path == "/livez" || path.starts_with("/livez/") => (StatusCode::OK, "ok\n".to_owned()),
        path if path == "/readyz" || path.starts_with("/readyz/") => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("[-]engine failed: {why}\n"))
        }
        "/health" => {
            let reason = crate::http::json_string(why);
            (StatusCode::SERVICE_UNAVAILABLE, format!("{{\"health\":\"false\",\"reason\":{reason}}}\n"))
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    };
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::serve::Serves;

    async fn said(path: &str, content_type: &str) -> (u16, String, String) {
        let request = Request::builder().uri(path).header(header::CONTENT_TYPE, content_type);
        let request = request.version(http::Version::HTTP_2).body(()).unwrap();
        let response = answer(&request, "no PD \"yet\"");
        let status = response.status().as_u16();
        let code = response.headers().get("grpc-status").map_or("", |code| code.to_str().unwrap()).to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn it_lives_and_is_not_ready_and_says_why() {
        assert_eq!(said("/livez", "").await, (200, String::new(), "ok\n".into()));
        let (status, _, text) = said("/readyz", "").await;
        assert!(status == 503 && text.contains("no PD"), "{text}");
        let (status, _, text) = said("/health", "").await;
        assert!(status == 503 && text.contains(r#""reason":"no PD \"yet\"""#), "{text}");
        let (status, code, _) = said("/etcdserverpb.KV/Range", "application/grpc").await;
        assert_eq!((status, code.as_str()), (200, "14"), "Unavailable");
    }

    #[tokio::test]
    async fn it_ends_with_the_work() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener { socket: socket.into(), tls: None, serves: Serves::Everything };
        let work = async {
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            let request = Request::builder().uri("/livez").header("host", "x").body(Full::<Bytes>::default());
            let (response, _) = tokio::join!(
                async {
                    let response = sender.send_request(request.unwrap()).await.unwrap();
                    drop(sender);
                    response
                },
                connection
            );
            response.status()
        };
        assert_eq!(while_waiting(&[&listener], "wait", work).await, StatusCode::OK);
    }
}
