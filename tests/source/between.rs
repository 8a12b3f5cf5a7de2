//! What can stand between a client and its server: a slow line, and somebody in the middle.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use penstock::tls::{TlsMode, TlsOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A line that delivers the server's bytes in pieces of 1 to 13. Returns its port.
pub async fn slow_line(server_port: u16) -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
            client.set_nodelay(true).unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
                    let mut rest = &bytes[..length];
                    let mut size = 1;
                    while !rest.is_empty() {
                        let (piece, tail) = rest.split_at(size.min(rest.len()));
                        if to_client.write_all(piece).await.is_err() {
                            return;
                        }
                        tokio::task::yield_now().await;
                        rest = tail;
                        size = size % 13 + 1;
                    }
                }
            });
        }
    });
    port
}

/// Somebody who has got hold of a certificate that the client trusts, and hands everything on to the real server.
pub async fn man_in_the_middle(server_port: u16, certificate: &Path, key: &Path) -> u16 {
    let acceptor = acceptor(certificate, key);
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        client.read_exact(&mut [0; 8]).await.unwrap();
        client.write_all(b"S").await.unwrap();
        let mut client = acceptor.accept(client).await.unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
        server.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'S');
        let anything = TlsOptions::default();
        let mut server = anything.handshake(server, "localhost", TlsMode::Require).await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
    });
    port
}

/// A server that answers what it is told to each connection, after having read `expects` bytes, and then holds its
/// breath.
pub async fn scripted(expects: usize, answer: &'static [u8]) -> u16 {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut client, _)) = listener.accept().await {
            if client.read_exact(&mut vec![0; expects]).await.is_ok() {
                let _ = client.write_all(answer).await;
                held.push(client);
            }
        }
    });
    port
}

/// A TLS server with one certificate, for handshakes only.
pub async fn tls_server(certificate: &Path, key: &Path) -> SocketAddr {
    let acceptor = acceptor(certificate, key);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let _ = acceptor.accept(client).await;
        }
    });
    address
}

fn acceptor(certificate: &Path, key: &Path) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}
