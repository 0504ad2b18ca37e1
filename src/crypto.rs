//! Sealing secrets at rest, the master key that seals them, and the random tokens we issue. No secret leaves this module
//! except as `Secret` or sealed; a sealed value opens only in the row it was sealed for, because table, row and tenant
//! are authenticated with it.

mod data_key;
pub mod dpop;
pub mod jwk;
pub mod signing;
mod token;

pub use data_key::is_of_tenant;
pub use token::{KEY_PREFIX, TokenKind, hash_token, is_api_key, is_token, masked, new_api_key, new_secret, new_token};

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::id::TenantId;

/// Why a key or a sealed value cannot be used. No text holds any part of a secret.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// The master key's text is no key.
    #[error(
        "the master key must be 32 random bytes in base64 (44 characters) or hex (64 characters); make one with `openssl rand -base64 32`"
    )]
    KeyFormat,
    /// The master key can be guessed.
    #[error(
        "the master key is not random (a text, a repetition or a sequence); make one with `openssl rand -base64 32`"
    )]
    WeakKey,
    /// Others may read the key file.
    #[error("the key file {path} may be read by others (mode {mode:03o}); run `chmod 600 {path}`")]
    Exposed {
        /// Which file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file cannot be read or made.
    #[error("cannot use the key file {path}: {cause}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// The value was sealed under another master key.
    #[error(
        "the value was sealed under another master key (id {found}, this is {ours}); start with the key it was sealed with"
    )]
    OtherKey {
        /// Id of the key it was sealed under.
        found: String,
        /// Id of the key in use.
        ours: String,
    },
    /// The value was sealed under a tenant's key that this process has not read.
    #[error("the key of the tenant that the value was sealed under is not known here")]
    NoTenantKey,
    /// The sealed value was changed, cut, or moved from another row.
    #[error("a sealed value is damaged or was moved from another row")]
    Damaged,
}

/// The 32 bytes that seal everything else. Wiped when dropped, masked when printed.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

impl MasterKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self(Zeroizing::new(random_bytes()))
    }

    /// Reads base64 (standard or URL-safe, padded or not) or hex of exactly 32 bytes; refuses what is plainly not random.
    pub fn from_text(text: &str) -> Result<Self, CryptoError> {
        let bytes = Zeroizing::new(decode_key(text.trim()).ok_or(CryptoError::KeyFormat)?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| CryptoError::KeyFormat)?;
        let key = Zeroizing::new(key);
        if is_weak(&*key) { Err(CryptoError::WeakKey) } else { Ok(Self(key)) }
    }

    /// Reads the key file at `path`, or makes it (mode 0600, whole or not at all). Refuses a file that its group or
    /// others may read, and a key that is short or not random.
    pub fn load_or_create(path: &Path) -> Result<Self, CryptoError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let key = Self::generate();
        let failed = |cause| CryptoError::File { path: path.display().to_string(), cause };
        match key.write_new(path) {
            Ok(()) => Ok(key),
            // Another process was first: its key counts.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Self::load(path)?.ok_or_else(|| failed(error))
            }
            Err(cause) => Err(failed(cause)),
        }
    }

    /// Reads the key file at `path` as [`Self::load_or_create`] does; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, CryptoError> {
        let failed = |cause| CryptoError::File { path: path.display().to_string(), cause };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(failed(std::io::Error::other("not a regular file")));
        }
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CryptoError::Exposed { path: path.display().to_string(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        // Whoever names a log file as key file should not wait for it to be read.
        file.take(1024).read_to_string(&mut text).map_err(failed)?;
        Self::from_text(&text).map(Some)
    }

    fn write_new(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let draft = path.with_extension(format!("{}.draft", uuid::Uuid::now_v7().simple()));
        let result = (|| {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            let text = Zeroizing::new(lenient().encode(self.0.as_slice()) + "\n");
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            // A link, not a rename: it fails when the file exists.
            std::fs::hard_link(&draft, path)
        })();
        let _ = std::fs::remove_file(&draft);
        result
    }

    fn id(&self) -> [u8; 4] {
        let digest =
            Sha256::new().chain_update(b"mcp-gateway master key id\0").chain_update(self.0.as_slice()).finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

/// Where a sealed value lives; it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Table and column, `servers.secrets`.
    pub table: &'a str,
    /// Id of the row.
    pub row: &'a str,
    /// Whose row it is.
    pub tenant: &'a TenantId,
}

/// First byte of a value that was sealed under the master key.
const FORMAT: u8 = 1;
/// The same of one that was sealed under a tenant's key.
const OF_TENANT: u8 = 2;
/// Bytes at the beginning of a sealed value that tell its format and the key it was sealed under.
pub const MARK: usize = 1 + 4;
/// Mark and nonce.
const HEAD: usize = MARK + 24;

/// Seals and opens values with XChaCha20-Poly1305. Cheap to share by reference; no secret is printed.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    key_id: [u8; 4],
    /// First byte of what it seals.
    format: u8,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer(key {})", hex(&self.key_id))
    }
}

impl Sealer {
    /// Seals under `key`.
    pub fn new(key: &MasterKey) -> Self {
        Self { cipher: XChaCha20Poly1305::new((&*key.0).into()), key_id: key.id(), format: FORMAT }
    }

