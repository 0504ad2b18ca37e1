//! Sealing secrets at rest, the master key that seals them, and the random tokens we issue. No secret leaves this module
//! except as `Secret` or sealed; a sealed value opens only in the row it was sealed for, because table, row, tenant and account
//! are authenticated with it.

mod data_key;
pub mod dpop;
mod ids;
pub mod jwk;
mod runs;
mod sealer;
pub mod signing;
pub mod stamp;
mod token;

pub use data_key::DataKey;
pub use ids::Ids;
pub use runs::{is_long_run, without_runs};
pub use sealer::{FROM_NEWEST, FROM_TENANTS, MARK, Place, SealKeyId, Sealer, is_of_tenant};
pub use token::{KEY_PREFIX, TokenKind, hash_token, is_api_key, is_token, masked, new_api_key, new_secret, new_token};

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

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
        "the value was sealed under another master key (id {found}, this is {ours}); start with the key it was sealed with, or give \
         that as the previous one"
    )]
    OtherKey {
        /// The key it was sealed under.
        found: SealKeyId,
        /// The key in use.
        ours: SealKeyId,
    },
    /// The value was sealed under a tenant's key that this process has not read.
    #[error("the key of the tenant that the value was sealed under is not known here")]
    NoTenantKey,
    /// The sealed value was changed, cut, or moved from another row.
    #[error("a sealed value is damaged or was moved from another row")]
    Damaged,
}

/// Most previous master keys at a time.
pub const MOST_PREVIOUS: usize = 8;
/// What is read of a key file: that many keys, and some space.
pub const LONGEST_FILE: u64 = 1024;

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
        let bytes = decode_key(text.trim()).ok_or(CryptoError::KeyFormat)?;
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| CryptoError::KeyFormat)?;
        let key = Zeroizing::new(key);
        if is_weak(&*key) { Err(CryptoError::WeakKey) } else { Ok(Self(key)) }
    }

    /// The same of bytes, which must be text.
    pub fn from_bytes(text: &[u8]) -> Result<Self, CryptoError> {
        Self::from_text(std::str::from_utf8(text).map_err(|_| CryptoError::KeyFormat)?)
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

    /// Reads up to [`MOST_PREVIOUS`] such keys with commas or white space between them.
    pub fn list(text: &str) -> Result<Vec<Self>, CryptoError> {
        let words: Vec<&str> =
            text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
        if words.is_empty() || words.len() > MOST_PREVIOUS {
            return Err(CryptoError::KeyFormat);
        }
        words.into_iter().map(Self::from_text).collect()
    }

    /// The same of bytes, which must be text.
    pub fn list_of_bytes(text: &[u8]) -> Result<Vec<Self>, CryptoError> {
        Self::list(std::str::from_utf8(text).map_err(|_| CryptoError::KeyFormat)?)
    }

    /// Reads the key file at `path` as [`Self::load_or_create`] does; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, CryptoError> {
        read_file(path)?.map(|text| Self::from_bytes(&text)).transpose()
    }

    /// Reads a file of such keys as [`Self::list`] does, under the same conditions.
    pub fn load_list(path: &Path) -> Result<Vec<Self>, CryptoError> {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let failed = |cause| CryptoError::File { path: path.display().to_string(), cause };
        Self::list_of_bytes(&read_file(path)?.ok_or_else(|| failed(missing()))?)
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

    /// What names it in what it seals.
    pub fn id(&self) -> SealKeyId {
        let digest =
            Sha256::new().chain_update(b"mcp-gateway master key id\0").chain_update(self.0.as_slice()).finalize();
        SealKeyId([digest[0], digest[1], digest[2], digest[3]])
    }
}

/// What a key file holds; `None` when there is none. Refuses one that its group or others may read.
fn read_file(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CryptoError> {
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
    let mut text = room_for_keys();
    // Whoever names a log file as key file should not wait for it to be read.
    file.take(LONGEST_FILE).read_to_end(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Twice [`LONGEST_FILE`], as reading wants some more: what grows leaves parts of keys behind, unwiped.
pub fn room_for_keys() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(2048))
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

/// Nothing in it grows: what is left behind by that is not wiped.
fn decode_key(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() == 64 && text.is_ascii() {
        let mut key = Zeroizing::new(vec![0; 32]);
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        return Some(key);
    }
    let mut standard = Zeroizing::new(text.as_bytes().to_vec());
    for byte in standard.iter_mut() {
        *byte = match *byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
    }
    lenient().decode(&*standard).ok().map(Zeroizing::new)
}

/// Bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let mut digits = Vec::with_capacity(2 * bytes.len());
    append_hexadecimal(bytes, &mut digits);
    String::from_utf8(digits).unwrap_or_default()
}

/// Appends the same.
pub fn append_hexadecimal(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_is_32_random_bytes_or_refused() {
        for _ in 0..2_000 {
            let key = MasterKey::generate();
            assert!(!is_weak(&*key.0));
            let text = lenient().encode(key.0.as_slice());
            assert_eq!(MasterKey::from_text(&text).unwrap().id(), key.id());
            assert_eq!(MasterKey::from_text(text.trim_end_matches('=')).unwrap().id(), key.id());
            assert_eq!(MasterKey::from_text(&hexadecimal(&*key.0)).unwrap().id(), key.id());
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
