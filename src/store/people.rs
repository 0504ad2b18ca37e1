//! Accounts that an identity provider vouches for, by issuer and subject. Such an account is never found by its name.

use uuid::Uuid;

use super::users::{ACTIVE_ADMINS, UserRow, insert_user};
use super::{Store, StoreError};
use crate::id::TenantId;

impl Store {
    /// The account of that issuer and subject, of whichever tenant: there is one at most.
    pub async fn user_of_subject(&self, issuer: &str, subject: &str) -> Result<Option<UserRow>, StoreError> {
        let text = "SELECT * FROM users WHERE issuer = $1 AND subject = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(issuer).bind(subject).fetch_optional(db).await?))
    }

    /// Inserts the account of somebody whom a provider vouches for; `Taken` when the tenant has one of that name, or anybody the same
    /// issuer and subject. If it is lost with the power, so is all that rests on it: the person signs in again.
    pub async fn insert_person(&self, tenant: &TenantId, row: &UserRow) -> Result<(), StoreError> {
        on!(brief change self, tx => { insert_user!(tx, tenant, row); });
        Ok(())
    }

    /// Whether the provider has taken back its word for an account.
    pub async fn has_lapsed(&self, tenant: &TenantId, id: Uuid) -> Result<bool, StoreError> {
        let text = "SELECT COUNT(*) FROM users WHERE tenant_id = $1 AND id = $2 AND lapsed";
        let count: i64 = on!(read self, db => {
            sqlx::query_scalar(text).bind(tenant.as_str()).bind(id).fetch_one(db).await?
        });
        Ok(count > 0)
    }

    /// Notes that the provider takes back its word for an account, or gives it again.
    pub async fn set_lapsed(&self, tenant: &TenantId, id: Uuid, lapsed: bool) -> Result<(), StoreError> {
        let text = "UPDATE users SET lapsed = $1 WHERE tenant_id = $2 AND id = $3 AND issuer IS NOT NULL";
        on!(change self, tx => {
            sqlx::query(text).bind(lapsed).bind(tenant.as_str()).bind(id).execute(&mut *tx).await?;
        });
        Ok(())
    }

    /// Writes role, display name, directory and whether it is a guest there, as a provider gives them; says whether the role was
    /// written. The last who can administer the gateway keeps the role, or nobody could give it to anybody again. `Missing` when
    /// the tenant has no such account of that issuer and subject.
    pub async fn update_person(&self, tenant: &TenantId, row: &UserRow) -> Result<bool, StoreError> {
        let rest = "UPDATE users SET display_name = $1, directory = $2, guest = $3,
            updated_at = CASE WHEN updated_at < $4 THEN $4 ELSE updated_at + 1 END
            WHERE tenant_id = $5 AND id = $6 AND issuer = $7 AND subject = $8";
        let role = "UPDATE users SET role = $1 WHERE tenant_id = $2 AND id = $3";
        let written = on!(change self, tx => {
            let done = sqlx::query(rest)
                .bind(row.display_name.as_deref())
                .bind(row.directory.as_deref())
                .bind(row.guest)
                .bind(row.updated_at)
                .bind(tenant.as_str())
                .bind(row.id)
                .bind(row.issuer.as_deref())
                .bind(row.subject.as_deref())
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::Missing);
            }
            let before: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            let (role, tenant) = (sqlx::query(role), tenant.as_str());
            role.bind(&row.role).bind(tenant).bind(row.id).execute(&mut *tx).await?;
            let after: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            let last = before > 0 && after == 0;
            if last {
                let keep = "UPDATE users SET role = 'admin' WHERE tenant_id = $1 AND id = $2";
                sqlx::query(keep).bind(tenant).bind(row.id).execute(&mut *tx).await?;
            }
            !last
        });
        Ok(written)
    }
}
