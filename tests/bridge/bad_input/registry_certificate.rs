//! A registry behind TLS: trusted by the roots that are named, refused by name without them.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use penstock_testbed::postgres::Certificates;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{TABLE, delivered, insert};
use crate::scene::{PATIENCE, Scene, expect_last_words, world};
use crate::world::{World, wait};

/// Ends TLS in front of a registry, with a certificate for `localhost` alone. Ends when dropped.
struct Front {
    port: u16,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    fn start(certificates: &Certificates, registry: u16) -> Self {
        let acceptor = acceptor(certificates);
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let port = listener.local_addr().expect("its address").port();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = ended => {}
                    () = serve(listener, acceptor, registry) => {}
                }
            });
        });
        Self { port, end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(listener: std::net::TcpListener, acceptor: TlsAcceptor, registry: u16) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that turns away is what half of these tests are about.
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let mut registry = TcpStream::connect(("127.0.0.1", registry)).await.expect("the registry");
            let _ = tokio::io::copy_bidirectional(&mut client, &mut registry).await;
        });
    }
}

fn acceptor(certificates: &Certificates) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(&certificates.certificate).expect("the certificate");
    let key = PrivateKeyDer::from_pem_file(&certificates.key).expect("its key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate and its key");
    TlsAcceptor::from(Arc::new(config))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// Where the registry of the world listens: port, and the path of its API.
fn registry(world: &World) -> (u16, String) {
    let rest = world.registry_url.strip_prefix("http://127.0.0.1:").expect("a loopback URL");
    let (port, path) = rest.split_once('/').expect("a path");
    (port.parse().expect("a port"), path.to_owned())
}

#[test]
fn a_registry_is_trusted_by_the_roots_that_are_named_and_refused_by_any_other() {
    let folder = TempDir::new().expect("a folder");
    let certificates = Certificates::generate(folder.path(), &["localhost".to_owned()]).expect("certificates");
    let mut world = world(TABLE, "");
    let (port, path) = registry(&world);
    let front = Front::start(&certificates, port);
    let url = |host: &str| format!("https://{host}:{}/{path}", front.port);

    // The system's roots have not signed it.
    world.set("REGISTRY__URL", &url("localhost"));
    let untrusted = ["certificate of the registry", "not trusted", "registry.ca_certificate"];
    expect_last_words(&mut world.run(), 1, &untrusted);
    let mut check = world.spawn("check", &[], &world.database);
    assert_eq!(check.wait(PATIENCE).code(), Some(1));
    let said = check.log();
    assert!(said.contains("STOP   registry: ") && untrusted.iter().all(|words| said.contains(words)), "{said}");
    // Nor has another authority.
    world.set("REGISTRY__CA_CERTIFICATE", text(&certificates.foreign_authority));
    expect_last_words(&mut world.run(), 1, &untrusted);
    // Nor is it for another name.
    world.set("REGISTRY__CA_CERTIFICATE", text(&certificates.authority)).set("REGISTRY__URL", &url("127.0.0.1"));
    expect_last_words(&mut world.run(), 1, &["not trusted", "registry.url", "subject alternative names"]);

    // One of several in a file is enough.
    let both = folder.path().join("both.pem");
    let pem = |path: &Path| std::fs::read_to_string(path).expect("a certificate");
    std::fs::write(&both, pem(&certificates.foreign_authority) + &pem(&certificates.authority)).expect("write");
    world.set("REGISTRY__CA_CERTIFICATE", text(&both)).set("REGISTRY__URL", &url("localhost"));
    let mut scene = Scene::of(world);
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    scene.stop();
}

#[test]
fn a_file_of_roots_that_is_none_stops_the_start_with_its_name() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("ca.pem");
    let mut world = world(TABLE, "");
    world.set("REGISTRY__CA_CERTIFICATE", text(&file));
    expect_last_words(&mut world.run(), 1, &["registry.ca_certificate: cannot read", text(&file), "no such file"]);
    std::fs::write(&file, "none").expect("write");
    expect_last_words(&mut world.run(), 1, &["registry.ca_certificate: ", text(&file), "no usable certificate"]);
}

/// What is not about the certificate may pass: a balancer that is being set up, for instance.
#[test]
fn a_registry_that_answers_without_tls_is_waited_for_with_the_reason() {
    let mut world = world(TABLE, "");
    let (port, path) = registry(&world);
    world.set("REGISTRY__URL", &format!("https://localhost:{port}/{path}"));
    let mut bridge = world.run();
    wait("the bridge to say what it waits for", PATIENCE, || {
        let not_ready = bridge.get("/readyz").unwrap_or_default();
        not_ready.starts_with("HTTP/1.1 503")
            && not_ready.contains("registry: ")
            && not_ready.contains("corrupt message")
    })
    .unwrap_or_else(|late| panic!("{late}: {:?}\n{}", bridge.get("/readyz"), bridge.log()));
    assert!(bridge.ended().is_none());
    assert!(bridge.stop().success());
}
