//! Seals and opens values with XChaCha20-Poly1305, under a key that may have older ones beside it: a value names the key that it was
//! sealed under and opens as long as that one is there; what is sealed anew is sealed under the newest.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{CryptoError, MasterKey, hexadecimal, random_bytes};
use crate::id::TenantId;

/// Where a sealed value lives; it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Table and column, `servers.secrets`.
    pub table: &'a str,
    /// Id of the row.
    pub row: &'a str,
    /// Whose row it is.
    pub tenant: &'a TenantId,
    /// Of which account, where it is one's.
    pub subject: Option<Uuid>,
}

/// First byte of a value that was sealed under the master key.
pub(super) const OF_MASTER: u8 = 1;
/// The same of one that was sealed under a tenant's key, before these were bound to an account.
const OF_TENANT: u8 = 2;
/// The same of one that is bound to an account besides, or to none.
pub(super) const OF_SUBJECT: u8 = 3;

/// The same of one that is under the key for what only programs keep.
pub(super) const OF_IDS: u8 = 4;

/// As bytes are ordered, a value under the master key comes before this, and none under a tenant's does.
pub const FROM_TENANTS: [u8; 1] = [OF_TENANT];
/// The same of what older versions sealed, under either, and what a tenant's key seals now.
pub const FROM_NEWEST: [u8; 1] = [OF_SUBJECT];

/// Bytes at the beginning of a sealed value that tell its format and the key it was sealed under.
pub const MARK: usize = 1 + 4;
/// Mark and nonce.
const HEAD: usize = MARK + 24;

/// What names a key in what it sealed. It tells nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
#[schemars(with = "String")]
pub struct SealKeyId(pub(super) [u8; 4]);

impl SealKeyId {
    /// The one that a mark, or a sealed value, names.
    pub fn of(sealed: &[u8]) -> Option<Self> {
        sealed.get(1..MARK)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0))
    }
}

impl fmt::Debug for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for SealKeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl SealKeyId {
    /// How what it seals of a tenant may begin, in each format there was.
    pub fn marks_of_tenant(self) -> [[u8; MARK]; 2] {
        let [a, b, c, d] = self.0;
        [OF_TENANT, OF_SUBJECT].map(|format| [format, a, b, c, d])
    }
}

/// Whether a value was sealed under a tenant's key, by its beginning.
pub fn is_of_tenant(sealed: &[u8]) -> bool {
    matches!(sealed.first(), Some(&(OF_TENANT | OF_SUBJECT)))
}

/// One key, ready.
#[derive(Clone)]
pub(super) struct Key {
    id: SealKeyId,
    cipher: XChaCha20Poly1305,
    /// First byte of what it seals.
    format: u8,
}

impl Key {
    pub(super) fn new(key: &MasterKey, format: u8) -> Self {
        Self { id: key.id(), cipher: XChaCha20Poly1305::new((&*key.0).into()), format }
    }

    /// Whether what begins so may be its own.
    fn opens(&self, format: u8) -> bool {
        format == self.format || (self.format, format) == (OF_SUBJECT, OF_TENANT)
    }

    pub(super) fn id(&self) -> SealKeyId {
        self.id
    }
}

/// The keys. Cheap to clone; no secret is printed.
#[derive(Clone)]
pub struct Sealer {
    newest: Key,
    older: Arc<[Key]>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer{:?}", self.key_ids().collect::<Vec<_>>())
    }
}

impl Sealer {
    /// Seals under `key`.
    pub fn new(key: &MasterKey) -> Self {
        Self::with_previous(key, &[])
    }

    /// Seals under `key`, and opens what was sealed under a previous one as well.
    pub fn with_previous(key: &MasterKey, previous: &[MasterKey]) -> Self {
        Self::of_keys(Key::new(key, OF_MASTER), previous.iter().map(|key| Key::new(key, OF_MASTER)))
    }

    pub(super) fn of_keys(newest: Key, older: impl Iterator<Item = Key>) -> Self {
        let older = older.filter(|key| key.id != newest.id).collect();
        Self { newest, older }
    }

    /// These keys, and one that takes their place.
    pub(super) fn behind(&self, newest: Key) -> Self {
        Self::of_keys(newest, std::iter::once(&self.newest).chain(&*self.older).cloned())
    }

    /// The key that it seals under.
    pub fn key_id(&self) -> SealKeyId {
        self.newest.id
    }

    /// Those that it opens with: the one that it seals under, and then the older ones.
    pub fn key_ids(&self) -> impl Iterator<Item = SealKeyId> {
        std::iter::once(&self.newest).chain(&*self.older).map(|key| key.id)
    }

    /// How what it seals begins.
    pub fn mark(&self) -> [u8; MARK] {
        let [a, b, c, d] = self.newest.id.0;
        [self.newest.format, a, b, c, d]
    }

