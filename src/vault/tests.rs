use super::*;
use crate::crypto::MasterKey;

struct House {
    folder: std::path::PathBuf,
    store: Store,
    tenant: TenantId,
}

impl House {
    async fn open() -> Self {
        let folder = std::env::temp_dir().join(format!("mcp-gateway-vault-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let address = format!("sqlite://{}", folder.join("gateway.db").display());
        let store = Store::connect(&address, 1).await.unwrap();
        Self { folder, store, tenant: TenantId::default_tenant() }
    }

    fn place(&self) -> Place<'_> {
        Place { table: "t", row: "r", tenant: &self.tenant, subject: None }
    }

    async fn close(self) {
        self.store.close().await;
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[tokio::test]
async fn a_key_that_comes_while_keys_are_read_stays_and_nothing_is_sealed_under_another() {
    let house = House::open().await;
    let (store, tenant, place) = (&house.store, &house.tenant, house.place());
    let vault = Vault::new(store.clone(), Sealer::new(&MasterKey::generate()));
    assert!(matches!(vault.seal_at_once(place, b"x"), Err(CryptoError::NoTenantKey)), "never under the master key");

    let (known, stored) = (vault.0.known.load_full(), store.data_keys(None).await.unwrap());
    vault.prepare(tenant).await.unwrap();
    vault.take(&known, &stored).unwrap();
    let sealed = vault.seal_at_once(place, b"x").unwrap();
    assert!(is_of_tenant(&sealed));

    // Of a key that was read before it was replaced, the replaced one is not taken over again.
    let (known, stored) = (Arc::default(), store.data_keys(None).await.unwrap());
    assert_eq!(vault.rotate(std::slice::from_ref(tenant), crate::store::now()).await.unwrap(), 1);
    let newest = vault.seal_at_once(place, b"x").unwrap();
    vault.take(&known, &stored).unwrap();
    assert_eq!(SealKeyId::of(&vault.seal_at_once(place, b"x").unwrap()), SealKeyId::of(&newest));

    // The keys of a tenant that is gone go, too.
    let known = vault.0.known.load_full();
    vault.take(&known, &[]).unwrap();
    assert!(matches!(vault.open_at_once(place, &sealed), Err(CryptoError::NoTenantKey)));
    *vault.0.read.lock().unwrap() = None;
    vault.load().await.unwrap();
    assert_eq!(**vault.open_at_once(place, &sealed).unwrap(), *b"x");
    house.close().await;
}

#[tokio::test]
async fn another_process_seals_under_a_new_key_and_this_one_opens_it_and_follows() {
    let house = House::open().await;
    let (tenant, place) = (&house.tenant, house.place());
    let master = Sealer::new(&MasterKey::generate());
    let [here, there] = [(); 2].map(|()| Vault::new(house.store.clone(), master.clone()));
    let old = here.seal(place, b"old").await.unwrap();
    there.load().await.unwrap();
    assert_eq!(there.rotate(std::slice::from_ref(tenant), crate::store::now()).await.unwrap(), 1);
    let new = there.seal_at_once(place, b"new").unwrap();
    assert_ne!(SealKeyId::of(&old), SealKeyId::of(&new));

    assert!(!here.is_ready(tenant, Some(&new)) && here.is_ready(tenant, Some(&old)));
    assert!(matches!(here.open_at_once(place, &new), Err(CryptoError::OtherKey { .. })));
    assert_eq!(**here.open(place, &new).await.unwrap(), *b"new");
    assert!(here.is_ready(tenant, Some(&new)));
    for sealed in [here.seal_at_once(place, b"x").unwrap(), here.seal(place, b"x").await.unwrap()] {
        assert_eq!(SealKeyId::of(&sealed), SealKeyId::of(&new));
    }
    for vault in [&here, &there] {
        assert_eq!(**vault.open(place, &old).await.unwrap(), *b"old");
    }
    assert_eq!(
        there.rotate(&[TenantId::parse("acme").unwrap()], crate::store::now()).await.unwrap(),
        0,
        "no key, none to replace"
    );
    house.close().await;
}

#[tokio::test]
async fn a_tenant_has_at_most_so_many_keys() {
    let house = House::open().await;
    let vault = Vault::new(house.store.clone(), Sealer::new(&MasterKey::generate()));
    vault.prepare(&house.tenant).await.unwrap();
    // By a process whose clock is behind.
    let time = crate::store::now() - Duration::from_hours(1);
    for made in (2..=MOST_KEYS).map(|_| 1).chain([0]) {
        assert_eq!(vault.rotate(std::slice::from_ref(&house.tenant), time).await.unwrap(), made);
    }
    let keys = vault.keys_of(&house.tenant);
    assert_eq!(keys.len(), MOST_KEYS);
    assert!(keys.is_sorted_by(|(newer, _), (older, _)| newer.created_at > older.created_at), "{keys:?}");
    house.close().await;
}