    /// Seals `plain` for `place`: format, key id, nonce, then text and tag.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let nonce: [u8; 24] = random_bytes();
        let mut sealed = Vec::with_capacity(HEAD + plain.len() + 16);
        sealed.push(self.format);
        sealed.extend_from_slice(&self.key_id);
        sealed.extend_from_slice(&nonce);
        let payload = Payload { msg: plain, aad: &self.context(place) };
        // Fails only for texts of more than 256 GB.
        let text = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| CryptoError::Damaged)?;
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens what was sealed for the same `place` under the same key.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        self.check_key(sealed)?;
        let (head, text) = sealed.split_at_checked(HEAD).ok_or(CryptoError::Damaged)?;
        let nonce = <[u8; 24]>::try_from(&head[5..]).map_err(|_| CryptoError::Damaged)?;
        let payload = Payload { msg: text, aad: &self.context(place) };
        let plain = self.cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| CryptoError::Damaged)?;
        Ok(Zeroizing::new(plain))
    }

    /// Refuses what was sealed under another key, by its first [`MARK`] bytes.
    pub fn check_key(&self, sealed: &[u8]) -> Result<(), CryptoError> {
        let mark = sealed.get(..MARK).filter(|mark| mark[0] == self.format).ok_or(CryptoError::Damaged)?;
        if mark[1..] == self.key_id {
            return Ok(());
        }
        Err(CryptoError::OtherKey { found: hex(&mark[1..]), ours: hex(&self.key_id) })
    }

    /// What is authenticated besides the text. Each part carries its length, so that no two places give one context.
    fn context(&self, place: Place<'_>) -> Vec<u8> {
        let mut context = vec![self.format];
        context.extend_from_slice(&self.key_id);
        for part in [place.table, place.row, place.tenant.as_str()] {
            context.extend_from_slice(&(part.len() as u64).to_be_bytes());
            context.extend_from_slice(part.as_bytes());
        }
        context
    }
}

/// Bytes of the operating system's generator, by way of a generator that it seeds.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes);
    bytes
}

/// Whether a key was plainly not made at random: text, few different bytes, a repetition, a sequence. A random key of 32
/// bytes is refused with a probability below 10^-9.
fn is_weak(key: &[u8]) -> bool {
    key.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') || looks_made_up(key, 16)
}

/// Whether a text of random characters holds too little variety to be one: fewer than `least` different bytes, few
/// different steps from one to the next, or pairs that repeat.
pub(crate) fn looks_made_up(text: &[u8], least: usize) -> bool {
    let distinct = |mut values: Vec<u16>| {
        values.sort_unstable();
        values.dedup();
        values.len()
    };
    let pairs = || text.windows(2);
    distinct(text.iter().map(|byte| u16::from(*byte)).collect()) < least
        || distinct(pairs().map(|pair| u16::from(pair[1].wrapping_sub(pair[0]))).collect()) < least.min(text.len() / 3)
        || distinct(pairs().map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()) < text.len() * 5 / 8
}

fn lenient() -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, config)
}

fn decode_key(text: &str) -> Option<Vec<u8>> {
    if text.len() == 64 && text.is_ascii() {
        return (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect();
    }
    let standard = Zeroizing::new(text.replace('-', "+").replace('_', "/"));
    lenient().decode(standard.as_bytes()).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(row: &'a str, tenant: &'a TenantId) -> Place<'a> {
        Place { table: "servers.secrets", row, tenant }
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_was_sealed() {
        let (ours, other) = (TenantId::default_tenant(), TenantId::parse("acme").unwrap());
        let key = MasterKey::generate();
        let sealer = Sealer::new(&key);
        let sealed = sealer.seal(place("a", &ours), b"Bearer s3cret").unwrap();

        assert_eq!(sealer.open(place("a", &ours), &sealed).unwrap().as_slice(), b"Bearer s3cret");
        assert!(matches!(sealer.open(place("b", &ours), &sealed), Err(CryptoError::Damaged)));
        assert!(matches!(sealer.open(place("a", &other), &sealed), Err(CryptoError::Damaged)));
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(sealer.open(place("a", &ours), &bent).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(sealer.open(place("a", &ours), &sealed[..length]).is_err(), "{length} bytes");
        }
        let stranger = Sealer::new(&MasterKey::generate());
        assert!(matches!(stranger.open(place("a", &ours), &sealed), Err(CryptoError::OtherKey { .. })));
        assert_ne!(sealed, sealer.seal(place("a", &ours), b"Bearer s3cret").unwrap(), "a nonce is used once");
    }

    #[test]
    fn a_master_key_is_32_random_bytes_or_refused() {
        for _ in 0..2_000 {
            let key = MasterKey::generate();
            assert!(!is_weak(&*key.0));
            let text = lenient().encode(key.0.as_slice());
            assert_eq!(MasterKey::from_text(&text).unwrap().id(), key.id());
            assert_eq!(MasterKey::from_text(text.trim_end_matches('=')).unwrap().id(), key.id());
            assert_eq!(MasterKey::from_text(&hex(&*key.0)).unwrap().id(), key.id());
        }
        let counting: Vec<u8> = (0..32).collect();
        let doubled: Vec<u8> = [random_bytes::<16>(), [0; 16]].concat();
        let repeated = random_bytes::<8>().repeat(4);
        for weak in [&[0; 32][..], &counting, &doubled, &repeated, b"correct horse battery staple 12!"] {
            assert!(matches!(MasterKey::from_text(&lenient().encode(weak)), Err(CryptoError::WeakKey)), "{weak:?}");
        }
        for wrong in ["", "hunter2", &lenient().encode([7; 31]), &"g".repeat(64)] {
            assert!(matches!(MasterKey::from_text(wrong), Err(CryptoError::KeyFormat)), "{wrong}");
        }
    }

    #[test]
    fn the_key_file_is_made_once_and_refused_when_others_may_read_it() {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-key-{}", uuid::Uuid::now_v7()));
        let path = folder.join("master.key");
        let made = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::load_or_create(&path).unwrap().id(), made.id());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no draft stays");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = MasterKey::load_or_create(&path).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(MasterKey::load_or_create(&path), Err(CryptoError::KeyFormat)));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