    /// Seals `plain` for `place`: format, key id, nonce, then text and tag.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.seal_as(self.mark(), place, plain)
    }

    fn seal_as(&self, mark: [u8; MARK], place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let nonce: [u8; 24] = random_bytes();
        let mut sealed = Vec::with_capacity(HEAD + plain.len() + 16);
        sealed.extend_from_slice(&mark);
        sealed.extend_from_slice(&nonce);
        let payload = Payload { msg: plain, aad: &context(mark, place) };
        // Fails only for texts of more than 256 GB.
        let text = self.newest.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| CryptoError::Damaged)?;
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens what was sealed for the same `place` under one of the keys.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let key = self.key_of(sealed)?;
        let (head, text) = sealed.split_at_checked(HEAD).ok_or(CryptoError::Damaged)?;
        let (mark, nonce) = head.split_first_chunk::<MARK>().ok_or(CryptoError::Damaged)?;
        let nonce = <[u8; 24]>::try_from(nonce).map_err(|_| CryptoError::Damaged)?;
        let payload = Payload { msg: text, aad: &context(*mark, place) };
        let plain = key.cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| CryptoError::Damaged)?;
        Ok(Zeroizing::new(plain))
    }

    /// Refuses what was sealed under a key that is not there, by its first [`MARK`] bytes.
    pub fn check_key(&self, sealed: &[u8]) -> Result<(), CryptoError> {
        self.key_of(sealed).map(drop)
    }

    fn key_of(&self, sealed: &[u8]) -> Result<&Key, CryptoError> {
        let (format, found) = (sealed.first().copied(), SealKeyId::of(sealed));
        let all = std::iter::once(&self.newest).chain(&*self.older);
        let mut kin = all.filter(|key| format.is_some_and(|format| key.opens(format))).peekable();
        let found = found.filter(|_| kin.peek().is_some()).ok_or(CryptoError::Damaged)?;
        kin.find(|key| key.id == found).ok_or(CryptoError::OtherKey { found, ours: self.newest.id })
    }
}

/// What is authenticated besides the text. Each part carries its length, so that no two places give one context.
fn context(mark: [u8; MARK], place: Place<'_>) -> Vec<u8> {
    let mut context = mark.to_vec();
    let mut add = |part: &[u8]| {
        context.extend_from_slice(&(part.len() as u64).to_be_bytes());
        context.extend_from_slice(part);
    };
    for part in [place.table, place.row, place.tenant.as_str()] {
        add(part.as_bytes());
    }
    if mark[0] == OF_SUBJECT {
        add(place.subject.as_ref().map_or(&[], |subject| subject.as_bytes()));
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(row: &'a str, tenant: &'a TenantId) -> Place<'a> {
        Place { table: "servers.secrets", row, tenant, subject: None }
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
    fn what_a_previous_key_sealed_opens_and_the_newest_seals() {
        let (tenant, [old, older, new]) = (TenantId::default_tenant(), [(); 3].map(|()| MasterKey::generate()));
        let at = place("a", &tenant);
        let values = [&old, &older].map(|key| Sealer::new(key).seal(at, b"x").unwrap());
        let sealer = Sealer::with_previous(&new, &[old.clone(), older, new.clone()]);
        for value in &values {
            sealer.check_key(&value[..MARK]).unwrap();
            assert_eq!(**sealer.open(at, value).unwrap(), *b"x");
            assert_ne!(value[..MARK], sealer.mark());
        }
        let sealed = sealer.seal(at, b"x").unwrap();
        assert!(sealed[..MARK] == sealer.mark() && SealKeyId::of(&sealed) == Some(new.id()));
        assert!(matches!(Sealer::new(&old).open(at, &sealed), Err(CryptoError::OtherKey { .. })));
        assert_eq!(sealer.key_ids().count(), 3, "the newest is not its own predecessor");
    }

    #[test]
    fn what_was_sealed_before_values_were_bound_to_accounts_opens() {
        let tenant = TenantId::default_tenant();
        let own = Sealer::of_keys(Key::new(&MasterKey::generate(), OF_SUBJECT), std::iter::empty());
        let [_, id @ ..] = own.mark();
        let [a, b, c, d] = id;
        let of = |subject| Place { subject, ..place("a", &tenant) };
        let old = own.seal_as([OF_TENANT, a, b, c, d], of(None), b"x").unwrap();
        let someone = Some(Uuid::now_v7());
        assert_eq!(**own.open(of(someone), &old).unwrap(), *b"x");
        assert_ne!(old[..MARK], own.mark(), "it is seen that it is to be sealed anew");
        let mut new = own.seal(of(someone), b"x").unwrap();
        new[0] = OF_TENANT;
        assert!(own.open(of(None), &new).is_err() && own.open(of(someone), &new).is_err(), "there is no way back");
    }
}
