//! A reverse proxy before a registry: it terminates TLS and asks who is there.
//!
//! Apicurio has no user of its own: who is to prove who they are before it, does so to an identity
//! server or to a proxy such as this one.

use std::{convert::Infallible, net::TcpListener, sync::Arc};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

use super::{Authority, Certified};

/// Who comes in with what; who reads may not change anything.
#[derive(Clone, Copy)]
pub struct Credentials {
    pub all: &'static str,
    pub reading: &'static str,
}

/// What the gate asks for.
pub enum Asks<'a> {
    /// One of these in the header `Authorization`.
    For(Credentials),
    /// A client's certificate that this authority has signed.
    Certificate(&'a Authority),
}

/// Opens a gate to the registry at `target`, until the test's process ends; gives its address.
pub fn open(target: &str, server: &Certified, asks: &Asks<'_>) -> String {
    let acceptor = TlsAcceptor::from(Arc::new(tls(server, asks)));
    let credentials = match asks {
        Asks::For(credentials) => Some(*credentials),
        Asks::Certificate(_) => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let target = target.to_owned();
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                let stream = match acceptor.accept(stream).into_fallible().await {
                    Ok(stream) => stream,
                    Err((_, stream)) => return turn_away(stream).await,
                };
                let answer = service_fn(|request| answer(request, &target, credentials));
                _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    };
    std::thread::spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(serve));
    address
}

/// Says goodbye, and listens until the other side has heard it: closed with something of it unread,
/// a connection is reset, and the alert that says why is lost.
async fn turn_away(mut stream: TcpStream) {
    // the other side may be gone
    _ = stream.shutdown().await;
    let mut unread = [0; 1_024];
    while let Ok(1..) = stream.read(&mut unread).await {}
}

fn tls(server: &Certified, asks: &Asks<'_>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let builder = match asks {
        Asks::For(_) => builder.with_no_client_auth(),
        Asks::Certificate(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate(authority.pem())).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(
                roots.into(),
                default_provider().into(),
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    builder.with_single_cert(vec![certificate(&server.certificate)], key).unwrap()
}

async fn answer(
    request: Request<Incoming>,
    target: &str,
    credentials: Option<Credentials>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let given = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap());
    let refusal = match credentials {
        None => None,
        Some(Credentials { all, .. }) if given == Some(all) => None,
        Some(Credentials { reading, .. }) if given == Some(reading) => {
            (request.method() != "GET").then_some(StatusCode::FORBIDDEN)
        }
        Some(_) => Some(StatusCode::UNAUTHORIZED),
    };
    let mut response = match refusal {
        Some(status) => {
            let mut response = Response::new(Full::from("said by the gate"));
            *response.status_mut() = status;
            response
        }
        None => pass_on(request, target).await,
    };
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    Ok(response)
}

async fn pass_on(request: Request<Incoming>, target: &str) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().unwrap();
    let mut forwarded = reqwest::Client::new().request(head.method, format!("{target}{path}"));
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        forwarded = forwarded.header(CONTENT_TYPE, kind);
    }
    let body = body.collect().await.unwrap().to_bytes();
    let answer = forwarded.body(body).send().await.unwrap();
    let status = answer.status();
    let mut response = Response::new(Full::from(answer.bytes().await.unwrap()));
    *response.status_mut() = status;
    response
}
