use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::TestClient;

pub type TlsClient = TestClient<StreamOwned<ClientConnection, TcpStream>>;

/// Connects a client that trusts only this certificate, and presents its own if it has one.
pub fn tls(address: SocketAddr, trusted: &Path, own: Option<&(PathBuf, PathBuf)>) -> TlsClient {
    tls_over(TcpStream::connect(address).unwrap(), trusted, own)
}

/// Does the same over an existing connection.
pub fn tls_over(stream: TcpStream, trusted: &Path, own: Option<&(PathBuf, PathBuf)>) -> TlsClient {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let cert = CertificateDer::from_pem_file(cert).unwrap();
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    TestClient::over(StreamOwned::new(connection, stream))
}
