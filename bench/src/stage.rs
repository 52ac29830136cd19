//! What a run needs around the systems: a directory that goes away with it, data,
//! certificates, ports, and where programs are found.

use std::cell::Cell;
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

/// The name in every certificate.
pub const HOST: &str = "localhost";

/// The sizes of the files of 2013, in bytes.
pub const FILE_SIZES: [usize; 5] = [12, 2_216, 4_879, 30_192, 786_432];

/// Bodies repeat one block of so many random bytes: nobody can compress them, and
/// whoever checks them needs no second copy.
const BLOCK: usize = 1 << 20;

/// Below where the kernel takes ports for outgoing connections from (ip_local_port_range).
const PORTS: std::ops::Range<u16> = 21_000..32_000;

/// The surroundings of a run; removed when dropped.
pub struct Stage {
    directory: TempDir,
    block: &'static [u8],
    next_port: Cell<u16>,
    folders: Cell<u32>,
    p256: Certificate,
    rsa: Certificate,
    programs: Programs,
}

/// Programs that are ours.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `tidegate-agent`.
    pub agent: PathBuf,
    /// The folder of the Node.js apps.
    pub apps: PathBuf,
}

/// Which kind of key a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    /// ECDSA on P-256.
    P256,
    /// RSA of 2,048 bits.
    Rsa2048,
}

/// A certificate and its key, as files for every system's taste.
pub struct Certificate {
    /// The leaf, PEM.
    pub chain: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Key and leaf in one file, as HAProxy and hitch want it.
    pub both: PathBuf,
    /// The leaf as clients see it.
    pub leaf: CertificateDer<'static>,
}

impl Stage {
    /// Makes the directory with data and certificates.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn new(programs: Programs) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tidegate-bench-")
            .tempdir()?;
        // Some systems read it as another user. Nothing in it is worth a secret: the
        // keys are trusted by nobody and end with the run.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let block = random_block()?;
        let files = directory.path().join("files");
        fs::create_dir(&files)?;
        for size in FILE_SIZES {
            fs::write(
                files.join(size.to_string()),
                block.get(..size).unwrap_or(block),
            )?;
        }
        let authority = Authority::new()?;
        let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        Ok(Self {
            p256: authority.issue(&p256, directory.path(), "p256")?,
            rsa: authority.issue(&rsa, directory.path(), "rsa")?,
            directory,
            block,
            next_port: Cell::new(first_port()),
            folders: Cell::new(0),
            programs,
        })
    }

    /// A new folder, for a program to keep what it needs.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let number = self.folders.get();
        self.folders.set(number + 1);
        let folder = self.directory.path().join(format!("{number}-{name}"));
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// The folder with a file of each of [`FILE_SIZES`], named by its size.
    pub fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    /// What bodies are made of.
    pub fn block(&self) -> &'static [u8] {
        self.block
    }

    /// The certificate with a key of that kind.
    pub fn certificate(&self, kind: CertificateKind) -> &Certificate {
        match kind {
            CertificateKind::P256 => &self.p256,
            CertificateKind::Rsa2048 => &self.rsa,
        }
    }

    /// Programs that are ours.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A loopback address that nobody listens at, another one each time as long as
    /// there are any: what is left of old connections must not be in the way.
    ///
    /// # Errors
    /// When no port is free.
    pub fn free_address(&self) -> io::Result<SocketAddr> {
        for _ in PORTS {
            let port = self.next_port.get();
            let next = if port + 1 == PORTS.end {
                PORTS.start
            } else {
                port + 1
            };
            self.next_port.set(next);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "no port is free on 127.0.0.1",
        ))
    }
}

/// Far from that of a run that started just before: between finding a port free and
/// listening there, another run must not find the same one.
fn first_port() -> u16 {
    const APART: u16 = 50;
    let places = (PORTS.end - PORTS.start) / APART;
    let place = std::process::id() % u32::from(places);
    PORTS.start + u16::try_from(place).unwrap_or(0) * APART
}

/// Random bytes that live as long as the process, since load threads read them.
fn random_block() -> io::Result<&'static [u8]> {
    let mut block = vec![0; BLOCK];
    fs::File::open("/dev/urandom")?.read_exact(&mut block)?;
    Ok(Vec::leak(block))
}

struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Tidegate comparison");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self(Issuer::new(params, key)))
    }

    fn issue(&self, key: &KeyPair, directory: &Path, name: &str) -> anyhow::Result<Certificate> {
        let mut params = CertificateParams::new(vec![HOST.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, HOST);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(key, &self.0)?;
        let file = |suffix: &str| directory.join(format!("{name}{suffix}"));
        let made = Certificate {
            chain: file(".pem"),
            key: file(".key"),
            both: file("-both.pem"),
            leaf: certificate.der().clone(),
        };
        fs::write(&made.chain, certificate.pem())?;
        fs::write(&made.key, key.serialize_pem())?;
        fs::write(
            &made.both,
            format!("{}{}", key.serialize_pem(), certificate.pem()),
        )?;
        Ok(made)
    }
}

/// Where a program is: on the path, or where Debian keeps servers, which is not on
/// everybody's path.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
